"""Measurements with counted costs of real small models and invented times, energies and accuracies."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torchvision
from torch import nn

import vovnet
from vovnet.profiling.cost import ModelCost, count_cost
from vovnet.profiling.energy.estimate import estimate
from vovnet.profiling.energy.measured import EnergyResult, MethodResult
from vovnet.profiling.energy.sensors import Source
from vovnet.profiling.measurement import Accuracy, Conditions, Measurement
from vovnet.profiling.memory import MemoryUse
from vovnet.profiling.peak import DevicePeak
from vovnet.profiling.speed import Latency, median_ratio
from vovnet.profiling.surroundings import Surroundings

SHAPE = (1, 3, 64, 64)
CONDITIONS = Conditions(
    run="1a2b3c4d",
    date="2026-01-02T03:04:05+00:00",
    device="cuda:0",
    device_name="Invented GPU",
    threads=2,
    system="Linux x86_64, Python 3.11.9",
    software={"vovnet": "0.3.0", "torch": "2.14.0"},
    peak=DevicePeak("float32", 900.0, 60.0),
    surroundings=Surroundings(12.0, 0.4, (1410.0, 1410.0), (50.0, 61.0), ("another process kept 0.4 cores busy",)),
)
# name: median ms, J/image, AP, MiB
FIGURES = {
    "vovnet27_slim": (1.4, 0.9, 0.748, 25.0),
    "resnet18": (1.9, 1.7, 0.700, 61.0),
    "mobilenet_v3_small": (2.7, 2.3, 0.680, 12.0),
}


@cache
def cost_of(name: str) -> ModelCost:
    build = torchvision.models.get_model_builder(name) if name in torchvision.models.list_models() else None
    module: nn.Module = build() if build else vovnet.create_backbone(name)
    return count_cost(module, SHAPE)


def latency(median_ms: float, seed: int = 0, repetitions: int = 40) -> Latency:
    noise = random.Random(seed)
    return Latency(tuple(median_ms * noise.lognormvariate(0, 0.03) / 1e3 for _ in range(repetitions)))


def energy(j_per_image: float, *, disputed: bool = False) -> EnergyResult:
    def figure(joules: float, method: str) -> MethodResult:
        return MethodResult(
            method=method,  # type: ignore[arg-type]
            source=Source(f"NVML {method}", "as invented"),
            energy_j_per_image=joules,
            energy_interval_j=(0.96 * joules, 1.04 * joules),
            above_idle_j_per_image=0.6 * joules,
            above_idle_interval_j=(0.55 * joules, 0.65 * joules),
            power_w=64.0,
            idle_power_w=(20.0, 20.5),
            samples_per_trial=0,
            trials_j_per_image=(joules,) * 5,
        )

    check = figure(j_per_image * (1.3 if disputed else 1.01), "sampled")
    return EnergyResult(j_per_image, 700.0, figure(j_per_image, "counter"), check, disputed)


def bare_measurements() -> list[Measurement]:
    """Costs and times only."""
    times = {name: latency(ms, seed) for seed, (name, (ms, *_)) in enumerate(FIGURES.items())}
    first = next(iter(times))
    return [
        Measurement(
            name, "PyTorch", SHAPE, "float32", cost_of(name), one, first, median_ratio(one, times[first]), CONDITIONS
        )
        for name, one in times.items()
    ]


def measurements() -> list[Measurement]:
    """Everything that can be known of a model."""
    full = []
    for one in bare_measurements():
        median_ms, joules, ap, mib = FIGURES[one.name]
        total = one.cost.total
        work = [
            layer.multiply_adds / 2e5 + (layer.memory_access_cost + layer.other_elements) / 1e4
            for layer in one.cost.layers
        ]
        full.append(
            replace(
                one,
                layer_seconds=tuple(0.9e-3 * median_ms * part / sum(work) for part in work),
                memory=MemoryUse(
                    "CUDA allocator", mib / 2, mib, 0.9 * mib, one.cost.layers[4].path, mib + 8, mib + 400
                ),
                energy=energy(joules),
                estimate=estimate(total.multiply_adds, 4.0 * total.memory_access_cost),
                batches={size: latency(median_ms * (0.4 + 0.6 * size), size) for size in (1, 2, 4, 8)},
                stages={
                    "decode image": latency(2.1),
                    "pre-process": latency(0.4),
                    "network": latency(median_ms),
                    "decode + NMS": latency(0.8),
                },
                accuracy=Accuracy("VOC 2007", "test", 4952, {"VOC07": ap, "AP": ap / 2}),
            )
        )
    return full


def in_two_runs(rows: Sequence[Measurement]) -> list[Measurement]:
    """Each eagerly and as a graph that takes 0.4 times as long, side by side."""
    graphs = [latency(0.4 * row.latency.median_ms, seed=40 + index) for index, row in enumerate(rows)]
    both = []
    for row, graph in zip(rows, graphs, strict=True):
        eager = replace(row, run_ratio=median_ratio(row.latency, row.latency), run_ratio_to="eager")
        changes = {"latency": graph, "ratio": median_ratio(graph, graphs[0]), "layer_seconds": None, "stages": None}
        run_ratio = median_ratio(graph, row.latency)
        both += [eager, replace(eager, run="graph", run_ratio=run_ratio, **changes)]  # type: ignore[arg-type]
    return both
