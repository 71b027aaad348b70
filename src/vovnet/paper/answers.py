"""Answers to a published value: recomputed, derived, measured or still needed; and the tables that show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Literal

from vovnet.paper.published import PublishedColumn
from vovnet.paper.rounding import digits, how_equal, rounded
from vovnet.report.document import Table

Kind = Literal["exact", "differs", "derived", "measured", "needs"]

LEGEND = (
    "Every value beside a published one has a mark. **exact**: recomputed from the network's structure, and equal to "
    "the published value at the printed precision if there is one; “cut” or “rounded” is added if only that gives the "
    "printed digits. **derived**: calculated from other values of the table, such as FPS from whole milliseconds. "
    "**differs**: recomputed or derived, but not equal to the published value. **measured**: run on the device that "
    "the note names, from the record that it names. **needs**: not run yet; the note has the command."
)


@dataclass(frozen=True)
class Answer:
    """One value beside a published one.

    text: the value as shown, "" if there is none.
    note: how the value was obtained, or the command that it needs; shown below the table.
    remark: one or two words beside the kind.
    detail: more than the note says, for JSON only.
    """

    kind: Kind
    text: str = ""
    value: float | None = None
    note: str = ""
    remark: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Cell:
    """A published value and the answers to it.

    published: as printed, None if the paper has no value.
    computed: an exact, derived or differing answer.
    run: a measured answer, or what it needs.
    """

    published: str | None = None
    computed: Answer | None = None
    run: Answer | None = None


@dataclass(frozen=True)
class ComparedRow:
    name: str
    cells: Sequence[Cell]


def compared_answer(value: Decimal, printed: str | None, kind: Kind, *, note: str = "", detail: str = "") -> Answer:
    """An answer of this kind if the value has the printed digits or nothing was printed, else one that differs.

    Its text has two digits more than the printed value.
    """
    text = f"{rounded(value, 3 if printed is None else digits(printed) + 2):,}"
    how = "" if printed is None else how_equal(value, printed)
    return Answer("differs" if how is None else kind, text, float(value), note, how or "", detail)


def same_text(text: str, printed: str) -> Answer:
    """An exact answer if the text is what was printed, else one that differs."""
    return Answer("exact" if text == printed else "differs", text)


def compared_table(
    first_header: str, columns: Sequence[PublishedColumn], rows: Sequence[ComparedRow], notes: Sequence[str] = ()
) -> Table:
    """A table with up to three lines per row: printed, recomputed and run. Equal notes get one number."""
    numbers: dict[str, int] = {}

    def text(answer: Answer | None) -> str:
        if answer is None:
            return ""
        mark = f"{answer.kind} ({answer.remark})" if answer.remark else answer.kind
        number = f"[{numbers.setdefault(answer.note, len(numbers) + 1)}]" if answer.note else ""
        return " ".join(part for part in (answer.text, mark, number) if part)

    lines = []
    for row in rows:
        by_kind = {
            "paper": [cell.published or "" for cell in row.cells],
            "recomputed": [text(cell.computed) for cell in row.cells],
            "run": [text(cell.run) for cell in row.cells],
        }
        shown = [[kind, *texts] for kind, texts in by_kind.items() if any(texts)]
        lines += [[row.name if index == 0 else "", *line] for index, line in enumerate(shown)]
    numbered = [f"[{number}] {note}" for note, number in numbers.items()]
    data = [_cell_data(row.name, column, cell) for row in rows for column, cell in zip(columns, row.cells, strict=True)]
    header = [first_header, "", *(column.header for column in columns)]
    return Table(header, lines, notes=[*notes, *numbered], data=data)


def _cell_data(row: str, column: PublishedColumn, cell: Cell) -> dict[str, Any]:
    answers = [asdict(answer) for answer in (cell.computed, cell.run) if answer]
    return {"row": row, "column": column.header, "published": cell.published, "answers": answers}
