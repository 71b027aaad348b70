"""How far does accuracy scatter with the statistics of batch norm? `python benchmarks/norm_statistics.py` goes on
training the bundled weights "bccd" as DSOD's script ends: in micro-batches of four images, at its last learning rate.

The weights then hardly change, so successive checkpoints differ mostly by their statistics. Training does not depend on
these, so one run keeps the statistics of every choice and tests each checkpoint with all of them:

- momentum 0.1, PyTorch's default: each forward pass has a tenth of the running averages;
- momentum 0.01 and 0.001 (Caffe's moving_average_fraction 0.999), from the first pass on, see `average_share`;
- the mean over further forward passes with the weights of the checkpoint ("re-estimated").
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from shared import RECORDS, ROOT
from torch import Tensor, nn

from vovnet.data.formats import open_dataset
from vovnet.data.loading import Batch, BatchStream, training_batches
from vovnet.engine.config import load_config
from vovnet.engine.detector import Detector
from vovnet.engine.evaluate import evaluate
from vovnet.engine.training.data import make_augmentation
from vovnet.engine.training.optimizer import make_optimizer
from vovnet.engine.training.state import TrainState
from vovnet.engine.training.step import average_share, make_scaler, train_step
from vovnet.files import write_json
from vovnet.models.detectors.contract import DetectionModel
from vovnet.provenance import cpu_and_torch, record_header
from vovnet.weights.detector import load_weights
from vovnet.zoo import find_detector

RECIPE = ROOT / "configs/voc_dsod300_vovnet27_slim.yaml"  # optimizer and loss
IMAGES = ROOT / "configs/bccd_dsod300_vovnet27_slim.yaml"  # data and augmentation
MICRO_BATCH, ACCUMULATE = 4, 2
CHOICES = {"momentum 0.1": 0.1, "momentum 0.01": 0.01, "momentum 0.001": 0.001}
REESTIMATED = "re-estimated"
SPLITS = ("val", "test")
SEED = 0

Averages = dict[str, tuple[Tensor, Tensor]]  # layer → mean and variance


def norms(model: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.BatchNorm2d)}


def statistics_of(model: nn.Module) -> Averages:
    found = {}
    for name, norm in norms(model).items():
        assert norm.running_mean is not None
        assert norm.running_var is not None
        found[name] = (norm.running_mean.clone(), norm.running_var.clone())
    return found


def set_statistics(model: nn.Module, averages: Averages) -> None:
    for name, norm in norms(model).items():
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.copy_(averages[name][0])
        norm.running_var.copy_(averages[name][1])


def add(averages: Averages, values: Averages, share: float) -> None:
    for name, pair in values.items():
        for average, value in zip(averages[name], pair, strict=True):
            average.lerp_(value, share)


class EachPass:
    """Gives every forward pass to all running averages; the network's own statistics are those of the last pass."""

    def __init__(self, model: nn.Module) -> None:
        self.averages = {choice: statistics_of(model) for choice in CHOICES}
        self.passes = 0
        for norm in norms(model).values():
            norm.momentum = 1.0
        model.register_forward_hook(self.after)

    def after(self, model: nn.Module, *_: object) -> None:
        if not model.training:
            return
        values = statistics_of(model)
        for choice, momentum in CHOICES.items():
            share = momentum if momentum == 0.1 else average_share(momentum, self.passes)
            add(self.averages[choice], values, share)
        self.passes += 1


def reestimate(model: DetectionModel, batches: Iterator[Batch], passes: int) -> Averages:
    """The mean of the statistics over `passes` forward passes that train nothing."""
    hooks, model._forward_hooks = model._forward_hooks, type(model._forward_hooks)()
    mean = statistics_of(model)
    with torch.no_grad():
        for count, batch in enumerate(itertools.islice(batches, passes), start=1):
            model(model.preprocessing.normalize(batch.images))
            add(mean, statistics_of(model), 1 / count)
    model._forward_hooks = hooks
    return mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, default=12)
    parser.add_argument("--before", type=int, default=20, help="optimizer steps before those of the first checkpoint")
    parser.add_argument("--steps", type=int, default=8, help="optimizer steps from one checkpoint to the next")
    parser.add_argument("--reestimate", type=int, default=12, help="forward passes of a re-estimate")
    parser.add_argument("--images", type=int, default=48, help="test on this many images, in turn of val and test")
    args = parser.parse_args()
    config, images = load_config(RECIPE), load_config(IMAGES)
    rate = config.optimizer.learning_rate * config.schedule.gamma ** len(config.schedule.milestones)
    torch.manual_seed(SEED)
    loaded = load_weights("bccd")
    model, info = loaded.model.train(), loaded.info
    train, *tests = (
        open_dataset(ROOT / images.data.root, split, class_names=info.class_names) for split in ("train", *SPLITS)
    )
    in_turn = itertools.chain.from_iterable(zip(*tests, strict=False))
    tested = replace(tests[0], samples=tuple(itertools.islice(in_turn, args.images)))

    spec = find_detector(info.name)
    optimizer = make_optimizer(model, spec, config.optimizer.model_copy(update={"learning_rate": rate}))
    state = TrainState(model, None, optimizer, make_scaler(torch.float32, torch.device("cpu")))
    augment = make_augmentation(model.preprocessing, images)
    passes = args.before * ACCUMULATE + args.checkpoints * (args.steps * ACCUMULATE + args.reestimate)
    stream = BatchStream(len(train), batch_size=MICRO_BATCH, micro_batch_size=MICRO_BATCH, steps=passes, seed=SEED)
    batches = iter(training_batches(train, augment, stream, workers=1, pin_memory=False))
    criterion = spec.make_loss(config.loss.model_dump())
    each_pass, started, runs = EachPass(model), time.perf_counter(), []
    for checkpoint in range(1, args.checkpoints + 1):
        model.train()
        for _ in range(args.steps + (args.before if checkpoint == 1 else 0)):
            train_step(
                state, model, criterion, batches,
                accumulate=ACCUMULATE, dtype=torch.float32, device=torch.device("cpu"), clip_norm=None,
            )  # fmt: skip
        choices = {**each_pass.averages, REESTIMATED: reestimate(model, batches, args.reestimate)}
        results = {}
        for choice, averages in choices.items():
            set_statistics(model, averages)
            evaluation = evaluate(Detector(model, info.class_names, info.category_ids), tested, workers=0)
            results[choice] = {"voc07_map": evaluation.voc.mean_ap11, "coco_ap": evaluation.coco.figures["AP"]}
        runs.append({"passes": each_pass.passes, **results})
        print(f"{checkpoint}: {time.perf_counter() - started:.0f} s", results, file=sys.stderr, flush=True)
        if checkpoint > 1:  # so that a run that is stopped leaves what it has
            write_json(RECORDS / "norm_statistics.json", record_of(args, rate, len(tested), runs))


def record_of(args: argparse.Namespace, rate: float, images: int, runs: list[dict[str, Any]]) -> dict[str, Any]:
    summary = {}
    for choice in (*CHOICES, REESTIMATED):
        values = {metric: [run[choice][metric] for run in runs] for metric in ("voc07_map", "coco_ap")}
        summary[choice] = {
            metric: {"mean": statistics.mean(found), "std": statistics.stdev(found), "range": max(found) - min(found)}
            for metric, found in values.items()
        }
    return {
        **record_header("python benchmarks/norm_statistics.py"),
        "machine": cpu_and_torch(),
        "weights": "bccd",
        "micro_batch_size": MICRO_BATCH,
        "batch_size": MICRO_BATCH * ACCUMULATE,
        "learning_rate": rate,
        "steps_between_checkpoints": args.steps,
        "passes_of_a_re_estimate": args.reestimate,
        "tested_images": images,
        "summary": summary,
        "checkpoints": runs,
    }


if __name__ == "__main__":
    main()
