"""Turn a finished run into shipped weights: `python benchmarks/ship.py runs/bccd_dsod300_vovnet27_slim bccd`.

Takes the best weights on val, converts the convolutions to half precision, and tests these weights once on the test
split. Writes them with the score thresholds of highest F1 on val to src/vovnet/weights/NAME.safetensors, and the
record, the log and the training curve to docs/records. The run must be called like its config; the record holds the
dataset folder of that config.

With --train, the config of that name is trained first; a stopped run goes on.
With --record-only nothing is shipped: the best weights are tested as they are, and only docs/records is written.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from shared import RECORDS, ROOT, for_record, read_log, test_on

from vovnet.cli.evaluate import print_evaluation
from vovnet.cli.output import Output
from vovnet.data.formats import open_dataset
from vovnet.engine.config import load_config
from vovnet.engine.distributed import choose_device
from vovnet.engine.train import train
from vovnet.files import replacing, write_json
from vovnet.profiling.cost import count_multiply_adds, count_parameters
from vovnet.provenance import count_threads, device_name
from vovnet.report.plots import plot_training
from vovnet.report.plotting import save_figure
from vovnet.weights.detector import load_model, save_weights, store_thresholds


def training_seconds(log: list[dict[str, Any]], images: int) -> float:
    """The time of all steps on a dataset of `images` images, from the log; evaluations are not counted."""
    entries = [entry for entry in log if "images_per_s" in entry]
    starts = [0.0, *(entry["epoch"] for entry in entries)]
    intervals = zip(starts, entries, strict=False)
    return sum((entry["epoch"] - start) * images / entry["images_per_s"] for start, entry in intervals)


def train_config(run: Path) -> bool:
    """Train configs/RUN.yaml into the run folder, from its checkpoint if there is one. False if it was stopped."""
    config = load_config(ROOT / "configs" / f"{run.name}.yaml")
    root = ROOT / config.data.root
    data = config.data.model_copy(update={"root": root})
    return train(config.model_copy(update={"data": data, "output": run, "resume": True})).finished


def ship(run: Path, name: str, *, ships: bool, splits: list[str]) -> None:
    best = load_model(run / "best.safetensors")
    model, state = best.model, {}
    if ships:
        state = {key: value.half() if value.ndim == 4 else value for key, value in model.state_dict().items()}
        with tempfile.TemporaryDirectory() as folder:
            save_weights(Path(folder) / "w.safetensors", state, best.info, {})
            model = load_model(Path(folder) / "w.safetensors").model

    config = best.record["config"]
    root = config["data"]["root"]
    root_in_config = str(load_config(ROOT / "configs" / f"{run.name}.yaml").data.root)
    evaluations = {split: test_on(ROOT / root, split, model, best.info) for split in splits}
    for evaluation in evaluations.values():
        print_evaluation(evaluation, Output())
    results = {split: for_record(evaluation, root_in_config) for split, evaluation in evaluations.items()}

    train_images = len(open_dataset(ROOT / root, config["data"]["train"]))
    log = read_log(run)
    threads = config["threads"] or torch.get_num_threads()
    record = {
        "command": f"vovnet train configs/{run.name}.yaml",
        **best.record,
        "config": config | {"data": config["data"] | {"root": root_in_config}, "output": f"runs/{run.name}"},
        "finished_step": log[-1]["step"],
        "train_images": train_images,
        "train_hours": round(training_seconds(log, train_images) / 3600, 2),
        "parameters": count_parameters(model),
        # The operations of a two-stage detector depend on its proposals.
        "multiply_adds": None if model.two_stage else count_multiply_adds(model, model.preprocessing.image_size),
        "trained_on": f"{device_name(choose_device(config['device']))}, {count_threads(threads)}, {platform.machine()}",
        **results,
    }
    if ships:
        shipped = ROOT / "src/vovnet/weights" / f"{name}.safetensors"
        save_weights(shipped, state, best.info, record)
        val = evaluations.get(config["data"]["val"])
        if val is not None:
            store_thresholds(shipped, val.score_thresholds)
    write_json(RECORDS / f"{name}.json", record)
    with replacing(RECORDS / f"{name}.png") as temporary:
        save_figure(plot_training(log), temporary)
    shutil.copy(run / "log.jsonl", RECORDS / f"{name}.log.jsonl")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("name", help="of the weights and the record")
    parser.add_argument("--train", action="store_true", help="train the config of the same name first")
    parser.add_argument("--record-only", action="store_true")
    parser.add_argument("--splits", nargs="+", default=["val", "test"], help="splits to test on")
    args = parser.parse_args()
    if args.train and not train_config(args.run):
        sys.exit("training was stopped; the same command goes on")
    ship(args.run, args.name, ships=not args.record_only, splits=args.splits)
