"""Answers to a published value: recomputed, derived, measured or not run yet; and the tables that show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Literal

from vovnet.paper.rounding import digits, how_equal, rounded
from vovnet.report.document import Table

Kind = Literal["exact", "differs", "derived", "measured", "needs"]

LEGEND = (
    "Each value compared with a published one is marked. **exact**: recomputed from the network's structure and, if "
    "the paper prints a value, equal to it at the printed precision; “truncated” or “rounded” is added if only that "
    "reproduces the printed digits. **derived**: calculated from other values in the table, such as FPS from whole "
    "milliseconds. **differs**: recomputed or derived, but not equal to the published value. **measured**: measured by "
    "us; the note names the device and the record. **needs**: not run yet; the note gives the command. In the tables, "
    "“computed” rows contain recomputed and derived values, “ours” rows measured ones."
)


@dataclass(frozen=True)
class Answer:
    """A value to compare with a published one.

    text: the value as shown, "" if there is none.
    note: how the value was obtained, or the command that produces it; shown below the table.
    remark: a few words shown after the kind, in parentheses.
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
        """The kind and the remark, as shown after the text."""
        return f"{self.kind} ({self.remark})" if self.remark else self.kind


@dataclass(frozen=True)
class Cell:
    """A published value and the answers to it.

    published: as printed, None if the paper has no value.
    computed: an exact, derived or differing answer.
    run: a measured answer, or the command that measures it.
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
    """A table with up to three lines per row: paper, computed and ours. Equal notes get one number.

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
            "computed": [text(cell.computed) for cell in cells],
            "ours": [text(cell.run) for cell in cells],
        }
        shown = [[kind, *line] for kind, line in texts.items() if any(line)]
        lines += [["" if index else name, *line] for index, line in enumerate(shown)]
        for column, cell in zip(header[1:], cells, strict=True):
            answers = [asdict(answer) for answer in (cell.computed, cell.run) if answer]
            data.append({"row": name, "column": column, "published": cell.published, "answers": answers})
    numbered = [f"[{number}] {note}" for note, number in numbers.items()]
    return Table([header[0], "", *header[1:]], lines, notes=[*notes, *numbered], data=data)
