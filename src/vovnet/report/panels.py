"""What the plots of measurements show, as numbers. They are drawn in measurement_plots.py and in page.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from vovnet.profiling.measurement import Measurement
from vovnet.report.measurement import accuracy_data, flops_per_byte, labels, layer_rows

Interval = tuple[float, float]
ROOF_NOTE = "Roof: the best of a matrix product. Another kernel can do better and lie above it."


@dataclass(frozen=True)
class Quantity:
    """Something on an axis; its interval is that of the measured part, its limits are of what it can be."""

    label: str
    value: Callable[[Measurement], float | None]
    interval: Callable[[Measurement], Interval | None] = lambda one: None
    limits: Interval | None = None


@dataclass(frozen=True)
class Point:
    """A model; `place` is its place in the list, which gives its colour and shape in every plot."""

    place: int
    label: str
    x: float
    y: float
    x_interval: Interval | None
    y_interval: Interval | None


@dataclass(frozen=True)
class Panel:
    title: str
    x_label: str
    y_label: str
    points: tuple[Point, ...]
    y_limits: Interval | None = None


@dataclass(frozen=True)
class Roof:
    """What a device reaches at best: min(gflop_per_s, FLOP/byte × gbyte_per_s)."""

    label: str
    gflop_per_s: float
    gbyte_per_s: float


@dataclass(frozen=True)
class LayerPoint:
    """A layer with products in the roofline of its model; `share` is its part of the time of all layers."""

    path: str
    kind: str
    flops_per_byte: float
    gflop_per_s: float
    share: float


@dataclass(frozen=True)
class LayerGroup:
    """Layers whose paths begin alike, summed. `time_ms` is None where layers were not timed."""

    label: str
    time_ms: float | None
    multiply_adds: int
    memory_access_cost: int
    other_elements: int


def _over_time(work: float, one: Measurement) -> Interval:
    fast_ms, slow_ms = one.latency.interval_ms
    return work / slow_ms, work / fast_ms


IMAGES_PER_S = Quantity("images/s", lambda one: one.images_per_s, lambda one: _over_time(1e3 * one.input_shape[0], one))
EFFICIENCY = Quantity(  # the paper's, which calls multiply-adds FLOPs
    "G multiply-adds/s",
    lambda one: one.gmultiply_adds_per_s or None,  # 0 where no product could be counted
    lambda one: _over_time(one.cost.total.multiply_adds / 1e6, one),
)
ENERGY = Quantity(
    "J/image",
    lambda one: one.energy_j_per_image,
    lambda one: one.energy.figure.energy_interval_j if one.energy and one.energy.figure else None,
)
TIME = Quantity("time (ms)", lambda one: one.latency.median_ms, lambda one: one.latency.interval_ms)
MEMORY_ACCESS = Quantity("memory access cost (M elements)", lambda one: one.cost.total.memory_access_cost / 1e6)
INTENSITY = Quantity("FLOP/byte", lambda one: flops_per_byte(one) or None)
SPEED = Quantity(
    "GFLOP/s",
    lambda one: one.gflop_per_s or None,
    lambda one: _over_time(2 * one.cost.total.multiply_adds / 1e6, one),
)


def tradeoff_panels(measurements: Sequence[Measurement]) -> list[Panel]:
    """The panels of the paper's Figures 3 and 4 for which there is data.

    Where no accuracy is known, efficiency against images/s and time against memory access cost stand in for those with
    accuracy. Accuracies on different data do not share an axis: the figure that most models have is shown.
    """
    accuracy = _accuracy(measurements)
    pairs = (
        [(IMAGES_PER_S, accuracy), (EFFICIENCY, accuracy), (ENERGY, accuracy)]
        if accuracy
        else [(IMAGES_PER_S, EFFICIENCY), (MEMORY_ACCESS, TIME)]
    )
    panels = [_panel("", x, y, measurements) for x, y in [*pairs, (ENERGY, EFFICIENCY)]]
    shown = [panel for panel in panels if panel.points]
    return [replace(panel, title=f"({letter})") for letter, panel in zip("abcd", shown, strict=False)]


def roofline_panel(measurements: Sequence[Measurement]) -> tuple[Panel, list[Roof]]:
    """One point a model, and one roof for each device, precision and run in which the peak was measured."""
    known = [one.conditions for one in measurements if one.conditions.peak]
    roofs = {}
    for where in known:
        assert where.peak is not None
        name = f"{where.device_name}, {where.peak.precision}"
        roofs[where.run, name] = Roof(name, where.peak.gflop_per_s, where.peak.gbyte_per_s)
    return _panel("Roofline", INTENSITY, SPEED, measurements), list(roofs.values())


def layer_points(measurement: Measurement) -> list[LayerPoint]:
    """The layers with products; none where layers were not timed."""
    return [
        LayerPoint(row.cost.path, row.cost.kind, row.flops_per_byte, row.gflop_per_s, row.share)
        for row in layer_rows([measurement])
        if row.share and row.flops_per_byte and row.gflop_per_s
    ]


def group_layers(measurement: Measurement, at_most: int = 40) -> list[LayerGroup]:
    """Layers in order, summed by as long a beginning of their paths as leaves at most this many groups.

    Where even the first part of the paths leaves more, equally many neighbours are summed.
    """
    rows = layer_rows([measurement])
    paths = [row.cost.path.split(".") for row in rows]
    names: list[str] = []
    for depth in range(max(map(len, paths), default=1), 0, -1):
        names = [".".join(path[:depth]) for path in paths]
        if len(set(names)) <= at_most:
            break
    else:
        order = {name: place for place, name in enumerate(dict.fromkeys(names))}
        size = -(-len(order) // at_most)
        firsts = list(order)[::size]
        names = [f"{firsts[order[name] // size]} …" for name in names]
    grouped: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        grouped.setdefault(name, []).append(index)
    timed = measurement.layer_seconds is not None
    return [
        LayerGroup(
            label=name or "(model)",
            time_ms=1e3 * sum(rows[index].seconds or 0.0 for index in members) if timed else None,
            multiply_adds=sum(rows[index].cost.multiply_adds for index in members),
            memory_access_cost=sum(rows[index].cost.memory_access_cost for index in members),
            other_elements=sum(rows[index].cost.other_elements for index in members),
        )
        for name, members in grouped.items()
    ]


def _panel(title: str, x: Quantity, y: Quantity, measurements: Sequence[Measurement]) -> Panel:
    points = []
    for place, (one, label) in enumerate(zip(measurements, labels(measurements), strict=True)):
        across, up = x.value(one), y.value(one)
        if across is not None and up is not None:
            points.append(Point(place, label, across, up, x.interval(one), y.interval(one)))
    return Panel(title, x.label, y.label, tuple(points), y.limits)


def _accuracy(measurements: Sequence[Measurement]) -> Quantity | None:
    known = [(name, _data_of(one)) for one in measurements if one.accuracy for name in one.accuracy.figures]
    if not known:
        return None
    name, data = Counter(known).most_common(1)[0][0]

    def value(one: Measurement) -> float | None:
        return one.accuracy.figures.get(name) if one.accuracy and _data_of(one) == data else None

    label = next(accuracy_data(one) for one in measurements if _data_of(one) == data)
    return Quantity(f"{name}, {label}", value, limits=(0, 1))


def _data_of(one: Measurement) -> tuple[str, str, int] | None:
    """Folders of one name can hold different data, so it is the whole path that tells them apart."""
    return (one.accuracy.data, one.accuracy.split, one.accuracy.images) if one.accuracy else None
