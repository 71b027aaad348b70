"""A table from one definition of its columns: text for people, Markdown, and CSV with raw numbers."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
Value = float | str | None
MISSING = "–"


@dataclass(frozen=True)
class Column(Generic[T]):
    """How to get one value of a row.

    name: for programs, ends in the unit of the raw value. title, unit: for people, who are shown value / scale.
    group: columns of one group are shown together; those of group "" stand in the CSV only.
    at_least: whether the value is a lower bound, which people are told by "≥".
    """

    name: str
    title: str
    value: Callable[[T], Value]
    unit: str = ""
    scale: float = 1
    interval: Callable[[T], tuple[float, float] | None] | None = None
    group: str = ""
    at_least: Callable[[T], bool] = lambda row: False

    @property
    def header(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def text(self, row: T) -> str:
        value = self.value(row)
        if value is None or isinstance(value, str):
            return MISSING if value is None else value
        interval = self.interval(row) if self.interval else None
        within = "" if interval is None else f" ({' – '.join(number(end / self.scale) for end in interval)})"
        return ("≥ " if self.at_least(row) else "") + number(value / self.scale) + within


@dataclass(frozen=True)
class ColumnTable(Generic[T]):
    """Rows seen through columns; make it with `make_table`, which leaves out columns without any value."""

    title: str
    columns: tuple[Column[T], ...]
    items: tuple[T, ...]

    @property
    def header(self) -> list[str]:
        return [column.header for column in self.columns]

    @property
    def rows(self) -> list[list[str]]:
        return [[column.text(item) for column in self.columns] for item in self.items]

    def is_numeric(self, column: Column[T]) -> bool:
        return not any(isinstance(column.value(item), str) for item in self.items)

    def to_markdown(self) -> str:
        rules = ["---:" if self.is_numeric(column) else "---" for column in self.columns]
        rows = [[escape_markdown(cell) for cell in row] for row in (self.header, *self.rows)]
        return "".join(f"| {' | '.join(row)} |\n" for row in (rows[0], rules, *rows[1:]))

    def to_csv(self) -> str:
        """Raw numbers, empty where there is none; an interval is two more columns, `…_low` and `…_high`."""
        header: list[str] = []
        rows: list[list[Value]] = [[] for _ in self.items]
        for column in self.columns:
            header.append(column.name)
            for row, item in zip(rows, self.items, strict=True):
                row.append(column.value(item))
            if column.interval:
                header += [f"{column.name}_low", f"{column.name}_high"]
                for row, item in zip(rows, self.items, strict=True):
                    row += column.interval(item) or (None, None)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(map(_inert, header))
        writer.writerows(map(_inert, row) for row in rows)
        return text.getvalue()


def make_table(title: str, columns: Sequence[Column[T]], items: Sequence[T]) -> ColumnTable[T]:
    """A table of those columns that have a value in some row."""
    used = [column for column in columns if any(column.value(item) is not None for item in items)]
    return ColumnTable(title, tuple(used), tuple(items))


def number(value: float) -> str:
    """Four significant digits, or all before the point; powers of ten only below 0.0001."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) < 1e-4:
        return f"{value:.3e}"
    return f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, in one line. Underscores inside words are harmless and stay."""
    return re.sub(r"([\\|`*<>\[\]~&]|\b_|_\b)", r"\\\1", " ".join(text.split()))


def _inert(value: Value) -> Value:
    """Text that a spreadsheet would take for a formula gets an apostrophe in front."""
    formula = isinstance(value, str) and (value.lstrip().startswith(("=", "+", "-", "@")) or value[:1] in ("\t", "\r"))
    return f"'{value}" if formula else value
