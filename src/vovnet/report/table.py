"""Columns defined once: the cells of a table, the fields of a CSV, and the axis of a plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from vovnet.files import csv_line
from vovnet.printing import CELL, line, printable
from vovnet.report.document import Table

T = TypeVar("T")
Value = float | str | None
Interval = tuple[float, float]
MISSING = "–"


@dataclass(frozen=True)
class Column(Generic[T]):
    """One value of a row, with its name and unit.

    name: header in a CSV; ends in the unit of the raw value.
    title: header for people, who see value / scale in `unit`.
    interval: confidence interval of the value.
    interval_in_tables: False if only plots show the interval.
    limits: the least and the greatest possible value.
    axis: label of an axis without its unit, where `title` is not enough.
    at_least: whether the value of a row is a lower bound, shown as "≥".
    """

    name: str
    title: str
    value: Callable[[T], Value]
    unit: str = ""
    scale: float = 1
    interval: Callable[[T], Interval | None] | None = None
    interval_in_tables: bool = True
    limits: Interval | None = None
    axis: str = ""
    at_least: Callable[[T], bool] = lambda row: False

    @property
    def header(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def axis_label(self) -> str:
        return f"{self.axis or self.title} ({self.unit})" if self.unit else self.axis or self.title

    def text(self, row: T) -> str:
        value, interval = self.value(row), self.scaled_interval(row) if self.interval_in_tables else None
        if value is None or isinstance(value, str):
            return MISSING if value is None else line(value, 200)
        suffix = f" ({number(interval[0])} – {number(interval[1])})" if interval else ""
        return ("≥ " if self.at_least(row) else "") + number(value / self.scale) + suffix

    def scaled(self, row: T) -> float | None:
        """The value in `unit`, as an axis shows it. None where there is no number."""
        value = self.value(row)
        return None if value is None or isinstance(value, str) else value / self.scale

    def scaled_interval(self, row: T) -> Interval | None:
        interval = self.interval(row) if self.interval else None
        return interval and (interval[0] / self.scale, interval[1] / self.scale)


def used_columns(columns: Iterable[Column[T]], rows: Sequence[T]) -> list[Column[T]]:
    """The columns that have a value in at least one row."""
    return [column for column in columns if any(column.value(row) is not None for row in rows)]


def make_table(title: str, columns: Iterable[Column[T]], rows: Sequence[T]) -> Table:
    """A table of the columns that have a value in at least one row."""
    used = used_columns(columns, rows)
    return Table(
        [column.header for column in used],
        [[column.text(row) for column in used] for row in rows],
        title,
        values=[[column.scaled(row) for column in used] for row in rows],
    )


def to_csv(columns: Iterable[Column[T]], rows: Sequence[T]) -> str:
    """Raw numbers, empty where there is none. An interval is two more fields, `…_low` and `…_high`."""
    fields: list[Value] = []
    lines: list[list[Value]] = [[] for _ in rows]
    for column in used_columns(columns, rows):
        fields.append(column.name)
        for cells, row in zip(lines, rows, strict=True):
            cells.append(column.value(row))
        if column.interval and column.interval_in_tables:
            fields += [f"{column.name}_low", f"{column.name}_high"]
            for cells, row in zip(lines, rows, strict=True):
                cells += column.interval(row) or (None, None)
    return "".join(
        csv_line([printable(cell) if isinstance(cell, str) else cell for cell in cells]) for cells in [fields, *lines]
    )


def describe(columns: Iterable[Column[T]], row: T) -> str:
    """The text of the first column, then a line "header: text" for each other column that has a value."""
    first, *others = columns
    lines = [f"{column.header}: {column.text(row)}" for column in others if column.value(row) is not None]
    return "\n".join(line(text, CELL) for text in (first.text(row), *lines))


def number(value: float) -> str:
    """Four significant digits, or all before the point; powers of ten only below 0.0001."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) < 1e-4:
        return f"{value:.3e}"
    return f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"
