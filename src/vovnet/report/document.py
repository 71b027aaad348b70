"""A piece of a report: paragraphs, tables and pictures under a title, for the terminal, Markdown, HTML and JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vovnet.report.table import escape_markdown


@dataclass(frozen=True)
class Table:
    """A table of texts. notes: lines that stand under it. data: what programs get of it, ready for JSON."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    notes: Sequence[str] = ()
    data: Any = None


@dataclass(frozen=True)
class Figure:
    """A picture file; `make` gives its bytes when they are needed. name: with the suffix that tells the format."""

    name: str
    caption: str
    make: Callable[[], bytes]

    @classmethod
    def of_file(cls, path: Path, caption: str) -> Figure:
        return cls(path.name, caption, path.read_bytes)


@dataclass(frozen=True)
class Section:
    """parts: a text is a paragraph; what stands in `backticks` in it, and in notes and cells, is code."""

    title: str
    parts: Sequence[str | Table | Figure] = field(default_factory=tuple)

    @property
    def pictures(self) -> list[Figure]:
        return [part for part in self.parts if isinstance(part, Figure)]


def to_markdown(section: Section, pictures: str = "") -> str:
    """The section under a second-order title; pictures: what leads from the page to the pictures' folder."""
    blocks = [f"## {section.title}"]
    for part in section.parts:
        if isinstance(part, str):
            blocks.append(_escape(part))
        elif isinstance(part, Figure):
            blocks.append(f"![{escape_markdown(part.caption)}]({pictures}{part.name})")
        else:
            blocks += [f"### {part.title}"] if part.title else []
            lines = [part.header, ["---"] * len(part.header), *part.rows]
            blocks.append("\n".join(f"| {' | '.join(map(_escape, line))} |" for line in lines))
            if part.notes:
                blocks.append("\n".join(f"- {_escape(note)}" for note in part.notes))
    return "\n\n".join(blocks) + "\n"


def to_dict(section: Section) -> dict[str, Any]:
    """Everything but the pictures' content, ready for JSON."""
    parts: list[dict[str, Any]] = []
    for part in section.parts:
        if isinstance(part, str):
            parts.append({"text": part})
        elif isinstance(part, Figure):
            parts.append({"picture": part.name, "caption": part.caption})
        else:
            own = {"header": list(part.header), "rows": [list(row) for row in part.rows]} if part.data is None else {}
            parts.append({"table": part.title, **own, "notes": list(part.notes), "data": part.data})
    return {"title": section.title, "parts": parts}


def _escape(text: str) -> str:
    """Text as it is, but for what stands in backticks."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # one without its partner
        return escape_markdown(text)
    # escape_markdown would take the space at the ends of a piece away
    return "".join(f"`{piece}`" if place % 2 else _padded(piece) for place, piece in enumerate(pieces))


def _padded(piece: str) -> str:
    inner = escape_markdown(piece)
    if not inner:
        return " " if piece else ""
    return (" " if piece[0].isspace() else "") + inner + (" " if piece[-1].isspace() else "")
