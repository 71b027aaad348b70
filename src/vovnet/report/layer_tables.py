"""Layers of a model as rows and columns, and neighbouring layers summed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from vovnet.profiling.cost import Cost, LayerCost
from vovnet.profiling.measurement import Measurement
from vovnet.report.document import Table
from vovnet.report.model_tables import shape_text
from vovnet.report.table import Column, make_table


@dataclass(frozen=True)
class LayerRow:
    """A layer, or several in one; if it was timed, with its time and its share of the time of all layers.

    lower_bound: whether its multiply-adds and its memory access cost are lower bounds.
    """

    model: str
    cost: LayerCost
    element_bytes: int
    seconds: float | None
    share: float | None
    lower_bound: bool

    @property
    def path(self) -> str:
        return self.cost.path or "(model)"

    @property
    def time_ms(self) -> float | None:
        return None if self.seconds is None else 1e3 * self.seconds

    @property
    def memory_access_ratio(self) -> float | None:
        return None if self.lower_bound else self.cost.memory_access_ratio

    @property
    def flops_per_byte(self) -> float | None:
        return self.cost.flops_per_byte(self.element_bytes)

    @property
    def gflop_per_s(self) -> float | None:
        return self.cost.flops / self.seconds / 1e9 if self.seconds else None


def with_own_layers(rows: Sequence[Measurement]) -> list[Measurement]:
    """The measurements without other runs of the same model, whose layers are the same; the eager run has times."""
    eager = {row.conditions.run for row in rows if row.run == "eager"}
    return [
        row
        for row in rows
        if row.run_ratio_to is None or row.run == ("eager" if row.conditions.run in eager else row.run_ratio_to)
    ]


def layer_rows(measurement: Measurement) -> list[LayerRow]:
    """The layers of a model in the order of their calls."""
    cost = measurement.cost
    times = measurement.layer_seconds or (None,) * len(cost.layers)
    total = sum(measurement.layer_seconds or ())
    # Records of earlier versions do not say which layers the uncounted operations belong to: it may be any.
    unknown = cost.is_lower_bound and not any(layer.uncounted_calls for layer in cost.layers)
    return [
        LayerRow(
            model=measurement.name,
            cost=layer,
            element_bytes=cost.element_bytes,
            seconds=time,
            share=time / total if time is not None and total else None,
            lower_bound=unknown or layer.uncounted_calls > 0,
        )
        for layer, time in zip(cost.layers, times, strict=True)
    ]


def layer_table(measurements: Iterable[Measurement]) -> Table:
    """The layers of all models, model by model."""
    return make_table("Layers", LAYER_COLUMNS, [layer for row in measurements for layer in layer_rows(row)])


def group_layers(measurement: Measurement, at_most: int = 40) -> list[LayerRow]:
    """Layers in order, summed by the longest prefix of their paths that leaves no more than `at_most` groups.

    If even the first part of the paths leaves more, neighbouring groups are summed, equally many each.
    """
    layers = layer_rows(measurement)
    groups: dict[str, list[LayerRow]] = {}
    for name, layer in zip(_group_names([layer.cost.path for layer in layers], at_most), layers, strict=True):
        groups.setdefault(name, []).append(layer)
    return [_sum(name, members) for name, members in groups.items()]


def _group_names(paths: Sequence[str], at_most: int) -> list[str]:
    """The name of each layer's group."""
    parts = [path.split(".") for path in paths]
    names: list[str] = []
    for depth in range(max(map(len, parts), default=1), 0, -1):
        names = [".".join(part[:depth]) for part in parts]
        if len(set(names)) <= at_most:
            return names
    order = {name: index for index, name in enumerate(dict.fromkeys(names))}
    size = -(-len(order) // at_most)
    firsts = list(order)[::size]
    return [f"{firsts[order[name] // size]} …" for name in names]


def _sum(path: str, layers: Sequence[LayerRow]) -> LayerRow:
    cost = LayerCost(path=path, kind="", **asdict(sum((layer.cost for layer in layers), Cost())))
    seconds = [layer.seconds for layer in layers if layer.seconds is not None]
    shares = [layer.share for layer in layers if layer.share is not None]
    return replace(
        layers[0],
        cost=cost,
        seconds=sum(seconds) if seconds else None,
        share=sum(shares) if shares else None,
        lower_bound=any(layer.lower_bound for layer in layers),
    )


def _is_lower_bound(row: LayerRow) -> bool:
    return row.lower_bound


def _misses_elements(row: LayerRow) -> bool:
    return row.cost.unsized_calls > 0


LayerColumn = Column[LayerRow]
LAYER_PATH = LayerColumn("path", "layer", lambda row: row.path)
_KIND = LayerColumn("kind", "kind", lambda row: row.cost.kind)
LAYER_MULTIPLY_ADDS = LayerColumn(
    "multiply_adds", "multiply-adds", lambda row: row.cost.multiply_adds, "M", 1e6, at_least=_is_lower_bound
)
LAYER_MEMORY_ACCESS = LayerColumn(
    "memory_access_cost_elements",
    "memory access",
    lambda row: row.cost.memory_access_cost,
    unit="k elements",
    scale=1e3,
    at_least=_is_lower_bound,
)
LAYER_OTHER = LayerColumn(
    "other_elements", "other", lambda row: row.cost.other_elements, "k elements", 1e3, at_least=_misses_elements
)
LAYER_FLOPS_PER_BYTE = LayerColumn(
    "flops_per_byte", "FLOP/byte", lambda row: row.flops_per_byte, at_least=_is_lower_bound
)
LAYER_TIME = LayerColumn("time_ms", "time", lambda row: row.time_ms, "ms")
LAYER_SHARE = LayerColumn("time_share", "of the time", lambda row: row.share, "%", 0.01)
LAYER_FLOPS = LayerColumn("gflop_per_s", "GFLOP/s", lambda row: row.gflop_per_s, at_least=_is_lower_bound)
LAYER_COLUMNS = (
    LayerColumn("model", "model", lambda row: row.model),
    LAYER_PATH,
    _KIND,
    LayerColumn("output", "output", lambda row: ", ".join(map(shape_text, row.cost.output_shapes)) or None),
    LayerColumn("parameters", "params", lambda row: row.cost.parameters, "k", 1e3),
    LAYER_MULTIPLY_ADDS,
    LAYER_MEMORY_ACCESS,
    LayerColumn("memory_access_ratio", "× lower bound", lambda row: row.memory_access_ratio),
    LAYER_OTHER,
    LAYER_FLOPS_PER_BYTE,
    LAYER_TIME,
    LAYER_SHARE,
    LAYER_FLOPS,
    LayerColumn("uncounted_calls", "uncounted calls", lambda row: f"{row.cost.uncounted_calls or ''}" or None),
)
ROOFLINE_COLUMNS = (LAYER_PATH, _KIND, LAYER_SHARE, LAYER_FLOPS_PER_BYTE, LAYER_FLOPS)
GROUP_MEMORY_ACCESS = replace(LAYER_MEMORY_ACCESS, unit="M elements", scale=1e6)
GROUP_OTHER = replace(LAYER_OTHER, title="other memory access", unit="M elements", scale=1e6)
