"""Memory access cost: Eq. (1) and its bound, the two networks with a printed cost, and the detectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal

from torch import nn

from vovnet.paper.aggregation.cifar10 import SIDE
from vovnet.paper.aggregation.networks import CIFAR_NETWORKS, AggregationNet, OSABlock
from vovnet.paper.answers import compared_answer
from vovnet.paper.published import CIFAR, TABLE_2, TABLE_4
from vovnet.paper.recomputed import detector_counts
from vovnet.profiling.cost import LayerCost, ModelCost, count_cost
from vovnet.report.document import Section, Table

# (c_in, c_out) of 3×3 layers with nearly the same multiply-adds: of one-shot aggregation and of a dense block.
LAYERS = ((43, 43), (148, 12))

# Which layers the printed costs may count.
READINGS: dict[str, Callable[[LayerCost], bool]] = {
    "3×3 layers of the three blocks": lambda layer: layer.path.startswith("blocks."),
    "3×3 layers of block 1": lambda layer: layer.path.startswith("blocks.0."),
    "3×3 layers of block 2": lambda layer: layer.path.startswith("blocks.1."),
    "3×3 layers of block 3": lambda layer: layer.path.startswith("blocks.2."),
    "transitions": lambda layer: layer.path.startswith("transitions."),
    "blocks and transitions": lambda layer: layer.path.startswith(("blocks.", "transitions.")),
    "whole network": lambda layer: True,
}
COMPARED_READINGS = ("blocks and transitions", "whole network")  # the two that come close to both printed costs


def equation_1(side: int, kernel: int, c_in: int, c_out: int) -> int:
    """The elements that a convolution reads and writes, for a square input and output of `side` pixels."""
    return side**2 * (c_in + c_out) + kernel**2 * c_in * c_out


def bound(side: int, kernel: int, c_in: int, c_out: int) -> float:
    """The least cost with the same number of multiply-adds B: 2·√(h·w·B / k²) + B / (h·w)."""
    multiply_adds = kernel**2 * side**2 * c_in * c_out
    return 2 * math.sqrt(side**2 * multiply_adds / kernel**2) + multiply_adds / side**2


def memory_access_section() -> Section:
    return Section(
        "Memory access cost",
        (
            "Eq. (1): h·w·(c_in + c_out) + k²·c_in·c_out elements. With B multiply-adds it is at least "
            "2·√(h·w·B / k²) + B / (h·w), which is reached if c_in = c_out. The paper calls it MAC.",
            _layer_table(),
            _network_table(),
            "The paper does not say what its two values count. The costs of whole networks, and of their blocks and "
            "transitions, come closest to both. No single rounding rule gives both: DenseNet-40's is rounded, that of "
            "OSA (5/43) is cut. Keeping the number of channels in every transition is our choice; it makes the "
            "multiply-adds of the networks nearly equal, as the paper requires.",
            _detector_table(),
        ),
    )


def _layer_table() -> Table:
    rows = []
    for c_in, c_out in LAYERS:
        counted = _count(nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), channels=c_in).total
        cost, least = equation_1(SIDE, 3, c_in, c_out), bound(SIDE, 3, c_in, c_out)
        assert counted.memory_access_cost == cost
        rows.append([f"3×3, {c_in} → {c_out}", f"{cost:,}", f"{least:,.0f}", f"{cost / least:.3f}"])
    header = [f"layer at {SIDE}×{SIDE}", "Eq. (1)", "bound", "ratio"]
    return Table(header, rows, "Two layers with nearly the same multiply-adds (exact)")


def _network_table() -> Table:
    costs = {row.name: _count(CIFAR_NETWORKS[row.model or ""]()) for row in CIFAR.rows}
    printed = {row.name: row.values.get("memory_access_cost") for row in CIFAR.rows}
    rows, data = [], []
    for reading, is_counted in READINGS.items():
        cells = []
        for name, cost in costs.items():
            value = _memory_access_cost(cost, is_counted)
            text = f"{value:,}"
            if reading in COMPARED_READINGS and printed[name] is not None:
                answer = compared_answer(Decimal(value).scaleb(-6), printed[name], "exact")
                text += f" {answer.kind}" + (f" ({answer.remark})" if answer.remark else "")
            cells.append(text)
            entry = {"reading": reading, "network": name, "memory_access_cost": value, "published_m": printed[name]}
            data.append(entry)
        rows.append([reading, *cells])
    two_transitions = _count(AggregationNet(OSABlock, 5, 43, last_transition=False))
    value = _memory_access_cost(two_transitions, READINGS["blocks and transitions"])
    rows.append(["blocks and two transitions", "as above", f"{value:,}", "–"])
    totals = [cost.total for cost in costs.values()]
    rows.append(["multiply-adds", *(f"{total.multiply_adds:,}" for total in totals)])
    rows.append(["parameters", *(f"{total.parameters:,}" for total in totals)])
    header = ["reading", *(f"{name}, paper {value} M" if value else name for name, value in printed.items())]
    title = "DenseNet-40 and one-shot aggregation on CIFAR-10, input 32×32 (exact)"
    return Table(header, rows, title, data=data)


def _detector_table() -> Table:
    rows = []
    for row in (*TABLE_2.rows, *TABLE_4.rows):
        assert row.model is not None
        counts = detector_counts(row.model)
        millions = f"{counts.memory_access_cost / 1e6:.2f}"
        rows.append([row.model, millions, f"{counts.memory_access_cost / counts.memory_access_bound:.3f}"])
    header = ["detector", "memory access cost (M)", "over its bound"]
    return Table(header, rows, "The detectors of Tables 2 and 4 (exact)")


def _memory_access_cost(cost: ModelCost, is_counted: Callable[[LayerCost], bool]) -> int:
    return sum(layer.memory_access_cost for layer in cost.layers if is_counted(layer))


def _count(network: nn.Module, channels: int = 3) -> ModelCost:
    return count_cost(network, (1, channels, SIDE, SIDE))
