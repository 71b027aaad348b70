"""Compare detectors on blood cells with equal budgets, and the 1×1 bottleneck of Table 3 over several seeds:
`python benchmarks/bccd_study.py [MODEL:SEED …]`.

Each run is trained with configs/bccd_study.yaml. The weights that are best on val are tested once on the test images,
and docs/records/bccd_study/MODEL_SEED.json is written. An interrupted run continues, and a recorded one is skipped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from shared import RECORDS, ROOT, for_record, read_log, test_on

from vovnet.engine.config import load_config
from vovnet.engine.distributed import choose_device
from vovnet.engine.train import train
from vovnet.files import write_json
from vovnet.profiling.cost import count_cost, count_parameters
from vovnet.provenance import count_threads, device_name
from vovnet.weights.detector import load_model

CONFIG = ROOT / "configs/bccd_study.yaml"
# Platelets are about 20 of 300 pixels wide, so DSOD uses its smaller default boxes; the others have only one set.
OPTIONS = {
    "dsod300_vovnet27_slim": "{anchors: coco}",
    "dsod300_vovnet27_slim_bottleneck": "{anchors: coco}",
    "dsod300_densenet67": "{anchors: coco}",
    "pelee304": "{}",
    "ssd300_mobilenet": "{}",
}
ABLATION = list(OPTIONS)[:2]
RUNS = [f"{model}:{seed}" for seed in (0, 1, 2) for model in OPTIONS if seed == 0 or model in ABLATION]


def run(model: str, seed: int, threads: int, runs: Path) -> dict[str, Any]:
    settings = [f"model={model}", f"model_options={OPTIONS[model]}", f"seed={seed}", f"threads={threads}"]
    output = runs / f"bccd_study_{model}_{seed}"
    config = load_config(CONFIG, [*settings, f"data.root={ROOT / 'samples/bccd'}", f"output={output}", "resume=true"])
    if not train(config).finished:
        sys.exit(f"stopped; the same command continues the run in {output}")
    log = read_log(output)
    best = load_model(output / "best.safetensors")
    evaluation = test_on(config.data.root, "test", best.model, best.info)
    device = device_name(choose_device(config.device))
    cost = count_cost(best.model, (1, 3, *best.model.preprocessing.image_size)).total
    record = {**best.record, "command": "python benchmarks/bccd_study.py", "model": model, "seed": seed}
    record["config"] |= {"data": record["config"]["data"] | {"root": "samples/bccd"}, "output": f"runs/{output.name}"}
    return record | {
        "finished_step": log[-1]["step"],
        "val": [[line["epoch"], line["val_voc07_map"]] for line in log if "val_voc07_map" in line],
        "loss": [[line["epoch"], line["loss"]] for line in log if "loss" in line],
        "parameters": count_parameters(best.model),
        "multiply_adds": cost.multiply_adds,
        "memory_access_cost": cost.memory_access_cost,
        "trained_on": f"{device}, {count_threads(threads)}, torch {torch.__version__}",
        "test": for_record(evaluation, "samples/bccd"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", default=RUNS, metavar="MODEL:SEED")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=ROOT / "runs", help="folder for the training runs")
    args = parser.parse_args()
    for name in args.runs:
        model, _, seed = name.partition(":")
        path = RECORDS / "bccd_study" / f"{model}_{seed}.json"
        if not path.exists():
            write_json(path, run(model, int(seed), args.threads, args.output))


if __name__ == "__main__":
    main()
