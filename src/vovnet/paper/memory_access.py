"""Memory access cost: Eq. (1) and its lower bound, the two networks with a printed cost, and the detectors."""

from __future__ import annotations

import math
from decimal import Decimal

from torch import nn

from vovnet.paper.aggregation.cifar10 import SIDE
from vovnet.paper.aggregation.networks import CIFAR_NETWORKS, AggregationNet
from vovnet.paper.answers import compared_answer
from vovnet.paper.published import TABLES
from vovnet.paper.recomputed import detector_cost
from vovnet.profiling.cost import count_cost
from vovnet.profiling.cost_types import ModelCost
from vovnet.report.document import Section, Table

# (c_in, c_out) of 3×3 layers with nearly the same multiply-adds: of one-shot aggregation and of a dense block.
LAYERS = ((43, 43), (148, 12))

# What the printed costs may count: the layers with one of these prefixes in their path.
READINGS = {
    "3×3 layers of the three blocks": ("blocks.",),
    "3×3 layers of block 1": ("blocks.0.",),
    "3×3 layers of block 2": ("blocks.1.",),
    "3×3 layers of block 3": ("blocks.2.",),
    "transitions": ("transitions.",),
    "blocks and transitions": ("blocks.", "transitions."),
    "whole network": ("",),
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
    layers = []
    for c_in, c_out in LAYERS:
        cost, least = equation_1(SIDE, 3, c_in, c_out), bound(SIDE, 3, c_in, c_out)
        counted = _count(nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), channels=c_in).total
        assert counted.memory_access_cost == cost
        layers.append([f"3×3, {c_in} → {c_out}", f"{cost:,}", f"{least:,.0f}", f"{cost / least:.3f}"])
    detectors = []
    for row in (*TABLES["table2"].rows, *TABLES["table4"].rows):
        total = detector_cost(row.model)
        ratio = total.memory_access_cost / total.memory_access_bound
        detectors.append([row.model, f"{total.memory_access_cost / 1e6:.2f}", f"{ratio:.3f}"])
    return Section(
        "Memory access cost",
        (
            "By Eq. (1), a convolution reads and writes h·w·(c_in + c_out) + k²·c_in·c_out elements. With B "
            "multiply-adds, the lower bound is 2·√(h·w·B / k²) + B / (h·w), reached if c_in = c_out. The paper calls "
            "this cost MAC.",
            Table(
                [f"layer at {SIDE}×{SIDE}", "Eq. (1)", "lower bound", "relative to lower bound"],
                layers,
                "Two layers with nearly the same multiply-adds (exact)",
            ),
            _network_table(),
            "The paper does not say what its two values count. The costs of whole networks, and of blocks plus "
            "transitions, come closest to both values. No single rounding rule reproduces both: the value for "
            "DenseNet-40 is rounded, that of OSA (5/43) is truncated. We chose transitions that keep the "
            "number of channels; this makes the multiply-adds of DenseNet-40 and OSA (5/43) nearly equal, as "
            "the paper requires.",
            Table(
                ["detector", "memory access cost (M elements)", "relative to lower bound"],
                detectors,
                "The detectors of Tables 2 and 4 (exact)",
            ),
        ),
    )


def _network_table() -> Table:
    networks = TABLES["cifar"].rows
    costs = [_count(CIFAR_NETWORKS[network.model]()) for network in networks]
    printed = [network.values.get("memory_access_cost") for network in networks]
    rows, data = [], []
    for reading in READINGS:
        cells = []
        for network, cost, published in zip(networks, costs, printed, strict=True):
            value = _memory_access_cost(cost, reading)
            cells.append(f"{value:,}")
            if reading in COMPARED_READINGS and published is not None:
                cells[-1] += f" {compared_answer(Decimal(value).scaleb(-6), published, 'exact').mark}"
            entry = {"reading": reading, "network": network.name, "memory_access_cost": value}
            data.append({**entry, "published_m": published})
        rows.append([reading, *cells])
    two_transitions = _count(AggregationNet(5, 43, dense=False, last_transition=False))
    value = _memory_access_cost(two_transitions, "blocks and transitions")
    rows.append(["blocks and two transitions", "as above", f"{value:,}", "–"])
    rows.append(["multiply-adds", *(f"{cost.total.multiply_adds:,}" for cost in costs)])
    rows.append(["parameters", *(f"{cost.total.parameters:,}" for cost in costs)])
    header = [f"{n.name}, paper {value} M" if value else n.name for n, value in zip(networks, printed, strict=True)]
    title = "DenseNet-40 and one-shot aggregation on CIFAR-10, input 32×32 (exact)"
    return Table(["what is counted", *header], rows, title, data=data)


def _memory_access_cost(cost: ModelCost, reading: str) -> int:
    return sum(layer.memory_access_cost for layer in cost.layers if layer.path.startswith(READINGS[reading]))


def _count(network: nn.Module, channels: int = 3) -> ModelCost:
    return count_cost(network, (1, channels, SIDE, SIDE))
