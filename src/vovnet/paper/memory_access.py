"""Memory access cost: Eq. (1) and its bound, and the two networks of which the paper prints it."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal

from torch import nn

from vovnet.paper.cifar_networks import CIFAR_NETWORKS, AggregationNet, OSABlock
from vovnet.paper.published import CIFAR, TABLE_2, TABLE_4, PublishedRow
from vovnet.paper.rounding import check
from vovnet.paper.structure import counts
from vovnet.profiling.cost import LayerCost, ModelCost, count_cost
from vovnet.report.document import Section, Table

SIDE = 32
# (c_in, c_out) of 3×3 layers with nearly the same multiply-adds: of one-shot aggregation, of a dense block.
LAYERS = ((43, 43), (148, 12))
Choose = Callable[[LayerCost], bool]
READINGS: dict[str, Choose] = {
    "3×3 layers of the three blocks": lambda layer: layer.path.startswith("blocks."),
    "3×3 layers of block 1": lambda layer: layer.path.startswith("blocks.0."),
    "3×3 layers of block 2": lambda layer: layer.path.startswith("blocks.1."),
    "3×3 layers of block 3": lambda layer: layer.path.startswith("blocks.2."),
    "transitions": lambda layer: layer.path.startswith("transitions."),
    "blocks and transitions": lambda layer: layer.path.startswith(("blocks.", "transitions.")),
    "whole network": lambda layer: True,
}
COMPARED = ("blocks and transitions", "whole network")  # the readings that come near both printed figures


def equation_1(side: int, kernel: int, c_in: int, c_out: int) -> int:
    return side**2 * (c_in + c_out) + kernel**2 * c_in * c_out


def bound(side: int, kernel: int, c_in: int, c_out: int) -> float:
    """The least cost of as many multiply-adds B: 2·√(h·w·B / k²) + B / (h·w)."""
    multiply_adds = kernel**2 * side**2 * c_in * c_out
    return 2 * math.sqrt(side**2 * multiply_adds / kernel**2) + multiply_adds / side**2


def memory_access() -> Section:
    return Section(
        "Memory access cost",
        (
            "Eq. (1): h·w·(c_in + c_out) + k²·c_in·c_out elements, at least 2·√(h·w·B / k²) + B / (h·w) for B "
            "multiply-adds, reached where c_in = c_out. The paper calls it MAC.",
            _equation_table(),
            *_networks(),
            _detector_table(),
        ),
    )


def _equation_table() -> Table:
    rows = []
    for c_in, c_out in LAYERS:
        counted = count_cost(nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), (1, c_in, SIDE, SIDE)).total
        least = bound(SIDE, 3, c_in, c_out)
        by_hand = equation_1(SIDE, 3, c_in, c_out)
        assert counted.memory_access_cost == by_hand
        rows.append([f"3×3, {c_in} → {c_out}", f"{by_hand:,}", f"{least:,.0f}", f"{by_hand / least:.3f}"])
    header = [f"layer at {SIDE}×{SIDE}", "Eq. (1)", "bound", "ratio"]
    return Table(header, rows, "Two layers of nearly the same multiply-adds (exact)")


def _networks() -> tuple[Table | str, ...]:
    costs = {row.name: _cost(row) for row in CIFAR.rows}
    printed = {row.name: row.figures.get("memory_access_cost") for row in CIFAR.rows}
    rows, data = [], []
    for reading, choose in READINGS.items():
        cells = []
        for name, cost in costs.items():
            value = sum(layer.memory_access_cost for layer in cost.layers if choose(layer))
            text = f"{value:,}"
            if reading in COMPARED and printed[name] is not None:
                answer = check(Decimal(value).scaleb(-6), printed[name], "exact")
                text += f" {answer.kind}" + (f" ({answer.remark})" if answer.remark else "")
            cells.append(text)
            counted = {"reading": reading, "network": name, "memory_access_cost": value}
            data.append({**counted, "published_m": printed[name]})
        rows.append([reading, *cells])
    few = sum(
        layer.memory_access_cost
        for layer in _count(AggregationNet(OSABlock, 5, 43, last_transition=False)).layers
        if READINGS["blocks and transitions"](layer)
    )
    rows.append(["blocks and two transitions", "as above", f"{few:,}", "–"])
    header = ["reading", *(f"{name}, paper {figure} M" if figure else name for name, figure in printed.items())]
    others = ["multiply-adds", "parameters"]
    rows += [[key, *(f"{getattr(cost.total, key.replace('-', '_')):,}" for cost in costs.values())] for key in others]
    table = Table(header, rows, "DenseNet-40 and one-shot aggregation on CIFAR-10, input 32×32 (exact)", (), data)
    text = (
        "The paper does not say what its two figures count. Of all readings those of whole networks come nearest to "
        "both, and no one rule of rounding gives both: DenseNet-40's is rounded, that of OSA (5/43) is cut. That each "
        "transition keeps its number of channels is a choice of ours, by which the multiply-adds of the networks are "
        "nearly equal, as the paper wants them."
    )
    return table, text


def _detector_table() -> Table:
    rows = []
    for row in (*TABLE_2.rows, *TABLE_4.rows):
        assert row.model is not None
        found = counts(row.model)
        millions = f"{found.memory_access_cost / 1e6:.2f}"
        rows.append([row.model, millions, f"{found.memory_access_cost / found.memory_access_bound:.3f}"])
    header = ["detector", "memory access cost (M)", "over its bound"]
    return Table(header, rows, "The detectors of Tables 2 and 4 (exact)")


def _cost(row: PublishedRow) -> ModelCost:
    assert row.model is not None
    return _count(CIFAR_NETWORKS[row.model]())


def _count(network: nn.Module) -> ModelCost:
    return count_cost(network, (1, 3, SIDE, SIDE))
