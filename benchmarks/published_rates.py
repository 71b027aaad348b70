"""Does training at the published learning rates stay finite with small batches?
`python benchmarks/published_rates.py DATA CONFIG… --record FILE` runs 500 steps of each config on the split "train" of
DATA, with batches of 2 and of 8 images where the paper has 32 or 128: small batches are the noisier ones.

The run is the config's, augmentation included, at the rate of its first step after the warm-up; it ends at the first
loss, gradient or weight that is not finite.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from vovnet.data.formats import open_dataset
from vovnet.engine.config import load_config
from vovnet.engine.train import train
from vovnet.files import replacing
from vovnet.provenance import cpu_and_torch, record_header

STEPS = 500
MEAN_OVER = 50  # steps of the first and last losses


def run(config: str, model: str, data: Path, batch_size: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        given = load_config(
            config,
            [
                f"model={model}",
                "backbone_weights=null",
                f"data={{root: {data}, train: train, val: null}}",
                f"batch_size={batch_size}",
                f"micro_batch_size={batch_size}",
                f"schedule.iterations={STEPS}",
                "log_every=1",
                "checkpoint_every=1000",
                "tensorboard=false",
                "workers=1",
                f"output={folder}/run",
            ],
        )
        stopped = None
        try:
            train(given)
        except FloatingPointError as error:
            stopped = str(error)
        lines = [json.loads(line) for line in (given.output / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines]
    return {
        "config": config,
        "model": model,
        "batch_size": batch_size,
        "learning_rate": lines[-1]["learning_rate"],
        "steps": lines[-1]["step"],
        "stopped": stopped,
        "first_loss": round(statistics.mean(losses[:MEAN_OVER]), 3),
        "last_loss": round(statistics.mean(losses[-MEAN_OVER:]), 3),
        "largest_loss": round(max(losses), 3),
        "losses": [round(loss, 3) for loss in losses],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("configs", nargs="+", metavar="CONFIG[=MODEL]", help="MODEL takes the place of the config's")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--record", type=Path, required=True, help="a JSON file; runs that it has are not run again")
    given = parser.parse_args()
    images = len(open_dataset(given.data, "train"))
    runs = json.loads(given.record.read_text())["runs"] if given.record.exists() else []
    for argument in given.configs:
        config, _, other = argument.partition("=")
        model = other or load_config(config).model
        for batch_size in given.batch_sizes:
            if any((one["config"], one["model"], one["batch_size"]) == (config, model, batch_size) for one in runs):
                continue
            how = {**record_header(), "device": cpu_and_torch()}
            runs.append({**run(config, model, given.data, batch_size), **how})
            record = {
                "command": "python benchmarks/published_rates.py DATA CONFIG…",
                **how,
                "images": images,
                "runs": runs,
            }
            with replacing(given.record) as temporary:
                temporary.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
