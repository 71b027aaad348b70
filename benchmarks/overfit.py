"""Does a detector learn at all? `python benchmarks/overfit.py DATA:SPLIT MODEL… --record FILE` trains it on a handful
of images, always the same batch without augmentation, until it finds the objects in them.

The record holds the losses of every model and its mAP at IoU 0.5 at every test: VOC's (area under the curve), or
COCO's for masks if the detector predicts them.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vovnet import create_model
from vovnet.data.batches.resizing import ResizeAugmentation
from vovnet.data.dataset import DetectionDataset
from vovnet.data.formats import open_dataset
from vovnet.data.loading import BatchStream, training_batches
from vovnet.data.transforms import SSDAugmentation
from vovnet.engine.config import LossConfig, OptimizerConfig
from vovnet.engine.detector import Detector
from vovnet.engine.evaluate import evaluate
from vovnet.engine.training.optimizer import make_optimizer, set_learning_rate
from vovnet.files import write_json
from vovnet.provenance import cpu_and_torch, record_header
from vovnet.zoo import find_detector

TARGET, TARGET_OF_MASKS = 0.95, 0.9
WARMUP_STEPS = 10
STEPS_BETWEEN_TESTS = 10


def overfit(
    name: str, dataset: DetectionDataset, options: dict[str, Any], side: int | None, rate: float, steps: int
) -> dict[str, Any]:
    """Losses and mAP of training on all images of `dataset` at once, until the target mAP or for at most `steps`.

    options: of the model.
    side: of the network's input, None for the model's own; RefineDet accepts any multiple of 64.
    rate: learning rate after the warm-up.
    """
    torch.manual_seed(0)
    classes = len(dataset.class_names)
    model = create_model(name, classes, **options).to(memory_format=torch.channels_last)
    if side is not None:
        model.preprocessing = replace(model.preprocessing, image_size=(side, side))
    short, long = model.preprocessing.image_size
    augment = (
        ResizeAugmentation((short,), long, flip=0)
        if model.preprocessing.keep_ratio
        else SSDAugmentation((short, long), model.preprocessing.mean_rgb, 0, expand=1, crop_min_scale=1, flip=0)
    )
    stream = BatchStream(len(dataset), batch_size=len(dataset), micro_batch_size=len(dataset), steps=1)
    (batch,) = training_batches(dataset, augment, stream, workers=0, pin_memory=False)
    images, targets = model.preprocessing.normalize(batch.images), batch.targets
    target = TARGET_OF_MASKS if model.masks else TARGET

    spec = find_detector(name)
    criterion = spec.make_loss(LossConfig().model_dump())
    optimizer = make_optimizer(model, spec, OptimizerConfig(learning_rate=rate))
    log: list[dict[str, float]] = []
    started = time.perf_counter()
    for step in range(1, steps + 1):
        model.train()
        set_learning_rate(optimizer, rate * min(1, step / WARMUP_STEPS))
        losses = criterion(model(images, targets) if model.two_stage else model(images), targets)
        loss = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10, error_if_nonfinite=True)
        optimizer.step()
        log.append({"step": step} | {key: round(value.item(), 5) for key, value in losses.items()})
        if step % STEPS_BETWEEN_TESTS == 0:
            detector = Detector(model, dataset.class_names, dataset.category_ids)
            evaluation = evaluate(detector, dataset, workers=0)
            masks = evaluation.coco_masks
            mean_ap = (evaluation.voc.mean_ap_area if masks is None else masks.figures["AP50"]) or 0.0
            log[-1]["map50"] = round(mean_ap, 4)
            print(name, log[-1], flush=True)
            if mean_ap >= target:
                break
    return {
        "model": name,
        "options": options,
        "input_size": [short, long],
        "images": len(dataset),
        "learning_rate": rate,
        "steps": len(log),
        "map50": log[-1].get("map50"),
        "target_map50": target,
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "log": log,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="folder:split")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--images", nargs="+", help="use only these images of the split, by file name without suffix")
    parser.add_argument("--side", type=int, help="side of the network's input (RefineDet only)")
    parser.add_argument("--options", type=json.loads, default={}, help="options of the models, as JSON")
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--record", type=Path, required=True, help="JSON file; models already in it are skipped")
    args = parser.parse_args()
    folder, _, split = args.data.rpartition(":")
    runs = json.loads(args.record.read_text())["runs"] if args.record.exists() else []
    for name in args.models:
        if any(run["model"] == name for run in runs):
            continue
        dataset = open_dataset(Path(folder), split, masks=find_detector(name).masks)
        if args.images:
            samples = tuple(sample for sample in dataset if sample.image_path.stem in args.images)
            dataset = replace(dataset, samples=samples)
        run = overfit(name, dataset, args.options, args.side, args.learning_rate, args.steps)
        runs.append({**run, **record_header(), "device": cpu_and_torch()})
        write_json(args.record, {**record_header("python benchmarks/overfit.py DATA:SPLIT MODEL…"), "runs": runs})


if __name__ == "__main__":
    main()
