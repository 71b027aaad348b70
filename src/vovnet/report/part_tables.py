"""Batch sizes and stages of a model as rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vovnet.profiling.speed import Latency
from vovnet.report.document import Table
from vovnet.report.model_tables import ModelRow, latency_columns
from vovnet.report.table import Column, Interval, make_table


@dataclass(frozen=True)
class PartRow:
    """The latency of a model at one batch size, or of one stage."""

    index: int
    label: str
    part: str
    latency: Latency
    batch_size: int | None = None


def batch_rows(rows: Sequence[ModelRow]) -> list[PartRow]:
    """A row for each batch size of a sweep, in order; the batch size of the run itself is one of them."""
    parts = []
    for row in rows:
        measurement = row.measurement
        latencies = (
            {measurement.input_shape[0]: measurement.latency, **measurement.batches} if measurement.batches else {}
        )
        for size, latency in sorted(latencies.items()):
            parts.append(PartRow(row.index, row.label, f"batch size {size}", latency, size))
    return parts


def stage_rows(rows: Sequence[ModelRow]) -> list[PartRow]:
    """A row for each stage that was timed, from reading the file to drawing the boxes."""
    return [
        PartRow(row.index, row.label, stage, latency)
        for row in rows
        for stage, latency in (row.measurement.stages or {}).items()
    ]


def part_table(rows: Sequence[ModelRow]) -> Table:
    """Batch sizes and stages, model by model; without rows if none were timed."""
    parts = sorted([*batch_rows(rows), *stage_rows(rows)], key=lambda part: part.index)
    return make_table("Batch sizes and stages", PART_COLUMNS, parts)


def _images_per_s(row: PartRow) -> float | None:
    return row.latency.throughput(row.batch_size).median if row.batch_size else None


def _images_per_s_interval(row: PartRow) -> Interval | None:
    return row.latency.throughput(row.batch_size).interval if row.batch_size else None


_LATENCY: list[Column[PartRow]] = latency_columns(lambda row: row.latency)
PART_MEDIAN = _LATENCY[0]
BATCH_IMAGES_PER_S = Column[PartRow](
    "images_per_s", "images/s", _images_per_s, interval=_images_per_s_interval, interval_in_tables=False
)
PART_COLUMNS = (
    Column[PartRow]("model", "model", lambda row: row.label),
    Column[PartRow]("part", "part", lambda row: row.part),
    *_LATENCY,
    BATCH_IMAGES_PER_S,
)
