"""Models as rows and columns. Tables, CSV files, axes and hover texts all use the columns defined here."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vovnet.profiling.measurement import Measurement
from vovnet.profiling.speed import Latency
from vovnet.report.document import Table
from vovnet.report.table import Column, describe, make_table, used_columns

T = TypeVar("T")
COUNTS, TIME, EFFICIENCY, MEMORY, ENERGY, ACCURACY = GROUPS = (
    "Counts of one pass",
    "Time",
    "Computation efficiency",
    "Memory",
    "Energy",
    "Accuracy",
)


@dataclass(frozen=True)
class ModelRow:
    """A measurement with its position in the report and a label that no other has."""

    index: int
    label: str
    measurement: Measurement


def label_measurements(measurements: Sequence[Measurement]) -> list[ModelRow]:
    """Rows labelled with the names of the models. Equal names get what differs appended, or else their number."""
    rows = []
    for index, measurement in enumerate(measurements):
        details = _details(measurement)
        namesakes = [_details(namesake) for namesake in measurements if namesake.name == measurement.name]
        differing = [i for i in range(len(details)) if len({namesake[i] for namesake in namesakes}) > 1]
        label = " ".join([measurement.name, *(details[i] for i in differing)])
        unique = sum(all(namesake[i] == details[i] for i in differing) for namesake in namesakes) == 1
        rows.append(ModelRow(index, label if unique else f"{label} #{index + 1}", measurement))
    return rows


def model_columns(rows: Sequence[ModelRow]) -> list[Column[ModelRow]]:
    """The columns that have a value in at least one row, the label first."""
    return used_columns([LABEL, *_COLUMNS, *_accuracy_columns(rows)], rows)


def model_tables(rows: Sequence[ModelRow]) -> list[Table]:
    """One table for each group of columns, narrow enough to read; the first column is the label."""
    columns = model_columns(rows)
    groups = {group: [column for column in columns if column.group == group] for group in GROUPS}
    return [make_table(group, [LABEL, *members], rows) for group, members in groups.items() if members]


def describe_models(rows: Sequence[ModelRow]) -> list[str]:
    """For each model all its values in lines, as a point of a plot shows them on hover."""
    columns = [column for column in model_columns(rows) if column is LABEL or column.group]
    return [describe(columns, row) for row in rows]


def shape_text(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def data_text(row: ModelRow) -> str | None:
    """The dataset of the accuracy; of its path only the last part."""
    accuracy = row.measurement.accuracy
    return f"{Path(accuracy.data).name} {accuracy.split}, {accuracy.images} images" if accuracy else None


def latency_columns(latency: Callable[[T], Latency], *, prefix: str = "", group: str = "") -> list[Column[T]]:
    """Median, p90 and p99. prefix: of the names in a CSV."""

    def percentile_ms(row: T, percent: int) -> float | None:
        return latency(row).percentile_ms(percent) if latency(row).resolves(percent) else None

    return [
        Column(
            f"{prefix}median_ms",
            "median",
            lambda row: latency(row).median_ms,
            unit="ms",
            interval=lambda row: latency(row).interval_ms,
            axis="median latency",
            group=group,
        ),
        Column(f"{prefix}p90_ms", "p90", lambda row: percentile_ms(row, 90), "ms", group=group),
        Column(f"{prefix}p99_ms", "p99", lambda row: percentile_ms(row, 99), "ms", group=group),
    ]


def _details(measurement: Measurement) -> tuple[str, ...]:
    device = measurement.conditions.device
    return shape_text(measurement.input_shape), measurement.precision, measurement.runtime, device


def _is_lower_bound(row: ModelRow) -> bool:
    return bool(row.measurement.cost.uncounted)


def _peak_layer(row: ModelRow) -> str | None:
    memory = row.measurement.memory
    return None if memory is None or memory.live_layer is None else memory.live_layer or "(model)"


def _energy_method(row: ModelRow) -> str | None:
    energy = row.measurement.energy
    if energy is None or energy.figure is None:
        return None
    return energy.figure.method + (f", disputed by {energy.check.method}" if energy.disputed and energy.check else "")


def _disputing_energy(row: ModelRow) -> float | None:
    energy = row.measurement.energy
    return energy.check.energy_j_per_image if energy and energy.disputed and energy.check else None


LABEL = Column[ModelRow]("model", "model", lambda row: row.label)
PARAMETERS = Column[ModelRow](
    "parameters", "params", lambda row: row.measurement.cost.total.parameters, "M", 1e6, group=COUNTS
)
MULTIPLY_ADDS = Column[ModelRow](
    "multiply_adds",
    "multiply-adds",
    lambda row: row.measurement.cost.total.multiply_adds,
    unit="G",
    scale=1e9,
    group=COUNTS,
    at_least=_is_lower_bound,
)
MEMORY_ACCESS = Column[ModelRow](
    "memory_access_cost_elements",
    "memory access",
    lambda row: row.measurement.cost.total.memory_access_cost,
    unit="M elements",
    scale=1e6,
    axis="memory access cost",
    group=COUNTS,
)
FLOPS_PER_BYTE = Column[ModelRow](
    "flops_per_byte",
    "FLOP/byte",
    lambda row: row.measurement.flops_per_byte,
    group=COUNTS,
    at_least=_is_lower_bound,
)
_LATENCY: list[Column[ModelRow]] = latency_columns(lambda row: row.measurement.latency, prefix="latency_", group=TIME)
MEDIAN = _LATENCY[0]
TIME_RATIO = Column[ModelRow](
    "time_ratio",
    "× first",
    lambda row: row.measurement.ratio.median,
    interval=lambda row: None if row.measurement.name == row.measurement.ratio_to else row.measurement.ratio.interval,
    group=TIME,
)
IMAGES_PER_S = Column[ModelRow](
    "images_per_s",
    "images/s",
    lambda row: row.measurement.images_per_s,
    interval=lambda row: row.measurement.images_per_s_interval,
    group=TIME,
)
MULTIPLY_ADDS_PER_S = Column[ModelRow](
    "gmultiply_adds_per_s",
    "G multiply-adds/s",
    lambda row: row.measurement.gmultiply_adds_per_s,
    interval=lambda row: row.measurement.gmultiply_adds_per_s_interval,
    interval_in_tables=False,
    group=EFFICIENCY,
    at_least=_is_lower_bound,
)
FLOPS = Column[ModelRow](
    "gflop_per_s",
    "GFLOP/s",
    lambda row: row.measurement.gflop_per_s,
    interval=lambda row: row.measurement.gflop_per_s_interval,
    interval_in_tables=False,
    group=EFFICIENCY,
    at_least=_is_lower_bound,
)
ENERGY_PER_IMAGE = Column[ModelRow](
    "energy_j_per_image",
    "energy",
    lambda row: row.measurement.energy_j_per_image,
    unit="J/image",
    interval=lambda row: row.measurement.energy_interval_j,
    group=ENERGY,
)


def _memory_column(name: str, title: str) -> Column[ModelRow]:
    return Column(f"memory_{name}", title, lambda row: getattr(row.measurement.memory, name, None), "MiB", group=MEMORY)


_COLUMNS = (
    Column[ModelRow]("runtime", "runtime", lambda row: row.measurement.runtime),
    Column[ModelRow]("device", "device", lambda row: row.measurement.conditions.device_name),
    Column[ModelRow]("threads", "threads", lambda row: row.measurement.conditions.threads),
    Column[ModelRow]("precision", "precision", lambda row: row.measurement.precision),
    Column[ModelRow]("run", "run", lambda row: row.measurement.conditions.run),
    Column[ModelRow]("date", "date", lambda row: row.measurement.conditions.date),
    Column[ModelRow]("input", "input", lambda row: shape_text(row.measurement.input_shape), group=COUNTS),
    PARAMETERS,
    MULTIPLY_ADDS,
    MEMORY_ACCESS,
    Column[ModelRow](
        "memory_access_ratio", "× bound", lambda row: row.measurement.cost.total.memory_access_ratio, group=COUNTS
    ),
    Column[ModelRow](
        "other_elements",
        "other",
        lambda row: row.measurement.cost.total.other_elements,
        unit="M elements",
        scale=1e6,
        group=COUNTS,
    ),
    FLOPS_PER_BYTE,
    *_LATENCY,
    Column[ModelRow]("latency_spread", "spread", lambda row: row.measurement.latency.spread, "%", 0.01, group=TIME),
    TIME_RATIO,
    IMAGES_PER_S,
    MULTIPLY_ADDS_PER_S,
    FLOPS,
    Column[ModelRow](
        "peak_fraction",
        "of peak",
        lambda row: row.measurement.peak_fraction,
        unit="%",
        scale=0.01,
        group=EFFICIENCY,
        at_least=_is_lower_bound,
    ),
    Column[ModelRow](
        "bandwidth_fraction",
        "of bandwidth",
        lambda row: row.measurement.bandwidth_fraction,
        unit="%",
        scale=0.01,
        group=EFFICIENCY,
    ),
    _memory_column("peak_mib", "peak"),
    _memory_column("live_mib", "live tensors"),
    Column[ModelRow]("memory_live_layer", "layer of the peak", _peak_layer, group=MEMORY),
    _memory_column("reserved_mib", "reserved"),
    _memory_column("process_mib", "process"),
    ENERGY_PER_IMAGE,
    Column[ModelRow](
        "above_idle_j_per_image",
        "above idle",
        lambda row: row.measurement.above_idle_j_per_image,
        unit="J/image",
        interval=lambda row: row.measurement.above_idle_interval_j,
        group=ENERGY,
    ),
    Column[ModelRow]("energy_method", "method", _energy_method, group=ENERGY),
    Column[ModelRow]("disputing_j_per_image", "by the other method", _disputing_energy, "J/image", group=ENERGY),
    Column[ModelRow](
        "estimated_j_per_image",
        "estimated, not measured",
        lambda row: row.measurement.estimate.estimated_j_per_image if row.measurement.estimate else None,
        unit="J/image",
        group=ENERGY,
    ),
)


def _accuracy_columns(rows: Sequence[ModelRow]) -> list[Column[ModelRow]]:
    accuracies = [row.measurement.accuracy for row in rows if row.measurement.accuracy]
    names = dict.fromkeys(name for accuracy in accuracies for name in accuracy.figures)
    data = Column[ModelRow]("accuracy_data", "on", data_text, group=ACCURACY)
    return [*map(accuracy_column, names), data]


def accuracy_column(name: str) -> Column[ModelRow]:
    """One of the metrics of the accuracy, such as "VOC07"."""

    def value(row: ModelRow) -> float | None:
        return row.measurement.accuracy.figures.get(name) if row.measurement.accuracy else None

    identifier = "accuracy_" + re.sub(r"\W+", "_", name)
    return Column(identifier, name, value, limits=(0, 1), group=ACCURACY)
