"""Layers of a model as rows and columns, and neighbouring layers summed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vovnet.profiling.cost import LayerCost
from vovnet.report.document import Table
from vovnet.report.model_tables import ModelRow, shape_text
from vovnet.report.table import Column, make_table


@dataclass(frozen=True)
class LayerRow:
    """A layer, the label of its model and, if it was timed, its time and its share of the time of all layers."""

    model: str
    cost: LayerCost
    element_bytes: int
    seconds: float | None
    share: float | None

    @property
    def path(self) -> str:
        return self.cost.path or "(model)"

    @property
    def flops_per_byte(self) -> float | None:
        return self.cost.flops_per_byte(self.element_bytes)

    @property
    def gflop_per_s(self) -> float | None:
        return self.cost.flops / self.seconds / 1e9 if self.seconds else None


@dataclass(frozen=True)
class LayerGroup:
    """Layers whose paths start alike, to be summed."""

    label: str
    layers: Sequence[LayerRow]

    @property
    def time_ms(self) -> float | None:
        times = [layer.seconds for layer in self.layers if layer.seconds is not None]
        return 1e3 * sum(times) if times else None

    @property
    def multiply_adds(self) -> int:
        return sum(layer.cost.multiply_adds for layer in self.layers)

    @property
    def memory_access_cost(self) -> int:
        return sum(layer.cost.memory_access_cost for layer in self.layers)

    @property
    def other_elements(self) -> int:
        return sum(layer.cost.other_elements for layer in self.layers)


def layer_rows(row: ModelRow) -> list[LayerRow]:
    """The layers of a model in the order of their calls."""
    measurement = row.measurement
    times = measurement.layer_seconds or (None,) * len(measurement.cost.layers)
    total = sum(measurement.layer_seconds or ())
    layers = []
    for cost, seconds in zip(measurement.cost.layers, times, strict=True):
        share = seconds / total if seconds is not None and total else None
        layers.append(LayerRow(row.label, cost, measurement.cost.element_bytes, seconds, share))
    return layers


def layer_table(rows: Sequence[ModelRow]) -> Table:
    """The layers of all models, model by model."""
    return make_table("Layers", LAYER_COLUMNS, [layer for row in rows for layer in layer_rows(row)])


def group_layers(row: ModelRow, at_most: int = 40) -> list[LayerGroup]:
    """Layers in order, summed by the longest prefix of their paths that leaves no more than `at_most` groups.

    If even the first part of the paths leaves more, neighbouring groups are summed, equally many each.
    """
    layers = layer_rows(row)
    groups: dict[str, list[LayerRow]] = {}
    for name, layer in zip(_group_names([layer.cost.path for layer in layers], at_most), layers, strict=True):
        groups.setdefault(name, []).append(layer)
    return [LayerGroup(name or "(model)", members) for name, members in groups.items()]


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


_PATH = Column[LayerRow]("path", "layer", lambda row: row.path)
_KIND = Column[LayerRow]("kind", "kind", lambda row: row.cost.kind)
LAYER_FLOPS_PER_BYTE = Column[LayerRow]("flops_per_byte", "FLOP/byte", lambda row: row.flops_per_byte)
LAYER_SHARE = Column[LayerRow]("time_share", "of the time", lambda row: row.share, "%", 0.01)
LAYER_FLOPS = Column[LayerRow]("gflop_per_s", "GFLOP/s", lambda row: row.gflop_per_s)
LAYER_COLUMNS = (
    Column[LayerRow]("model", "model", lambda row: row.model),
    _PATH,
    _KIND,
    Column[LayerRow]("output", "output", lambda row: ", ".join(map(shape_text, row.cost.output_shapes)) or None),
    Column[LayerRow]("parameters", "params", lambda row: row.cost.parameters, "k", 1e3),
    Column[LayerRow]("multiply_adds", "multiply-adds", lambda row: row.cost.multiply_adds, "M", 1e6),
    Column[LayerRow](
        "memory_access_cost_elements", "memory access", lambda row: row.cost.memory_access_cost, "k elements", 1e3
    ),
    Column[LayerRow]("memory_access_ratio", "× bound", lambda row: row.cost.memory_access_ratio),
    Column[LayerRow]("other_elements", "other", lambda row: row.cost.other_elements, "k elements", 1e3),
    LAYER_FLOPS_PER_BYTE,
    Column[LayerRow]("time_ms", "time", lambda row: None if row.seconds is None else 1e3 * row.seconds, "ms"),
    LAYER_SHARE,
    LAYER_FLOPS,
)
ROOFLINE_COLUMNS = (_PATH, _KIND, LAYER_SHARE, LAYER_FLOPS_PER_BYTE, LAYER_FLOPS)

GROUP_LABEL = Column[LayerGroup]("path", "layer", lambda group: group.label)
GROUP_TIME = Column[LayerGroup]("time_ms", "time", lambda group: group.time_ms, "ms")
GROUP_MULTIPLY_ADDS = Column[LayerGroup]("multiply_adds", "multiply-adds", lambda group: group.multiply_adds, "M", 1e6)
GROUP_MEMORY_ACCESS = Column[LayerGroup](
    "memory_access_cost_elements", "memory access", lambda group: group.memory_access_cost, "M elements", 1e6
)
GROUP_OTHER = Column[LayerGroup](
    "other_elements", "other memory access", lambda group: group.other_elements, "M elements", 1e6
)
