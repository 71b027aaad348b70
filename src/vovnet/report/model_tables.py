"""Models, their batch sizes and their stages as rows and columns.

Tables, CSV files, axes and hover texts all use the columns defined here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from vovnet.printing import line
from vovnet.profiling.measurement import Measurement
from vovnet.profiling.speed import Latency
from vovnet.report.document import Table
from vovnet.report.table import Column, Interval, T, describe, make_table, used_columns

ModelColumn = Column[Measurement]
_SHORT = 60  # characters of a name that figures show at least


def label_measurements(measurements: Sequence[Measurement]) -> list[Measurement]:
    """The measurements under names of their own, even when short. Equal ones get what differs, or else their number.

    A name of a stranger is shortened to one printable line.
    """
    measurements = [replace(measurement, name=line(measurement.name)) for measurement in measurements]
    names = []
    for measurement in measurements:
        namesakes = [_details(other) for other in measurements if other.name == measurement.name]
        details = zip(_details(measurement), *namesakes, strict=True)
        names.append(" ".join([measurement.name, *(own for own, *all_ in details if len(set(all_)) > 1)]))
    shown = Counter(line(name, _SHORT) for name in names)
    return [
        replace(measurement, name=name if shown[line(name, _SHORT)] == 1 else f"{name} #{number}")
        for number, (measurement, name) in enumerate(zip(measurements, names, strict=True), start=1)
    ]


def _details(measurement: Measurement) -> tuple[str, ...]:
    device = measurement.conditions.device
    return shape_text(measurement.input_shape), measurement.precision, measurement.runtime, device, measurement.run


def model_columns(rows: Sequence[Measurement]) -> list[ModelColumn]:
    """The columns that have a value in at least one row, the name first."""
    return [NAME, *used_columns(_FOR_CSV_ONLY, rows), *chain(*_used_groups(rows).values())]


def model_tables(rows: Sequence[Measurement]) -> list[Table]:
    """One table for each group of columns, narrow enough to read, and one of batch sizes and stages if any were timed.

    The first column is the name.
    """
    tables = [make_table(title, [NAME, *columns], rows) for title, columns in _used_groups(rows).items()]
    parts = [part for row in rows for part in (*batch_rows(row), *stage_rows(row))]
    return [*tables, *([make_table("Batch sizes and stages", PART_COLUMNS, parts)] if parts else [])]


def describe_models(rows: Sequence[Measurement]) -> list[str]:
    """For each model all its values in lines, as a point of a plot shows them on hover."""
    columns = [NAME, *chain(*_used_groups(rows).values())]
    return [describe(columns, row) for row in rows]


def _used_groups(rows: Sequence[Measurement]) -> dict[str, list[ModelColumn]]:
    metrics = dict.fromkeys(name for row in rows if row.accuracy for name in row.accuracy.figures)
    groups = {**_GROUPS, "Accuracy": [*map(accuracy_column, metrics), ModelColumn("accuracy_data", "on", data_text)]}
    used = {title: used_columns(columns, rows) for title, columns in groups.items()}
    return {title: columns for title, columns in used.items() if columns}


def shape_text(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def data_text(row: Measurement) -> str | None:
    """The dataset of the accuracy; of its path only the last part."""
    accuracy = row.accuracy
    if accuracy is None:
        return None
    return f"{line(Path(accuracy.data).name, 80)} {line(accuracy.split, 80)}, {accuracy.images} images"


def accuracy_column(metric: str) -> ModelColumn:
    def value(row: Measurement) -> float | None:
        return row.accuracy.figures.get(metric) if row.accuracy else None

    return ModelColumn("accuracy_" + re.sub(r"\W+", "_", line(metric, 40)), line(metric, 40), value, limits=(0, 1))


def _latency_columns(latency: Callable[[T], Latency], prefix: str = "") -> list[Column[T]]:
    """Median, p90 and p99. prefix: of the names in a CSV."""

    def percentile(percent: int) -> Column[T]:
        def value(row: T) -> float | None:
            return latency(row).percentile_ms(percent) if latency(row).resolves(percent) else None

        return Column(f"{prefix}p{percent}_ms", f"p{percent}", value, "ms")

    median = Column[T](
        f"{prefix}median_ms",
        "median",
        lambda row: latency(row).median_ms,
        unit="ms",
        interval=lambda row: latency(row).interval_ms,
        axis="median latency",
    )
    return [median, percentile(90), percentile(99)]


def _memory_column(field: str, title: str) -> ModelColumn:
    return ModelColumn(f"memory_{field}", title, lambda m: getattr(m.memory, field, None), "MiB")


def _is_lower_bound(row: Measurement) -> bool:
    return row.cost.is_lower_bound


def _misses_elements(row: Measurement) -> bool:
    return row.cost.total.unsized_calls > 0


def uncounted_text(row: Measurement) -> str | None:
    return ", ".join(f"{name} ({count}×)" for name, count in row.cost.uncounted.items()) or None


def _ratio_interval(row: Measurement) -> Interval | None:
    """None for the first model, whose ratio to itself is exactly 1 in every pass."""
    return None if row.ratio.interval == (1, 1) else row.ratio.interval


def _run(row: Measurement) -> str | None:
    """None where all is eager."""
    return None if row.run == "eager" and row.run_ratio is None else row.run


def _run_ratio(row: Measurement) -> float | None:
    return None if row.run_ratio is None else row.run_ratio.median


def _run_ratio_interval(row: Measurement) -> Interval | None:
    """None for the run that the others are compared with."""
    return None if row.run_ratio is None or row.run_ratio.interval == (1, 1) else row.run_ratio.interval


def _peak_layer(row: Measurement) -> str | None:
    memory = row.memory
    return None if memory is None or memory.live_layer is None else memory.live_layer or "(model)"


def _energy_method(row: Measurement) -> str | None:
    energy = row.energy
    if energy is None or energy.figure is None:
        return None
    return energy.figure.method + (f", disputed by {energy.check.method}" if energy.disputed and energy.check else "")


def _disputing_energy(row: Measurement) -> float | None:
    energy = row.energy
    return energy.check.energy_j_per_image if energy and energy.disputed and energy.check else None


def _estimated_energy(row: Measurement) -> float | None:
    return row.estimate.estimated_j_per_image if row.estimate else None


NAME = ModelColumn("model", "model", lambda m: m.name)
MULTIPLY_ADDS = ModelColumn(
    "multiply_adds", "multiply-adds", lambda m: m.cost.total.multiply_adds, "G", 1e9, at_least=_is_lower_bound
)
MEMORY_ACCESS = ModelColumn(
    "memory_access_cost_elements",
    "memory access",
    lambda m: m.cost.total.memory_access_cost,
    unit="M elements",
    scale=1e6,
    axis="memory access cost",
    at_least=_is_lower_bound,
)
FLOPS_PER_BYTE = ModelColumn("flops_per_byte", "FLOP/byte", lambda m: m.flops_per_byte, at_least=_is_lower_bound)
_LATENCY: list[ModelColumn] = _latency_columns(lambda m: m.latency, "latency_")
MEDIAN = _LATENCY[0]
IMAGES_PER_S = ModelColumn(
    "images_per_s", "images/s", lambda m: m.images_per_s, interval=lambda m: m.images_per_s_interval
)
MULTIPLY_ADDS_PER_S = ModelColumn(
    "gmultiply_adds_per_s",
    "G multiply-adds/s",
    lambda m: m.gmultiply_adds_per_s,
    interval=lambda m: m.gmultiply_adds_per_s_interval,
    interval_in_tables=False,
    at_least=_is_lower_bound,
)
FLOPS = ModelColumn(
    "gflop_per_s",
    "GFLOP/s",
    lambda m: m.gflop_per_s,
    interval=lambda m: m.gflop_per_s_interval,
    interval_in_tables=False,
    at_least=_is_lower_bound,
)
ENERGY_PER_IMAGE = ModelColumn(
    "energy_j_per_image", "energy", lambda m: m.energy_j_per_image, "J/image", interval=lambda m: m.energy_interval_j
)
_ABOVE_IDLE = ModelColumn(
    "above_idle_j_per_image",
    "above idle",
    lambda m: m.above_idle_j_per_image,
    unit="J/image",
    interval=lambda m: m.above_idle_interval_j,
)
_FOR_CSV_ONLY = (
    ModelColumn("runtime", "runtime", lambda m: m.runtime),
    ModelColumn("device", "device", lambda m: m.conditions.device_name),
    ModelColumn("threads", "threads", lambda m: m.conditions.threads),
    ModelColumn("precision", "precision", lambda m: m.precision),
    ModelColumn("run", "run", lambda m: m.conditions.run),
    ModelColumn("date", "date", lambda m: m.conditions.date),
    ModelColumn("uncounted", "uncounted", uncounted_text),
)
_GROUPS: dict[str, Sequence[ModelColumn]] = {
    "Counts of one pass": (
        ModelColumn("input", "input", lambda m: shape_text(m.input_shape)),
        ModelColumn("parameters", "params", lambda m: m.cost.total.parameters, "M", 1e6),
        MULTIPLY_ADDS,
        MEMORY_ACCESS,
        ModelColumn("memory_access_ratio", "× lower bound", lambda m: m.cost.total.memory_access_ratio),
        ModelColumn(
            "other_elements",
            "other",
            lambda m: m.cost.total.other_elements,
            unit="M elements",
            scale=1e6,
            at_least=_misses_elements,
        ),
        FLOPS_PER_BYTE,
    ),
    "Time": (
        ModelColumn("run_as", "run", _run),
        *_LATENCY,
        ModelColumn("latency_spread", "spread", lambda m: m.latency.spread, "%", 0.01),
        ModelColumn("time_ratio", "× first", lambda m: m.ratio.median, interval=_ratio_interval),
        ModelColumn("run_ratio", "× first run", _run_ratio, interval=_run_ratio_interval),
        IMAGES_PER_S,
        ModelColumn("compile_s", "compilation", lambda m: m.compile_s, "s"),
    ),
    "Computation efficiency": (
        MULTIPLY_ADDS_PER_S,
        FLOPS,
        ModelColumn("peak_fraction", "of peak", lambda m: m.peak_fraction, "%", 0.01, at_least=_is_lower_bound),
        ModelColumn(
            "bandwidth_fraction", "of bandwidth", lambda m: m.bandwidth_fraction, "%", 0.01, at_least=_misses_elements
        ),
    ),
    "Memory": (
        _memory_column("peak_mib", "peak"),
        _memory_column("live_mib", "live tensors"),
        ModelColumn("memory_live_layer", "layer at the peak", _peak_layer),
        _memory_column("reserved_mib", "reserved"),
        _memory_column("process_mib", "process"),
    ),
    "Energy": (
        ENERGY_PER_IMAGE,
        _ABOVE_IDLE,
        ModelColumn("energy_method", "method", _energy_method),
        ModelColumn("disputing_j_per_image", "by the other method", _disputing_energy, "J/image"),
        ModelColumn(
            "estimated_j_per_image",
            "estimated, not measured",
            _estimated_energy,
            unit="J/image",
            at_least=_is_lower_bound,
        ),
    ),
}


@dataclass(frozen=True)
class PartRow:
    """The latency of a model at one batch size, or of one stage."""

    model: str
    part: str
    latency: Latency
    batch_size: int | None = None

    @property
    def images_per_s(self) -> float | None:
        return self.latency.throughput(self.batch_size).median if self.batch_size else None

    @property
    def images_per_s_interval(self) -> Interval | None:
        return self.latency.throughput(self.batch_size).interval if self.batch_size else None


def batch_rows(row: Measurement) -> list[PartRow]:
    """The batch sizes of a sweep in order; that of the run itself is one of them. Empty without a sweep."""
    latencies = {row.input_shape[0]: row.latency, **row.batches} if row.batches else {}
    return [PartRow(row.name, f"batch size {size}", latencies[size], size) for size in sorted(latencies)]


def stage_rows(row: Measurement) -> list[PartRow]:
    """The stages that were timed, from reading the file to drawing the boxes."""
    return [PartRow(row.name, stage, latency) for stage, latency in (row.stages or {}).items()]


_PART_LATENCY: list[Column[PartRow]] = _latency_columns(lambda part: part.latency)
PART_MEDIAN = _PART_LATENCY[0]
BATCH_IMAGES_PER_S = Column[PartRow](
    "images_per_s",
    "images/s",
    lambda part: part.images_per_s,
    interval=lambda part: part.images_per_s_interval,
    interval_in_tables=False,
)
PART_COLUMNS = (
    Column[PartRow]("model", "model", lambda part: part.model),
    Column[PartRow]("part", "part", lambda part: part.part),
    *_PART_LATENCY,
    BATCH_IMAGES_PER_S,
)
