"""Made-up records of `make gpu`, in the format of real ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CARD = "Invented GPU"
OTHER_CARD = "Another GPU"
RUNS = {
    run: {"machine": {"card": card}, "state": "finished", "date": "2026-01-01", "commit": "0" * 40}
    for run, card in (("aa", CARD), ("bb", CARD), ("cc", OTHER_CARD))
}


def times(
    by_model: Mapping[str, float], *, precision: str = "float32", batch: int = 1, run: str = "eager"
) -> dict[str, Any]:
    """A result of interleaved times. by_model: median ms; the first model is the reference."""
    models = {
        model: {
            "median_ms": ms,
            "images_per_s": 1e3 * batch / ms,
            # Within a round the machine is equally fast for all models, so the ratios are those of the medians.
            "times_s": [ms / 1e3 * (1 + 0.01 * (index % 3 - 1)) for index in range(31)],
        }
        for model, ms in by_model.items()
    }
    how = {"precision": precision, "batch": batch, "run_mode": run}
    return {"run": "aa", "key": "k", **how, "reference": next(iter(by_model)), "models": models}


def joules(
    model: str, j_per_image: float, *, precision: str = "float32", batch: int = 1, run: str = "eager"
) -> dict[str, Any]:
    return {
        "run": "aa",
        "key": "k",
        "model": model,
        "precision": precision,
        "batch": batch,
        "run_mode": run,
        "method": "counter",
        "j_per_image": j_per_image,
        "interval_j": [0.99 * j_per_image, 1.01 * j_per_image],
        "trials_j": [0.99 * j_per_image, j_per_image, 1.01 * j_per_image],
        "check": {"method": "sampled", "j_per_image": 1.02 * j_per_image},
        "disputed": False,
    }


def memory(model: str, peak_mib: float) -> dict[str, Any]:
    where = {"run": "aa", "key": "k", "model": model, "precision": "float32", "batch": 1}
    return {**where, "peak_mib": peak_mib, "method": "peak of an invented allocator"}


def count(model: str, multiply_adds: int) -> dict[str, Any]:
    return {"run": "aa", "key": "k", "model": model, "multiply_adds": multiply_adds}


def kernels(model: str, ms: float) -> dict[str, Any]:
    return {"run": "aa", "key": "k", "model": model, "precision": "float32", "batch": 1, "kernels_ms": ms}


V27, D67, V39, D161 = "dsod300_vovnet27_slim", "dsod300_densenet67", "refinedet320_vovnet39", "refinedet320_densenet161"
TABLES = {
    "time lightweight float32 batch one eager": times({V27: 4.0, D67: 8.0, "pelee304": 6.0, "ssd300_mobilenet": 5.0}),
    "time lightweight float32 batch one graph": times({V27: 1.0, D67: 2.5}, run="graph"),
    "time lightweight float32 batch fill eager": times({V27: 20.0, D67: 36.0}, batch=64),
    f"energy {V27} float32 batch one eager": joules(V27, 1.0),
    f"energy {D67} float32 batch one eager": joules(D67, 3.0),
    f"energy {V27} float32 batch one graph": joules(V27, 0.5, run="graph"),
    f"energy {D67} float32 batch one graph": {"run": "aa", "key": "k", "error": "OSError: no joules"},
    f"memory {V27} float32 batch one eager": memory(V27, 123.4),
    f"kernels {V27} float32 batch one graph": kernels(V27, 0.8),
    f"count {V27}": count(V27, 5_663_451_392),
    f"count {D67}": count(D67, 5_297_838_848),
}


def write_stage(records: Path, stage: str, results: Mapping[str, Any], *, rehearsal: bool = False) -> None:
    """records: the folder that holds gpu/."""
    content = {"stage": stage, "rehearsal": rehearsal, "runs": RUNS, "results": dict(results), "missing": {}}
    (records / "gpu").mkdir(parents=True, exist_ok=True)
    (records / "gpu" / f"{stage}.json").write_text(json.dumps(content))
