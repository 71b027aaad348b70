"""Sections as Markdown, as one HTML page, and as the folder that the command writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vovnet.files import write_bytes, write_json, write_text
from vovnet.paper.answers import LEGEND
from vovnet.report import page
from vovnet.report.document import Section, escape_markdown, to_dict, to_markdown


def write_folder(sections: Mapping[str, Section], folder: Path) -> dict[str, Any]:
    """Write reproduction.md, .json and .html and the figures. Returns the content of the JSON."""
    ordered = list(sections.values())
    content = {name: to_dict(section) for name, section in sections.items()}
    write_figures(ordered, folder)
    write_text(folder / "reproduction.md", markdown_page(ordered))
    write_json(folder / "reproduction.json", content)
    write_page(ordered, folder / "reproduction.html")
    return content


def write_figures(sections: Sequence[Section], folder: Path) -> None:
    for figure in (figure for section in sections for figure in section.figures):
        write_bytes(folder / figure.name, figure.content)


def markdown_page(sections: Sequence[Section], figure_folder: str = "") -> str:
    """figure_folder: path from the page to its figures, with a final slash."""
    parts = [to_markdown(section, figure_folder) for section in sections]
    return "\n".join(["# The paper, reproduced\n", f"{LEGEND}\n", *parts])


def write_page(sections: Sequence[Section], path: Path) -> None:
    """Write one self-contained HTML page that runs no script."""
    links = [f"- [{escape_markdown(section.title)}](#section-{i})\n" for i, section in enumerate(sections, start=1)]
    content = page.page_content(
        title="VoVNet, published and reproduced",
        introduction=f"{LEGEND}\n\n{''.join(links)}",
        sections=sections,
        layout="reproduction",
        cell_class=_cell_class,
    )
    write_bytes(path, content)


def _cell_class(row: Sequence[str], column: int) -> str:
    """What differs from the paper and what was measured stands out; other lines below a published row are faint."""
    text = row[column]
    if "differs" in text or text == "does not hold":
        return "differs"
    if "measured" in text:
        return "measured"
    return "faint" if row[1:2] in (["ours"], ["computed"]) else ""
