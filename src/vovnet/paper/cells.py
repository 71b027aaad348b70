"""A published figure and our answers to it, and tables of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vovnet.paper.published import PublishedColumn
from vovnet.report.document import Table

Kind = Literal["exact", "differs", "derived", "measured", "needs"]

LEGEND = (
    "A mark says what stands beside a published figure. **exact**: recomputed from the structure now, and equal at the "
    "printed precision where the paper prints a figure; “cut” or “rounded” says how, where only one of the two gives "
    "the printed digits. **derived**: the table's own arithmetic, as FPS from whole milliseconds. **differs**: one of "
    "these two does not give the published figure. **measured**: run, on the device and in the record of its note. "
    "**needs**: not run; its note has the command that would."
)


@dataclass(frozen=True)
class Answer:
    """text: the figure as it is shown, "" where there is none. note: how it came about, or the command it needs; shown
    under the table. detail: more of that, for programs only. remark: a word or two beside the mark."""

    kind: Kind
    text: str = ""
    value: float | None = None
    note: str = ""
    remark: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Cell:
    """published: as printed, None where the paper has no figure. computed: exact, derived or differs; run: the rest."""

    published: str | None = None
    computed: Answer | None = None
    run: Answer | None = None


@dataclass(frozen=True)
class ComparedRow:
    name: str
    cells: Sequence[Cell]


def compared_table(
    title: str, first: str, columns: Sequence[PublishedColumn], rows: Sequence[ComparedRow], notes: Sequence[str] = ()
) -> Table:
    """Up to three lines a row: what the paper prints, what is recomputed, what was run. Equal notes are one."""
    numbers: dict[str, int] = {}

    def text(answer: Answer | None) -> str:
        if answer is None:
            return ""
        mark = f"{answer.kind} ({answer.remark})" if answer.remark else answer.kind
        number = f"[{numbers.setdefault(answer.note, len(numbers) + 1)}]" if answer.note else ""
        return " ".join(part for part in (answer.text, mark, number) if part)

    lines = []
    for row in rows:
        kinds = {
            "paper": [cell.published or "" for cell in row.cells],
            "recomputed": [text(cell.computed) for cell in row.cells],
            "run": [text(cell.run) for cell in row.cells],
        }
        named = [(kind, cells) for kind, cells in kinds.items() if any(cells)]
        lines += [[row.name if place == 0 else "", kind, *cells] for place, (kind, cells) in enumerate(named)]
    numbered = [f"[{number}] {note}" for note, number in numbers.items()]
    data = [cell_data(row.name, column, cell) for row in rows for column, cell in zip(columns, row.cells, strict=True)]
    return Table([first, "", *(column.header for column in columns)], lines, title, [*notes, *numbered], data)


def cell_data(row: str, column: PublishedColumn, cell: Cell) -> dict[str, Any]:
    answers = [asdict(answer) for answer in (cell.computed, cell.run) if answer]
    return {"row": row, "column": column.header, "published": cell.published, "answers": answers}
