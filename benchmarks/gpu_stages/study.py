"""The aggregation study on CIFAR-10 (Figure 2): DenseNet-40, OSA 5/43, OSA 12/20 and ResNet-56, with what time is left.

About 40 epochs each instead of the published 300, with larger batches, so that a GPU is busy. All networks are trained
for the same number of epochs; those of an earlier run count if their settings are the same.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpu_stages.record import StageRecord
from gpu_stages.stage import Options, Stage
from vovnet.paper.aggregation.cifar10 import Cifar10, read_cifar10
from vovnet.paper.aggregation.config import AggregationConfig
from vovnet.paper.aggregation.networks import CIFAR_NETWORKS
from vovnet.paper.aggregation.study import train_and_test
from vovnet.paper.aggregation.training import train_classifier

SECONDS, LEAST_S = math.inf, 40.0
BY_CARD = False
SOURCES = ("src/vovnet/paper/aggregation", "src/vovnet/models/layers.py", "benchmarks/gpu_stages/study.py")
NETWORKS = ("densenet40", "osa_5_43", "osa_12_20", "resnet56")
EPOCHS, LEAST_EPOCHS = 40, 15
BATCH, LEARNING_RATE = 256, 0.2  # 0.1 at the published batch of 64, times the root of the ratio
SHARE = 0.9  # of the time that is left
TRIAL_STEPS = 30


def settings(options: Options) -> dict[str, Any]:
    return {"epochs": EPOCHS, "batch": BATCH, "learning_rate": LEARNING_RATE}


def is_done(record: StageRecord, key: str) -> bool:
    networks = NETWORKS[:2] if record.content["rehearsal"] else NETWORKS
    return all(record.get(network, key) is not None for network in networks)


def lacks(options: Options) -> str | None:
    return None if options.rehearse or options.cifar else "needs CIFAR-10: give --cifar DIR"


@dataclass(frozen=True)
class Images:
    train: Cifar10
    test: Cifar10


def run(stage: Stage) -> None:
    networks = NETWORKS[:2] if stage.rehearse else NETWORKS
    missing = [name for name in networks if stage.options.again or stage.record.get(name, stage.key) is None]
    torch.backends.cudnn.benchmark = True  # all batches have one shape
    images = _made_up() if stage.rehearse else _read(stage.options.cifar)
    speeds = {}
    for name in missing:
        trial = stage.measure(f"trial {name}", lambda name=name: _trial(stage, name, images), least_s=0)
        if trial is not None:
            speeds[name] = trial["images_per_s"]
    epochs = _epochs(stage, missing, speeds, len(images.train.labels))
    for name in speeds:
        seconds = epochs * len(images.train.labels) / speeds[name]
        if not stage.rehearse and stage.left_s() * SHARE < seconds:
            stage.miss(name, f"no time left: {epochs:.0f} epochs take about {seconds:.0f} s")
            continue
        stage.measure(name, lambda name=name: _train(stage, name, images, epochs), least_s=0)


def _epochs(stage: Stage, missing: list[str], speeds: Mapping[str, float], count: int) -> float:
    """Those of the networks that are done, else as many as fit for all that are missing, at most 40.

    With less time than for 15 epochs each it is 40, and only the first networks are trained.
    """
    if stage.rehearse:
        return 2.0
    done = [stage.record.get(name, stage.key) for name in NETWORKS if name not in missing]
    if done and done[0] is not None:
        return float(done[0]["settings"]["epochs"])
    seconds_per_epoch = sum(count / speed for speed in speeds.values())
    fitting = math.floor(stage.left_s() * SHARE / seconds_per_epoch) if speeds else 0
    return float(EPOCHS if fitting < LEAST_EPOCHS else min(EPOCHS, fitting))


def _config(stage: Stage, epochs: float, folder: Path) -> AggregationConfig:
    return AggregationConfig(
        data=folder,
        networks=NETWORKS,
        epochs=epochs,
        batch_size=16 if stage.rehearse else BATCH,
        learning_rate=0.1 if stage.rehearse else LEARNING_RATE,
        precision="fp32" if stage.rehearse else "bf16",
        device=str(stage.device),
        log_every=2 if stage.rehearse else 200,
        checkpoint_every=1000,
        output=folder,
    )


def _trial(stage: Stage, name: str, images: Images) -> dict[str, Any]:
    """Images/s that the network is trained with, after the first steps."""
    steps = 4 if stage.rehearse else TRIAL_STEPS
    config = _config(stage, 1, stage.options.work / "cifar_trial")
    config = config.model_copy(
        update={"epochs": steps * config.batch_size / len(images.train.labels), "log_every": steps // 2}
    )
    torch.manual_seed(0)
    model = CIFAR_NETWORKS[name]().to(stage.device).to(memory_format=torch.channels_last)
    folder = config.output / f"{name}_{time.monotonic_ns()}"  # a checkpoint of an earlier trial would end it at once
    log = train_classifier(model, images.train, config, seed=0, folder=folder)
    assert log is not None
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    return {"images_per_s": log[-1]["images_per_s"], "batch": config.batch_size}


def _train(stage: Stage, name: str, images: Images, epochs: float) -> Mapping[str, Any]:
    """The record of the network, as the study writes it. A run that is stopped goes on from its checkpoint."""
    config = _config(stage, epochs, stage.options.work / f"cifar_{epochs:g}_{stage.key}")
    stop = threading.Event()

    def hook(entry: Mapping[str, Any]) -> None:
        print(f"{name}: epoch {entry['epoch']}, loss {entry['loss']}, {entry['images_per_s']:.0f} images/s", flush=True)
        if stage.left_s() < 3 and not stage.rehearse:
            stop.set()

    record = train_and_test(name, 0, images.train, images.test, config, device=stage.device, hook=hook, stop=stop)
    if record is None:
        raise TimeoutError("stopped before its end, because the time was over; on this machine it goes on from there")
    return record


def _read(folder: Path | None) -> Images:
    assert folder is not None
    return Images(read_cifar10(folder, "train"), read_cifar10(folder, "test"))


def _made_up() -> Images:
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Cifar10:
        images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
        return Cifar10(images, torch.randint(0, 10, (count,), generator=generator), "made-up images")

    return Images(split(64), split(32))
