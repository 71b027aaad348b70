"""Sections of a report: paragraphs, tables, lists and figures. Rendered as Markdown here, as HTML in page.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vovnet.printing import printable


@dataclass(frozen=True)
class Table:
    """Cells as text.

    notes: lines below the table.
    data: the content for programs, ready for JSON; None: header and rows.
    values: the numbers that cells show, with all their digits, by which a page sorts; None for text and for no value.
    markers: for each row an SVG that a page shows before the first cell.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    notes: Sequence[str] = ()
    data: Any = None
    values: Sequence[Sequence[float | None]] = ()
    markers: Sequence[str] = ()

    def is_numeric(self, column: int) -> bool:
        """Whether to align the column to the right."""
        return any(row[column] is not None for row in self.values)


@dataclass(frozen=True)
class Figure:
    """An image file.

    name: file name; its suffix is the format.
    make: returns the content of the file, called at most once, when it is needed.
    alt: what the image shows, for readers who cannot see it; "": the caption.
    """

    name: str
    caption: str
    make: Callable[[], bytes]
    alt: str = ""

    @cached_property
    def content(self) -> bytes:
        return self.make()

    @classmethod
    def of_file(cls, path: Path, caption: str) -> Figure:
        return cls(path.name, caption, path.read_bytes)


@dataclass(frozen=True)
class BulletList:
    title: str
    items: Sequence[str]


Part = str | Table | Figure | BulletList


@dataclass(frozen=True)
class Section:
    """A string in `parts` is a paragraph. Text in `backticks`, in paragraphs, notes and cells, is code."""

    title: str
    parts: Sequence[Part] = ()

    @property
    def figures(self) -> list[Figure]:
        return [part for part in self.parts if isinstance(part, Figure)]


def to_markdown(section: Section, figure_folder: str = "") -> str:
    """A second-level heading and the parts. figure_folder: path from the page to its figures, with a final slash."""
    return f"## {escape_block(section.title)}\n\n{parts_to_markdown(section.parts, figure_folder)}"


def parts_to_markdown(parts: Sequence[Part], figure_folder: str = "") -> str:
    blocks: list[str] = []
    for part in parts:
        if isinstance(part, str):
            blocks.append(escape_block(part))
            continue
        if isinstance(part, Figure):
            blocks.append(f"![{escape_markdown(part.alt or part.caption)}]({figure_folder}{part.name})")
            continue
        blocks += [f"### {escape_block(part.title)}"] if part.title else []
        items = part.items if isinstance(part, BulletList) else part.notes
        if isinstance(part, Table):
            rules = ["---:" if part.is_numeric(column) else "---" for column in range(len(part.header))]
            header, *rows = ([_escape(cell, in_cell=True) for cell in row] for row in (part.header, *part.rows))
            blocks.append("\n".join(f"| {' | '.join(row)} |" for row in (header, rules, *rows)))
        if items:
            blocks.append("\n".join(f"- {escape_block(item)}" for item in items))
    return "\n\n".join(blocks) + "\n"


def to_dict(section: Section) -> dict[str, Any]:
    """The section for JSON, without the content of its figures."""
    parts: list[dict[str, Any]] = []
    for part in section.parts:
        if isinstance(part, str):
            parts.append({"text": part})
        elif isinstance(part, Figure):
            parts.append({"picture": part.name, "caption": part.caption})
        elif isinstance(part, BulletList):
            parts.append({"list": part.title, "items": list(part.items)})
        else:
            own = {"header": list(part.header), "rows": [list(row) for row in part.rows]} if part.data is None else {}
            parts.append({"table": part.title, **own, "notes": list(part.notes), "data": part.data})
    return {"title": section.title, "parts": parts}


def split_code(text: str) -> list[str]:
    """The pieces between backticks, every second one code; a single piece if a backtick has no partner or no code."""
    pieces = text.split("`")
    return pieces if len(pieces) % 2 and all(map(str.strip, pieces[1::2])) else [text]


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return _escape_words(text).strip()


def escape_block(text: str) -> str:
    """Text for a line of its own, where it must not start a heading or list. Text in backticks is code."""
    escaped = re.sub(r"^(#|[+-](?=[\s-]|$))", r"\\\1", _escape(text))
    escaped = re.sub(r"^(\d+)(?=[.)](\s|$))", r"\1\\", escaped)
    text = escaped.rstrip("#")  # which would close a heading
    return escaped if text == escaped else f"{text}\\{escaped[len(text) :]}"


def _escape(text: str, *, in_cell: bool = False) -> str:
    """Escape all text but the code in backticks. In a cell, "|" ends even code."""
    pieces = split_code(text)
    for index, piece in enumerate(pieces):
        if index % 2:
            code = printable(" ".join(piece.split()))
            pieces[index] = "`" + (code.replace("|", r"\|") if in_cell else code) + "`"
        else:
            pieces[index] = _escape_words(piece)
    return "".join(pieces).strip()


def _escape_words(text: str) -> str:
    """Underscores inside words are harmless and stay."""
    return re.sub(r"([\\|`*<>\[\]~&]|\b_|_\b)", r"\\\1", printable(re.sub(r"\s+", " ", text)))
