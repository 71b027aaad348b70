"""The sections as one HTML page that needs no network and runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vovnet.paper.answers import LEGEND
from vovnet.report import page
from vovnet.report.document import Section, escape_markdown


def write_page(sections: Sequence[Section], path: str | Path) -> None:
    links = [f"- [{escape_markdown(section.title)}](#section-{i})\n" for i, section in enumerate(sections, start=1)]
    page.write_page(
        path,
        title="VoVNet, published and reproduced",
        introduction=f"{LEGEND}\n\n{''.join(links)}",
        sections=sections,
        layout="reproduction",
        cell_class=_cell_class,
    )


def _cell_class(row: Sequence[str], column: int) -> str:
    """What differs from the paper and what was measured stands out; other lines below a published row are faint."""
    text = row[column]
    if "differs" in text or text == "does not hold":
        return "differs"
    if "measured" in text:
        return "measured"
    return "faint" if row[1:2] in (["ours"], ["computed"]) else ""
