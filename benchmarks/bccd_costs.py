"""Measure together what the detectors trained on blood cells cost: `python benchmarks/bccd_costs.py`.

A detector's accuracy is in the record of its training. Its speed does not depend on its weights, so it is built with
random ones. All are timed in one run, because only such times can be compared. Writes bccd_costs.json in docs/records,
from which `make results` draws the Pareto front. Keep the machine otherwise idle.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from bccd_front import COSTS, trained
from shared import RECORDS

from vovnet import create_model
from vovnet.files import write_json
from vovnet.profiling.measure import measure_models
from vovnet.provenance import record_header

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=100, help="timed passes of each detector")
    args = parser.parse_args()
    models: dict[str, Any] = {one.name: create_model(one.model, one.classes, **one.options) for one in trained(RECORDS)}
    shapes = {name: (1, 3, *model.preprocessing.image_size) for name, model in models.items()}
    measured = measure_models(
        models, shapes, device=torch.device("cpu"), repetitions=args.repetitions, memory=False, on_step=print
    )
    values = {"measurements": [measurement.to_dict() for measurement in measured]}
    write_json(RECORDS / COSTS, {"command": "python benchmarks/bccd_costs.py", **record_header(), **values})
    for one in measured:
        print(f"{one.name}: {one.latency.median_ms:.1f} ms")
