"""Invented records of measurements and of training runs on blood cells, in the format of real records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vovnet.paper.published import TABLES
from vovnet.profiling.cost import LayerCost, ModelCost
from vovnet.profiling.energy.measured import EnergyResult
from vovnet.profiling.measurement import Measurement, write_measurements
from vovnet.profiling.memory import MemoryUse
from vovnet.profiling.speed import median_ratio

from ..report.measured import CONDITIONS, energy, latency

# Model → median ms, J/image.
TABLE_2 = {
    "ssd300_mobilenet": (20.0, 2.0),
    "pelee304": (30.0, 2.5),
    "dsod300_densenet67": (40.0, 4.0),
    "dsod300_vovnet27_slim": (10.0, 1.0),
}


def write_record(
    folder: Path, table: str, times: Mapping[str, tuple[float, float]], *, device: str = "cuda:0", sensor: bool = True
) -> None:
    """A record in which every model of `times` has 10⁹ multiply-adds, measured in one run.

    times: model → (median ms, J/image).
    """
    first = next(iter(times))
    layers = (LayerCost(path="conv", kind="Conv2d", multiply_adds=10**9),)
    cost = ModelCost("Invented", ((1, 3, 300, 300),), "float32", layers, {}, None)
    # Within a round the machine is equally fast for all models, so the ratios are those of the medians.
    latencies = {model: latency(ms) for model, (ms, _) in times.items()}
    measurements = [
        Measurement(
            model,
            "PyTorch",
            (1, 3, 300, 300),
            "float32",
            cost,
            latencies[model],
            first,
            median_ratio(latencies[model], latencies[first]),
            replace(CONDITIONS, device=device),
            memory=MemoryUse("CUDA allocator", 20.0, 500.0, 400.0, "conv", 510.0, 900.0),
            energy=energy(joules) if sensor else EnergyResult(None, reason="no sensor was invented"),
        )
        for model, (_, joules) in times.items()
    ]
    write_measurements(measurements, folder / f"{table}.json")


def write_study(folder: Path, model: str, map_by_seed: Sequence[float]) -> None:
    """map_by_seed: mAP from 0 to 1, seed 0 first; every class has this AP."""
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
