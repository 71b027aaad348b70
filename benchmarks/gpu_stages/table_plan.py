"""What the stage tables measures, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vovnet.paper.published import TABLES
from vovnet.profiling.number_format import Precision
from vovnet.profiling.runs import Run


@dataclass(frozen=True)
class Group:
    """Models that are timed interleaved; the first is the reference, and the first two are the pair of the claim."""

    name: str
    models: tuple[str, ...]


def groups() -> dict[str, Group]:
    def models(*tables: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.model for table in tables for row in TABLES[table].rows if row.model))

    def first(pair: tuple[str, str], others: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*pair, *others)))

    lightweight = first(("dsod300_vovnet27_slim", "dsod300_densenet67"), models("table2", "table3"))
    refinedet320 = first(("refinedet320_vovnet39", "refinedet320_densenet161"), models("table4"))
    refinedet512 = first(("refinedet512_vovnet39", "refinedet512_resnet101"), models("table7"))
    found = {"lightweight": lightweight, "refinedet320": refinedet320, "refinedet512": refinedet512}
    return {name: Group(name, models) for name, models in found.items()}


@dataclass(frozen=True)
class Step:
    """One measurement. kind: time and fill are of a group, energy, kernels, memory and count of a model, `what`.

    batch: "one", or "fill" for the batch that fills the card.
    """

    kind: str
    what: str
    precision: Precision = "float32"
    batch: str = "one"
    run: Run = "eager"

    @property
    def name(self) -> str:
        if self.kind == "count":
            return f"count {self.what}"
        if self.kind == "fill":
            return f"fill {self.what} {self.precision}"
        return f"{self.kind} {self.what} {self.precision} batch {self.batch} {self.run}"

    @property
    def least_s(self) -> float:
        """What it takes on a fast GPU, rounded up. For a large batch cuDNN searches its algorithms for seconds."""
        if self.kind == "time" and self.batch == "fill":
            return 30.0
        return {"energy": 13.0, "time": 10.0, "fill": 8.0, "memory": 3.0, "count": 2.0, "kernels": 4.0}[self.kind]


def half_of(device: torch.device) -> Precision:
    """float16, which the paper's time had; bfloat16 where a CPU rehearses, since it is slow in float16."""
    return "bfloat16" if device.type == "cpu" else "float16"


def plan(half: Precision) -> list[Step]:
    """All measurements, the most valuable first.

    Joules take longest, so those of the pairs in the two most telling ways come first, and the others after all times.
    Kernels come last: PyTorch's profiler may stay attached and slow down what is measured after it.
    """
    all_groups, names = groups(), ("lightweight", "refinedet320")
    # The paper claims 4.1 × the joules for DenseNet-67 and 1.6 × for ResNet-101, and twice the time for both DenseNets.
    lightweight = all_groups["lightweight"].models[:2]
    refinedet = (*all_groups["refinedet320"].models[:2], "refinedet320_resnet101")
    pairs = (lightweight, refinedet)

    def joules(models: Sequence[str], *runs: Run, precision: Precision = "float32", batch: str = "one") -> list[Step]:
        return [Step("energy", model, precision, batch, run) for run in runs for model in models]

    def times(name: str, precision: Precision = "float32") -> list[Step]:
        return [Step("time", name, precision, run=run) for run in ("eager", "graph")]

    def filled(name: str, precision: Precision = "float32") -> list[Step]:
        return [Step("fill", name, precision), Step("time", name, precision, "fill")]

    steps = [Step("count", model) for group in all_groups.values() for model in group.models]
    steps += times("lightweight") + joules(lightweight, "graph", "eager")
    steps += times("refinedet320") + joules(refinedet, "graph")
    steps += [Step("memory", model) for name in names for model in all_groups[name].models]
    for name in names:
        steps += filled(name)
    for name in names:
        steps += times(name, half)
    steps += times("refinedet512")
    for name in names:
        steps += filled(name, half)
    steps += joules(refinedet, "eager")
    for pair in pairs:
        steps += joules(pair, "eager", batch="fill")
    for pair in pairs:
        steps += joules(pair, "graph", "eager", precision=half) + joules(pair, "eager", precision=half, batch="fill")
    for name in names:
        others = [model for model in all_groups[name].models if not any(model in pair for pair in pairs)]
        steps += joules(others, "graph", "eager") + joules(others, "eager", batch="fill")
    return steps + [Step("kernels", model, run="graph") for pair in pairs for model in pair[:2]]


def rehearsed(steps: list[Step], half: Precision) -> list[Step]:
    """One of each kind, on the small detectors."""
    pair = groups()["lightweight"].models[:2]
    group_steps = [Step("time", "lightweight"), Step("time", "lightweight", run="graph"), Step("fill", "lightweight")]
    group_steps += [Step("time", "lightweight", batch="fill"), Step("time", "lightweight", half)]
    model_steps = [Step("energy", model, run=run) for run in ("eager", "graph") for model in pair]
    model_steps += [
        Step("energy", pair[0], batch="fill"),
        Step("memory", pair[0]),
        Step("kernels", pair[0], run="graph"),
        *(Step("count", m) for m in pair),
    ]
    assert {*group_steps, *model_steps} <= {*steps}
    return [*group_steps, *model_steps]
