"""What a part of an ONNX graph costs: rows of nodes, and what the rows leave out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from vovnet.errors import listed
from vovnet.profiling.cost_types import Cost, LayerCost, Shape

# Of a graph the positions of the nodes around it; of an array the place of its graph, and its name.
Place = tuple[Any, ...]


@dataclass(frozen=True)
class Row:
    """What a node costs, without its parameters.

    weights: the arrays that it works with, and their elements.
    format: name of the number format of the input, if the node is a product.
    """

    path: str
    kind: str
    cost: Cost
    weights: Mapping[Place, int] = field(default_factory=dict)
    format: str | None = None
    input_shapes: tuple[Shape, ...] = ()
    output_shapes: tuple[Shape, ...] = ()


@dataclass
class Tally:
    """uncounted: as in `ModelCost`. Then the paths of nodes whose sizes are not known, of If nodes whose larger branch
    is counted, of loops of which one pass is counted, and of NMS that is counted with all boxes that it may select."""

    rows: list[Row] = field(default_factory=list)
    uncounted: Counter[str] = field(default_factory=Counter)
    unsized: dict[str, None] = field(default_factory=dict)  # in order, each once
    larger: dict[str, None] = field(default_factory=dict)
    once: dict[str, None] = field(default_factory=dict)
    most: dict[str, None] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        self.rows += other.rows
        self.uncounted += other.uncounted
        self.unsized |= other.unsized
        self.larger |= other.larger
        self.once |= other.once
        self.most |= other.most

    @property
    def cost(self) -> Cost:
        return sum((row.cost for row in self.rows), Cost())

    def repeated(self, times: int) -> Tally:
        """The tally of that many passes, each with the same parameters."""
        uncounted = Counter({name: times * count for name, count in self.uncounted.items() if times})
        rows = [replace(row, cost=_times(row.cost, times)) for row in self.rows]
        return replace(self, rows=rows, uncounted=uncounted) if times else Tally(rows)

    def note(self) -> str | None:
        """A sentence about what limits the counts."""
        sentences = (
            (
                "the sizes of these nodes do not follow from the shape of the input, so they are not counted",
                self.unsized,
            ),
            ("the larger branch of these nodes is counted, since which one runs depends on values", self.larger),
            ("one pass of these loops is counted, since the number of passes depends on values", self.once),
            ("the most boxes that these nodes may select are counted, since how many depends on values", self.most),
        )
        return "; ".join(f"{sentence}: {listed(paths, 5)}" for sentence, paths in sentences if paths) or None

    def layers(self) -> tuple[LayerCost, ...]:
        """The first row with an array has its parameters."""
        counted: set[Place] = set()
        layers = []
        for row in self.rows:
            parameters = sum(size for place, size in row.weights.items() if place not in counted)
            counted |= row.weights.keys()
            cost = row.cost + Cost(parameters=parameters)
            if cost != Cost():
                shapes = {"input_shapes": row.input_shapes, "output_shapes": row.output_shapes}
                layers.append(LayerCost(path=row.path, kind=row.kind, **vars(cost) | shapes))
        return tuple(layers)


def merged(passes: Iterable[Tally]) -> Tally:
    """The tally of several passes of the same graph, with one row for each node."""
    total = Tally()
    for tally in passes:
        total.add(tally)
    rows: dict[tuple[str, str], Row] = {}
    for row in total.rows:
        first = rows.setdefault((row.path, row.kind), replace(row, cost=Cost()))
        rows[row.path, row.kind] = replace(first, cost=first.cost + row.cost, weights={**first.weights, **row.weights})
    total.rows = list(rows.values())
    return total


def _times(cost: Cost, times: int) -> Cost:
    return Cost(*(times * getattr(cost, column.name) for column in fields(Cost)))
