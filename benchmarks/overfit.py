"""Does a detector learn at all? `python benchmarks/overfit.py DATA:SPLIT MODEL… --record FILE` trains it on a handful
of images, always the same batch without augmentation, until it finds what is in them.

The record holds every model's losses and the mAP at IoU 0.5 (VOC, area under the curve) whenever it was taken.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from vovnet import create_model
from vovnet.data.dataset import DetectionDataset
from vovnet.data.formats import open_dataset
from vovnet.data.images import read_image
from vovnet.engine.config import LossConfig, OptimizerConfig
from vovnet.engine.criterion import make_criterion
from vovnet.engine.optimizer import make_optimizer, set_learning_rate
from vovnet.engine.train import source_commit
from vovnet.files import replacing
from vovnet.metrics.voc import evaluate_voc

TARGET = 0.95
WARMUP_STEPS = 10
STEPS_BETWEEN_TESTS = 10


def overfit(
    name: str, dataset: DetectionDataset, options: dict[str, Any], side: int | None, rate: float, steps: int
) -> dict[str, Any]:
    """Losses and mAP of training on all images of `dataset` at once; ends at TARGET or after `steps`.

    side: of the network's input, where it is not the model's own; RefineDet takes any multiple of 64.
    """
    torch.manual_seed(0)
    classes = len(dataset.class_names)
    model = create_model(name, classes, **options).to(memory_format=torch.channels_last)
    if side is not None:
        model.preprocessing = replace(model.preprocessing, image_size=(side, side))
    height, width = model.preprocessing.image_size
    images, sizes, targets = [], [], []
    for sample in dataset:
        image = read_image(sample.image_path)
        sizes.append((image.shape[1], image.shape[2]))
        images.append(model.preprocessing.resize(image))
        scale = torch.tensor([width / image.shape[2], height / image.shape[1]] * 2)
        targets.append(sample.target.with_boxes(sample.target.boxes * scale))
    batch = model.preprocessing.normalize(torch.stack(images))

    criterion = make_criterion(model, LossConfig())
    optimizer = make_optimizer(model, OptimizerConfig(learning_rate=rate))
    log: list[dict[str, float]] = []
    started = time.perf_counter()
    for step in range(1, steps + 1):
        model.train()
        set_learning_rate(optimizer, rate * min(1, step / WARMUP_STEPS))
        losses = criterion(model(batch), targets)
        loss = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10, error_if_nonfinite=True)
        optimizer.step()
        log.append({"step": step} | {key: round(value.item(), 5) for key, value in losses.items()})
        if step % STEPS_BETWEEN_TESTS == 0:
            with torch.inference_mode():
                found = model.eval().decode(model(batch), sizes)
            # Classes without an object in these images have no average precision.
            results = evaluate_voc(found, [sample.target for sample in dataset], classes).classes
            mean_ap = statistics.mean(one.ap_area for one in results if one.ap_area is not None)
            log[-1]["map50"] = round(mean_ap, 4)
            print(name, log[-1], flush=True)
            if mean_ap >= TARGET:
                break
    return {
        "model": name,
        "options": options,
        "input_size": [height, width],
        "images": len(dataset),
        "learning_rate": rate,
        "steps": len(log),
        "map50": log[-1].get("map50"),
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "log": log,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="folder:split")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--side", type=int, help="of the network's input (RefineDet only)")
    parser.add_argument("--options", type=json.loads, default={}, help="of the models, as JSON")
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--record", type=Path, required=True, help="a JSON file; models that it has are not run again")
    given = parser.parse_args()
    folder, _, split = given.data.rpartition(":")
    dataset = open_dataset(Path(folder), split)
    runs = json.loads(given.record.read_text())["runs"] if given.record.exists() else []
    for name in given.models:
        if any(run["model"] == name for run in runs):
            continue
        run = overfit(name, dataset, given.options, given.side, given.learning_rate, given.steps)
        how = {"commit": source_commit(), "date": datetime.now(UTC).date().isoformat()}
        machine = f"CPU, {torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}"
        runs.append({**run, **how, "device": machine})
        record = {"command": "python benchmarks/overfit.py DATA:SPLIT MODEL…", "target_map50": TARGET, "runs": runs}
        with replacing(given.record) as temporary:
            temporary.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
