"""Sections as Markdown, and as the folder that the command writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vovnet.files import replacing, write_json
from vovnet.paper.answers import LEGEND
from vovnet.paper.page import write_page
from vovnet.report.document import Section, to_dict, to_markdown


def markdown_page(sections: Sequence[Section], figure_folder: str = "") -> str:
    """figure_folder: path from the page to its figures, with a final slash."""
    parts = [to_markdown(section, figure_folder) for section in sections]
    return "\n".join(["# The paper, reproduced\n", f"{LEGEND}\n", *parts])


def write_figures(sections: Sequence[Section], folder: Path) -> None:
    for figure in (figure for section in sections for figure in section.figures):
        with replacing(folder / figure.name) as temporary:
            temporary.write_bytes(figure.make())


def write_folder(sections: Mapping[str, Section], folder: Path) -> dict[str, Any]:
    """Write reproduction.md, .json and .html and the figures. Returns the content of the JSON."""
    ordered = list(sections.values())
    content = {name: to_dict(section) for name, section in sections.items()}
    write_figures(ordered, folder)
    with replacing(folder / "reproduction.md") as temporary:
        temporary.write_text(markdown_page(ordered), encoding="utf-8")
    write_json(folder / "reproduction.json", content)
    write_page(ordered, folder / "reproduction.html")
    return content
