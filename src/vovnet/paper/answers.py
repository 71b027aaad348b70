"""Answers to a published value: recomputed, derived, measured or still needed; and the tables that show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Literal

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

    @property
    def mark(self) -> str:
        """The kind and the remark, as shown behind the text."""
        return f"{self.kind} ({self.remark})" if self.remark else self.kind


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


def compared_table(header: Sequence[str], rows: Mapping[str, Sequence[Cell]], notes: Sequence[str] = ()) -> Table:
    """A table with up to three lines per row: printed, recomputed and run. Equal notes get one number.

    header: of the column with the names of the rows, then of the cells.
    """
    numbers: dict[str, int] = {}

    def text(answer: Answer | None) -> str:
        if answer is None:
            return ""
        number = f"[{numbers.setdefault(answer.note, len(numbers) + 1)}]" if answer.note else ""
        return " ".join(part for part in (answer.text, answer.mark, number) if part)

    lines, data = [], []
    for name, cells in rows.items():
        texts = {
            "paper": [cell.published or "" for cell in cells],
            "recomputed": [text(cell.computed) for cell in cells],
            "run": [text(cell.run) for cell in cells],
        }
        shown = [[kind, *line] for kind, line in texts.items() if any(line)]
        lines += [["" if index else name, *line] for index, line in enumerate(shown)]
        for column, cell in zip(header[1:], cells, strict=True):
            answers = [asdict(answer) for answer in (cell.computed, cell.run) if answer]
            data.append({"row": name, "column": column, "published": cell.published, "answers": answers})
    numbered = [f"[{number}] {note}" for note, number in numbers.items()]
    return Table([header[0], "", *header[1:]], lines, notes=[*notes, *numbered], data=data)
