"""Does training at the published learning rates stay finite with small batches?
`python benchmarks/published_rates.py DATA CONFIG… --record FILE` runs 500 steps of each config on the split "train" of
DATA, with batches of 2 and 8 images. The paper's batches are larger (24 to 128), and small ones are noisier.

Everything else is as in the config, augmentation and warm-up included. A run ends at the first loss, gradient or
weight that is not finite.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from shared import read_log

from vovnet.data.formats import open_dataset
from vovnet.engine.config import load_config
from vovnet.engine.train import train
from vovnet.files import write_json
from vovnet.provenance import cpu_and_torch, record_header

STEPS = 500
MEAN_OVER = 50  # steps of the first and last losses
SETTINGS = [f"schedule.iterations={STEPS}", "backbone_weights=null", "workers=1"]
SETTINGS += ["log_every=1", "checkpoint_every=1000", "tensorboard=false"]


def run(config: str, model: str, data: Path, batch_size: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"model={model}", f"batch_size={batch_size}", f"micro_batch_size={batch_size}"]
        paths = [f"data={{root: {data}, train: train, val: null}}", f"output={folder}/run"]
        run_config = load_config(config, [*SETTINGS, *settings, *paths])
        stopped = None
        try:
            train(run_config)
        except FloatingPointError as error:
            stopped = str(error)
        log = read_log(run_config.output)
    losses = [entry["loss"] for entry in log]
    return {
        "config": config,
        "model": model,
        "batch_size": batch_size,
        "learning_rate": log[-1]["learning_rate"],
        "steps": log[-1]["step"],
        "stopped": stopped,
        "first_loss": round(statistics.mean(losses[:MEAN_OVER]), 3),
        "last_loss": round(statistics.mean(losses[-MEAN_OVER:]), 3),
        "largest_loss": round(max(losses), 3),
        "losses": [round(loss, 3) for loss in losses],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    model_help = "train MODEL instead of the config's model"
    parser.add_argument("configs", nargs="+", metavar="CONFIG[=MODEL]", help=model_help)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--record", type=Path, required=True, help="JSON file; runs already in it are skipped")
    args = parser.parse_args()
    images = len(open_dataset(args.data, "train"))
    runs = json.loads(args.record.read_text())["runs"] if args.record.exists() else []
    for argument in args.configs:
        config, _, model = argument.partition("=")
        model = model or load_config(config).model
        for batch_size in args.batch_sizes:
            if any((r["config"], r["model"], r["batch_size"]) == (config, model, batch_size) for r in runs):
                continue
            source = {**record_header(), "device": cpu_and_torch()}
            runs.append({**run(config, model, args.data, batch_size), **source})
            command = {"command": "python benchmarks/published_rates.py DATA CONFIG…"}
            write_json(args.record, {**command, **source, "images": images, "runs": runs})


if __name__ == "__main__":
    main()
