"""Turn a finished run into weights that ship: `python benchmarks/ship.py runs/bccd_dsod300_vovnet27_slim bccd`.

The best weights on val, convolutions in half precision, are tested once on the test split, as they ship. Writes
src/vovnet/weights/NAME.safetensors, and to docs/records the record, the log and the curve.

With --record-only nothing ships: the best weights are tested once as they are, and only docs/records is written.
--splits says on which splits; the record has the data's folder as the config of the run's name has it.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import tempfile
from pathlib import Path

import torch

from vovnet.cli.evaluate import print_evaluation
from vovnet.cli.output import Output
from vovnet.data.formats import open_dataset
from vovnet.engine.config import load_config
from vovnet.engine.distributed import choose_device
from vovnet.engine.evaluate import evaluate
from vovnet.files import replacing
from vovnet.profiling.cost import count_multiply_adds, count_parameters
from vovnet.provenance import device_name
from vovnet.report.plots import plot_training
from vovnet.report.plotting import save_figure
from vovnet.weights.checkpoint import load_model, save_weights

ROOT = Path(__file__).parents[1]


def training_seconds(log: list[dict[str, float]], images: int) -> float:
    """The time of all steps on a data set of `images`, as the log's lines give it; evaluations are not counted."""
    losses = [line for line in log if "images_per_s" in line]
    starts = [0.0, *(line["epoch"] for line in losses)]
    return sum((b["epoch"] - a) * images / b["images_per_s"] for a, b in zip(starts, losses, strict=False))


def ship(run: Path, name: str, ships: bool, splits: list[str]) -> None:
    weights, records = ROOT / "src/vovnet/weights" / f"{name}.safetensors", ROOT / "docs/records"
    best = load_model(run / "best.safetensors")
    model, state = best.model, {}
    if ships:
        state = {key: value.half() if value.ndim == 4 else value for key, value in model.state_dict().items()}
        with tempfile.TemporaryDirectory() as folder:
            save_weights(Path(folder) / "w.safetensors", state, best.info, {})
            model = load_model(Path(folder) / "w.safetensors").model

    config = best.record["config"]
    root, stated = config["data"]["root"], str(load_config(ROOT / "configs" / f"{run.name}.yaml").data.root)
    results = {}
    for split in splits:
        dataset = open_dataset(ROOT / root, split, class_names=best.info.class_names, masks=model.masks)
        evaluation = evaluate(model, dataset, device="cpu", workers=0)
        print_evaluation(evaluation, Output())
        # Speed is for a quiet machine to measure, and the folder is as the config names it.
        results[split] = {k: v for k, v in evaluation.to_dict().items() if k != "images_per_s"} | {"data": stated}

    train_images = len(open_dataset(ROOT / root, config["data"]["train"]))
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    record = {
        "command": f"vovnet train configs/{run.name}.yaml",
        **best.record,
        "config": config | {"data": config["data"] | {"root": stated}, "output": f"runs/{run.name}"},
        "finished_step": log[-1]["step"],
        "train_images": train_images,
        "train_hours": round(training_seconds(log, train_images) / 3600, 2),
        "parameters": count_parameters(model),
        # What a two-stage detector does depends on what it finds.
        "multiply_adds": None if model.two_stage else count_multiply_adds(model, model.preprocessing.image_size),
        "trained_on": f"{device_name(choose_device(config['device']))}, "
        f"{config['threads'] or torch.get_num_threads()} threads, {platform.machine()}",
        **results,
    }
    if ships:
        save_weights(weights, state, best.info, record)
    with replacing(records / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")
    with replacing(records / f"{name}.png") as temporary:
        save_figure(plot_training(log), temporary)
    shutil.copy(run / "log.jsonl", records / f"{name}.log.jsonl")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--record-only", action="store_true")
    parser.add_argument("--splits", nargs="+", default=["val", "test"])
    given = parser.parse_args()
    ship(given.run, given.name, not given.record_only, given.splits)
