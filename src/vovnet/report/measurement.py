"""Measurements as tables, sentences and a folder of files. The columns are defined here once, for all of these."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vovnet.files import replacing
from vovnet.profiling.cost import LayerCost
from vovnet.profiling.measurement import Measurement, write_measurements
from vovnet.profiling.speed import Latency
from vovnet.report.table import Column, ColumnTable, escape_markdown, make_table

COUNTS, TIME, EFFICIENCY, MEMORY, ENERGY, ACCURACY = GROUPS = (
    "Counts of one pass",
    "Time",
    "Computation efficiency",
    "Memory",
    "Energy",
    "Accuracy",
)


def columns(measurements: Sequence[Measurement]) -> list[Column[Measurement]]:
    """All columns for which some of these have a value; "model" is the first, then group by group as in `GROUPS`."""
    names = labels(measurements)
    name_of = {id(one): name for one, name in zip(measurements, names, strict=True)}
    model = Column[Measurement]("model", "model", lambda one: name_of[id(one)])
    return list(make_table("", [model, *_COLUMNS, *_accuracy_columns(measurements)], measurements).columns)


def full_table(measurements: Sequence[Measurement]) -> ColumnTable[Measurement]:
    """One row a model, all columns."""
    return ColumnTable("Models", tuple(columns(measurements)), tuple(measurements))


def tables(measurements: Sequence[Measurement]) -> list[ColumnTable[Measurement]]:
    """A table for each group of columns, narrow enough to be read; the first column is the model."""
    model, *others = columns(measurements)
    parts = [(group, [column for column in others if column.group == group]) for group in GROUPS]
    return [ColumnTable(group, (model, *part), tuple(measurements)) for group, part in parts if part]


def part_table(measurements: Sequence[Measurement]) -> ColumnTable[PartRow]:
    """A row for each batch size of a sweep and each stage that was timed; without any the table has no rows."""
    rows = []
    for one, name in zip(measurements, labels(measurements), strict=True):
        for size, latency in sweep(one).items():
            rows.append(PartRow(name, f"batch size {size}", latency, size / latency.median_ms * 1e3))
        for stage, latency in (one.stages or {}).items():
            rows.append(PartRow(name, stage, latency, None))
    return make_table("Batch sizes and stages", _PART_COLUMNS, rows)


def sweep(one: Measurement) -> dict[int, Latency]:
    """Batch size → time, in order, with the batch of the run itself; empty where no other size was timed."""
    return dict(sorted({one.input_shape[0]: one.latency, **one.batches}.items())) if one.batches else {}


def layer_table(measurements: Sequence[Measurement]) -> ColumnTable[LayerRow]:
    """One row for each layer of each model, in the order of the calls."""
    return make_table("Layers", _LAYER_COLUMNS, layer_rows(measurements))


def remarks(measurements: Sequence[Measurement]) -> list[str]:
    """Sentences on what the tables hold for: machine, software, input, methods, why figures are absent, all doubts."""
    said: list[str] = []
    runs = {one.conditions.run: one.conditions for one in measurements}
    for run, where in runs.items():
        software = ", ".join(f"{name} {version}" for name, version in where.software.items())
        threads = f"{where.threads} thread{'' if where.threads == 1 else 's'}"
        device = f"{where.device_name} ({where.device}), {threads}, {where.system}; {software}"
        said.append(f"Measured on {device}; {where.date}, run {run}.")
        if where.peak:
            peak = f"{where.peak.gflop_per_s:.4g} GFLOP/s and {where.peak.gbyte_per_s:.4g} GB/s"
            said.append(f"Peak of this device, measured, {where.peak.precision}: {peak}.")
    if len(runs) > 1:
        said.append("These are of several runs; only times of one run make fair ratios.")
    said += _each(measurements, lambda one: f"{one.runtime}, {one.precision}, input {shape_text(one.input_shape)}.")
    said += _each(measurements, lambda one: f"× first is the time over that of {one.ratio_to}, pair by pair.")
    said.append("Counts are for the whole batch.")
    said += _each(measurements, _intervals)
    said += _each(measurements, lambda one: one.cost.note and f"counts: {one.cost.note}.")
    said += _each(measurements, _uncounted)
    said += _each(measurements, _memory)
    said += _each(measurements, _energy)
    said += _each(measurements, lambda one: str(one.estimate) if one.estimate else None)
    said += [f"Doubt: {doubt}" for where in runs.values() for doubt in where.surroundings.doubts]
    return said


def to_markdown(measurements: Sequence[Measurement]) -> str:
    """The tables and the remarks, without a title of their own."""
    parts = [f"### {table.title}\n\n{table.to_markdown()}" for table in tables(measurements)]
    if (timed := part_table(measurements)).items:
        parts.append(f"### {timed.title}\n\n{timed.to_markdown()}")
    lines = [f"- {escape_markdown(line)}\n" for remark in remarks(measurements) for line in remark.splitlines()]
    return "\n".join([*parts, f"### Conditions\n\n{''.join(lines)}"])


def write_csv(table: ColumnTable[Measurement] | ColumnTable[LayerRow], path: str | Path) -> None:
    """Raw numbers with units in the header; whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(table.to_csv(), encoding="utf-8")


def write_measurement_report(measurements: Sequence[Measurement], folder: str | Path) -> None:
    """Write into `folder` measurement.json, .csv, .md and .html, layers.csv and plots as .png and .svg.

    What an earlier report left there is replaced. Raises ValueError without a measurement.
    """
    from vovnet.report.measurement_plots import write_plots
    from vovnet.report.page import write_page

    if not measurements:
        raise ValueError("a report needs at least one measurement, got none")
    folder = Path(folder)
    write_measurements(measurements, folder / "measurement.json")
    write_csv(full_table(measurements), folder / "measurement.csv")
    write_csv(layer_table(measurements), folder / "layers.csv")
    with replacing(folder / "measurement.md") as temporary:
        temporary.write_text(to_markdown(measurements), encoding="utf-8")
    write_plots(measurements, folder)
    write_page(measurements, folder / "measurement.html")


def labels(measurements: Sequence[Measurement]) -> list[str]:
    """Names of the models; those that several have are told apart by what differs, at last by their place."""
    found = []
    for place, one in enumerate(measurements, start=1):
        twins = [other for other in measurements if other.name == one.name]
        details = [
            [shape_text(twin.input_shape), twin.precision, twin.runtime, twin.conditions.device] for twin in twins
        ]
        differing = [part for part in range(4) if len({detail[part] for detail in details}) > 1]
        mine = details[[id(twin) for twin in twins].index(id(one))]
        label = " ".join([one.name, *(mine[part] for part in differing)])
        alike = sum(all(detail[part] == mine[part] for part in differing) for detail in details)
        found.append(label if alike == 1 else f"{label} #{place}")
    return found


def shape_text(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _each(measurements: Sequence[Measurement], say: Callable[[Measurement], str | None]) -> list[str]:
    """What is to be said of each model, said once where it holds for all, else with the names in front."""
    models: dict[str, list[str]] = {}
    for one, name in zip(measurements, labels(measurements), strict=True):
        if sentence := say(one):
            models.setdefault(sentence, []).append(name)
    if len(models) == 1 and len(next(iter(models.values()))) == len(measurements):
        return [sentence[0].upper() + sentence[1:] for sentence in models]
    return [f"{', '.join(names)}: {sentence}" for sentence, names in models.items()]


def _intervals(one: Measurement) -> str:
    passes = len(one.latency.seconds)
    if passes < 6:  # see `median_interval`
        return f"in parentheses: for times the range of all {passes} passes, too few for a 95 % interval."
    return "in parentheses: 95 % intervals."


def _percentile_ms(latency: Latency, percent: int) -> float | None:
    """None where so few passes were timed that it would only be the longest of them."""
    return latency.percentile_ms(percent) if len(latency.seconds) * (100 - percent) >= 100 else None


def _uncounted(one: Measurement) -> str | None:
    calls = ", ".join(f"{name} ({count}×)" for name, count in one.cost.uncounted.items())
    return f"arithmetic not counted: {calls}; figures with ≥ are lower bounds." if calls else None


def _memory(one: Measurement) -> str | None:
    if one.memory is None:
        return None
    absent = f"; no peak: {one.memory.reason}" if one.memory.peak_mib is None else ""
    return f"memory: {one.memory.method}{absent}."


def _energy(one: Measurement) -> str:
    if one.energy is None:
        return "energy was not measured, as it was not asked for."
    return f"{one.energy}" if one.energy.figure is None else f"energy: {one.energy}"


def _energy_interval(one: Measurement) -> tuple[float, float] | None:
    return one.energy.figure.energy_interval_j if one.energy and one.energy.figure else None


def _above_idle(one: Measurement) -> float | None:
    return one.energy.figure.above_idle_j_per_image if one.energy and one.energy.figure else None


def _above_idle_interval(one: Measurement) -> tuple[float, float] | None:
    return one.energy.figure.above_idle_interval_j if one.energy and one.energy.figure else None


def _check(one: Measurement) -> float | None:
    disputed = one.energy is not None and one.energy.disputed and one.energy.check
    return disputed.energy_j_per_image if disputed else None


def _energy_method(one: Measurement) -> str | None:
    if one.energy is None or one.energy.figure is None:
        return None
    disputed = f", disputed by {one.energy.check.method}" if one.energy.disputed and one.energy.check else ""
    return one.energy.figure.method + disputed


def _images_per_s_interval(one: Measurement) -> tuple[float, float]:
    fast, slow = one.latency.interval_ms
    return one.input_shape[0] / slow * 1e3, one.input_shape[0] / fast * 1e3


def _live_layer(one: Measurement) -> str | None:
    if one.memory is None or one.memory.live_layer is None:
        return None
    return one.memory.live_layer or "(model)"


def _is_lower_bound(one: Measurement) -> bool:
    return bool(one.cost.uncounted)


_COLUMNS: tuple[Column[Measurement], ...] = (
    Column("runtime", "runtime", lambda one: one.runtime),
    Column("device", "device", lambda one: one.conditions.device_name),
    Column("threads", "threads", lambda one: one.conditions.threads),
    Column("precision", "precision", lambda one: one.precision),
    Column("run", "run", lambda one: one.conditions.run),
    Column("date", "date", lambda one: one.conditions.date),
    Column("input", "input", lambda one: shape_text(one.input_shape), group=COUNTS),
    Column("parameters", "params", lambda one: one.cost.total.parameters, "M", 1e6, group=COUNTS),
    Column(
        "multiply_adds",
        "multiply-adds",
        lambda one: one.cost.total.multiply_adds,
        "G",
        1e9,
        group=COUNTS,
        at_least=_is_lower_bound,
    ),
    Column(
        "memory_access_cost_elements",
        "memory access",
        lambda one: one.cost.total.memory_access_cost,
        "M elements",
        1e6,
        group=COUNTS,
    ),
    Column("memory_access_ratio", "× bound", lambda one: one.cost.total.memory_access_ratio, group=COUNTS),
    Column("other_elements", "other", lambda one: one.cost.total.other_elements, "M elements", 1e6, group=COUNTS),
    Column("flops_per_byte", "FLOP/byte", lambda one: flops_per_byte(one), group=COUNTS, at_least=_is_lower_bound),
    Column(
        "latency_median_ms",
        "median",
        lambda one: one.latency.median_ms,
        "ms",
        interval=lambda one: one.latency.interval_ms,
        group=TIME,
    ),
    Column("latency_p90_ms", "p90", lambda one: _percentile_ms(one.latency, 90), "ms", group=TIME),
    Column("latency_p99_ms", "p99", lambda one: _percentile_ms(one.latency, 99), "ms", group=TIME),
    Column("latency_spread", "spread", lambda one: one.latency.spread, "%", 0.01, group=TIME),
    Column(
        "time_ratio",
        "× first",
        lambda one: one.ratio.median,
        interval=lambda one: None if one.name == one.ratio_to else one.ratio.interval,
        group=TIME,
    ),
    Column(
        "images_per_s",
        "images/s",
        lambda one: one.images_per_s,
        interval=_images_per_s_interval,
        group=TIME,
    ),
    Column(
        "gmultiply_adds_per_s",
        "G multiply-adds/s",
        lambda one: one.gmultiply_adds_per_s,
        group=EFFICIENCY,
        at_least=_is_lower_bound,
    ),
    Column("gflop_per_s", "GFLOP/s", lambda one: one.gflop_per_s, group=EFFICIENCY, at_least=_is_lower_bound),
    Column(
        "peak_fraction", "of peak", lambda one: one.peak_fraction, "%", 0.01, group=EFFICIENCY, at_least=_is_lower_bound
    ),
    Column("bandwidth_fraction", "of bandwidth", lambda one: one.bandwidth_fraction, "%", 0.01, group=EFFICIENCY),
    Column("memory_peak_mib", "peak", lambda one: one.memory.peak_mib if one.memory else None, "MiB", group=MEMORY),
    Column(
        "memory_live_mib", "live tensors", lambda one: one.memory.live_mib if one.memory else None, "MiB", group=MEMORY
    ),
    Column("memory_live_layer", "layer of the peak", _live_layer, group=MEMORY),
    Column(
        "memory_reserved_mib",
        "reserved",
        lambda one: one.memory.reserved_mib if one.memory else None,
        "MiB",
        group=MEMORY,
    ),
    Column(
        "memory_process_mib", "process", lambda one: one.memory.process_mib if one.memory else None, "MiB", group=MEMORY
    ),
    Column(
        "energy_j_per_image",
        "energy",
        lambda one: one.energy_j_per_image,
        "J/image",
        interval=_energy_interval,
        group=ENERGY,
    ),
    Column(
        "above_idle_j_per_image",
        "above idle",
        _above_idle,
        "J/image",
        interval=_above_idle_interval,
        group=ENERGY,
    ),
    Column("energy_method", "method", _energy_method, group=ENERGY),
    Column("disputing_j_per_image", "by the other method", _check, "J/image", group=ENERGY),
    Column(
        "estimated_j_per_image",
        "estimated, not measured",
        lambda one: one.estimate.estimated_j_per_image if one.estimate else None,
        "J/image",
        group=ENERGY,
    ),
)


def flops_per_byte(one: Measurement) -> float | None:
    return one.cost.total.flops_per_byte(one.cost.element_bytes)


def _accuracy_columns(measurements: Sequence[Measurement]) -> list[Column[Measurement]]:
    known = [one.accuracy for one in measurements if one.accuracy]
    names = list(dict.fromkeys(name for accuracy in known for name in accuracy.figures))
    return [
        *(Column[Measurement](_identifier(name), name, _figure_getter(name), group=ACCURACY) for name in names),
        Column("accuracy_data", "on", accuracy_data, group=ACCURACY),
    ]


def accuracy_data(one: Measurement) -> str | None:
    """What the accuracy holds for; of a path to the data only its last part."""
    found = one.accuracy
    return f"{Path(found.data).name} {found.split}, {found.images} images" if found else None


def _identifier(name: str) -> str:
    return "accuracy_" + re.sub(r"\W+", "_", name)


def _figure_getter(name: str) -> Callable[[Measurement], float | None]:
    return lambda one: one.accuracy.figures.get(name) if one.accuracy else None


@dataclass(frozen=True)
class PartRow:
    """The time of a model at another batch size, or of a stage."""

    model: str
    part: str
    latency: Latency
    images_per_s: float | None


_PART_COLUMNS: tuple[Column[PartRow], ...] = (
    Column("model", "model", lambda row: row.model),
    Column("part", "part", lambda row: row.part),
    Column(
        "median_ms", "median", lambda row: row.latency.median_ms, "ms", interval=lambda row: row.latency.interval_ms
    ),
    Column("p90_ms", "p90", lambda row: _percentile_ms(row.latency, 90), "ms"),
    Column("p99_ms", "p99", lambda row: _percentile_ms(row.latency, 99), "ms"),
    Column("images_per_s", "images/s", lambda row: row.images_per_s),
)


@dataclass(frozen=True)
class LayerRow:
    """A layer, its model's name, and its time with the share of all layers' times, where it was measured."""

    model: str
    cost: LayerCost
    element_bytes: int
    seconds: float | None
    share: float | None

    @property
    def flops_per_byte(self) -> float | None:
        return self.cost.flops_per_byte(self.element_bytes)

    @property
    def gflop_per_s(self) -> float | None:
        return self.cost.flops / self.seconds / 1e9 if self.seconds else None


def layer_rows(measurements: Sequence[Measurement]) -> list[LayerRow]:
    rows = []
    for one, name in zip(measurements, labels(measurements), strict=True):
        times = one.layer_seconds or (None,) * len(one.cost.layers)
        whole = sum(one.layer_seconds or ())
        for cost, seconds in zip(one.cost.layers, times, strict=True):
            share = seconds / whole if seconds is not None and whole else None
            rows.append(LayerRow(name, cost, one.cost.element_bytes, seconds, share))
    return rows


_LAYER_COLUMNS: tuple[Column[LayerRow], ...] = (
    Column("model", "model", lambda row: row.model),
    Column("path", "layer", lambda row: row.cost.path or "(model)"),
    Column("kind", "kind", lambda row: row.cost.kind),
    Column("output", "output", lambda row: ", ".join(map(shape_text, row.cost.output_shapes)) or None),
    Column("parameters", "params", lambda row: row.cost.parameters, "k", 1e3),
    Column("multiply_adds", "multiply-adds", lambda row: row.cost.multiply_adds, "M", 1e6),
    Column("memory_access_cost_elements", "memory access", lambda row: row.cost.memory_access_cost, "k elements", 1e3),
    Column("memory_access_ratio", "× bound", lambda row: row.cost.memory_access_ratio),
    Column("other_elements", "other", lambda row: row.cost.other_elements, "k elements", 1e3),
    Column("flops_per_byte", "FLOP/byte", lambda row: row.flops_per_byte),
    Column("time_ms", "time", lambda row: None if row.seconds is None else 1e3 * row.seconds, "ms"),
    Column("time_share", "of the time", lambda row: row.share, "%", 0.01),
    Column("gflop_per_s", "GFLOP/s", lambda row: row.gflop_per_s),
)
