"""Sections as Markdown, and as the folder that the command writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vovnet.files import replacing
from vovnet.paper.answers import LEGEND
from vovnet.paper.page import write_page
from vovnet.report.document import Section, to_dict, to_markdown


def markdown_page(sections: Sequence[Section], pictures: str = "") -> str:
    """pictures: what leads from the page to the pictures' folder."""
    return "\n".join(["# The paper, reproduced\n", f"{LEGEND}\n", *(to_markdown(one, pictures) for one in sections)])


def write_pictures(sections: Sequence[Section], folder: Path) -> None:
    for picture in (picture for section in sections for picture in section.pictures):
        with replacing(folder / picture.name) as temporary:
            temporary.write_bytes(picture.make())


def write_folder(sections: Mapping[str, Section], folder: Path) -> dict[str, Any]:
    """Write reproduction.md, .json and .html and the pictures; gives what stands in the JSON."""
    ordered = list(sections.values())
    content = {name: to_dict(section) for name, section in sections.items()}
    write_pictures(ordered, folder)
    with replacing(folder / "reproduction.md") as temporary:
        temporary.write_text(markdown_page(ordered), encoding="utf-8")
    with replacing(folder / "reproduction.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    write_page(ordered, folder / "reproduction.html")
    return content
