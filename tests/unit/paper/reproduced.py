"""Invented records of measurements and of trainings on blood cells, in the form of the real ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vovnet.paper.published import TABLES
from vovnet.profiling.cost import LayerCost, ModelCost
from vovnet.profiling.energy import EnergyResult
from vovnet.profiling.measurement import Measurement, write_measurements
from vovnet.profiling.memory import MemoryUse
from vovnet.profiling.speed import median_ratio

from ..report.measured import CONDITIONS, energy, latency

# Of each model: median ms, J/image.
TABLE_2 = {
    "ssd300_mobilenet": (20.0, 2.0),
    "pelee304": (30.0, 2.5),
    "dsod300_densenet67": (40.0, 4.0),
    "dsod300_vovnet27_slim": (10.0, 1.0),
}


def write_record(
    folder: Path, table: str, times: Mapping[str, tuple[float, float]], *, device: str = "cuda:0", sensor: bool = True
) -> None:
    """One multiply-add G for each model of `times`, in one run."""
    first = next(iter(times))
    layers = (LayerCost(path="conv", kind="Conv2d", multiply_adds=10**9),)
    cost = ModelCost("Invented", ((1, 3, 300, 300),), "float32", layers, {}, None)
    # In each round the machine is alike for all, so the ratios are those of the medians.
    taken = {model: latency(ms) for model, (ms, _) in times.items()}
    measurements = [
        Measurement(
            model,
            "PyTorch",
            (1, 3, 300, 300),
            "float32",
            cost,
            taken[model],
            first,
            median_ratio(taken[model], taken[first]),
            replace(CONDITIONS, device=device),
            memory=MemoryUse("CUDA allocator", 20.0, 500.0, 400.0, "conv", 510.0, 900.0),
            energy=energy(joules) if sensor else EnergyResult(None, reason="no sensor was invented"),
        )
        for model, (_, joules) in times.items()
    ]
    write_measurements(measurements, folder / f"{table}.json")


def write_study(folder: Path, model: str, map_by_seed: Sequence[float]) -> None:
    """map_by_seed: fractions, seed 0 first; all classes have the mean."""
    for seed, value in enumerate(map_by_seed):
        names = ("Platelets", "RBC", "WBC")
        record = {
            "model": model,
            "seed": seed,
            "config": {"schedule": {"epochs": 24.0}, "batch_size": 8, "precision": "bf16"},
            "trained_on": "an invented CPU",
            "parameters": 5_000_000,
            "multiply_adds": 6_000_000_000,
            "memory_access_cost": 27_000_000,
            "test": {
                "voc07_map": value,
                "images": 72,
                "classes": {name: {"voc07_ap": value} for name in names},
            },
        }
        path = folder / "bccd_study" / f"{model}_{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))


def models_of(table: str) -> list[str]:
    return [row.model for row in TABLES[table].rows if row.model]
