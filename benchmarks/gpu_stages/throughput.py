"""Training images/s against bare steps: the same network and loss, with a batch that is on the device already.

What the ratio lacks to 1 is what reading, augmentation, transfers, logging and checkpoints cost.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from shared import ROOT

from gpu_stages.record import StageRecord
from gpu_stages.stage import Options, Stage
from gpu_stages.voc_data import find_pack, made_up_pack
from vovnet.data.formats import open_dataset
from vovnet.engine.config import TrainConfig, load_config
from vovnet.engine.ema import EMA
from vovnet.engine.optimizer import make_optimizer
from vovnet.engine.train import train
from vovnet.engine.train_step import autocast, compute_dtype
from vovnet.profiling.speed import synchronize, time_interleaved
from vovnet.structures import Target
from vovnet.zoo import create_model, find_detector

SECONDS, LEAST_S = 40.0, 20.0
BY_CARD = True
SOURCES = ("src/vovnet/data", "src/vovnet/engine", "src/vovnet/losses", "src/vovnet/models", "src/vovnet/boxes.py")
SOURCES += ("src/vovnet/matching.py", "src/vovnet/media", "benchmarks/gpu_stages/throughput.py")
STEPS, LOGGED = 48, 8
EMA_DECAY, CLIP_NORM = 0.999, 10.0


@dataclass(frozen=True)
class Variant:
    """A way to train. least_s: what the training run takes, rounded up."""

    name: str
    config: str
    batch: int
    overrides: Mapping[str, str] = field(default_factory=dict)
    least_s: float = 12.0


VARIANTS = (
    Variant("dsod300_vovnet27_slim", "voc_dsod300_vovnet27_slim", 128),
    Variant("refinedet320_vovnet39", "coco_refinedet320_vovnet39", 32),
)


def settings(options: Options) -> dict[str, Any]:
    return {"steps": STEPS, "workers": _workers(options)}


def names(variant: Variant) -> tuple[str, str]:
    return f"bare steps {variant.name}", f"training {variant.name}"


def is_done(record: StageRecord, key: str) -> bool:
    return all(record.get(name, key) is not None for variant in VARIANTS for name in names(variant))


def run(stage: Stage) -> None:
    data = stage.options.data
    if data is None or find_pack(data) is not None:
        data = made_up_pack(stage.options.work, 8 if stage.rehearse else 1024)
    for variant in VARIANTS:
        bare, training = names(variant)
        config = _config(stage, variant, data)
        stage.measure(bare, lambda config=config: bare_steps(stage, config), least_s=0 if stage.rehearse else 5)
        least_s = 0 if stage.rehearse else variant.least_s
        stage.measure(training, lambda config=config: training_run(stage, config), least_s=least_s)


def _workers(options: Options) -> int:
    return 0 if options.rehearse else max(1, (os.cpu_count() or 2) - 1)


def _config(stage: Stage, variant: Variant, data: Any) -> TrainConfig:
    batch = 2 if stage.rehearse else variant.batch
    values = {
        "data.root": data,
        "data.train": "fit",
        "data.val": "null",
        "data.more_train": "[]",
        "backbone_weights": "null",
        "batch_size": batch,
        "micro_batch_size": batch,
        "schedule.iterations": 3 if stage.rehearse else STEPS,
        "schedule.epochs": "null",
        "schedule.milestones": "[]",
        "schedule.warmup_iterations": 0,
        "optimizer.learning_rate": 1e-3,
        "optimizer.clip_norm": CLIP_NORM,
        "ema_decay": EMA_DECAY,
        "evaluate_every": 1_000_000,
        "checkpoint_every": 1_000_000,
        "log_every": 1 if stage.rehearse else LOGGED,
        "workers": _workers(stage.options),
        "precision": "fp32" if stage.rehearse else "bf16",
        "device": stage.device,
        "tensorboard": "false",
        "output": stage.options.work / "throughput",
        **variant.overrides,
    }
    return load_config(ROOT / f"configs/{variant.config}.yaml", [f"{key}={value}" for key, value in values.items()])


def training_run(stage: Stage, config: TrainConfig) -> dict[str, Any]:
    """Images/s of a whole training run, without its first log entry, in which kernels are chosen and workers start."""
    shutil.rmtree(config.output, ignore_errors=True)
    train(config)
    entries = [json.loads(line) for line in (config.output / "log.jsonl").read_text().splitlines()]
    speeds = [entry["images_per_s"] for entry in entries if "images_per_s" in entry]
    shutil.rmtree(config.output)
    return {**_conditions(config), "images_per_s": statistics.median(speeds[1:]), "logged": speeds}


def bare_steps(stage: Stage, config: TrainConfig) -> dict[str, Any]:
    """Images/s of forward pass, loss, backward pass, clipping, optimizer and EMA on one batch on the device."""
    torch.manual_seed(0)
    device, dtype = stage.device, compute_dtype(config.precision, stage.device)
    classes = len(open_dataset(config.data.root, config.data.train).class_names)
    model = create_model(config.model, classes, **config.model_options)
    model = model.to(device).to(memory_format=torch.channels_last).train()
    spec = find_detector(config.model)
    criterion, optimizer = spec.make_loss(config.loss.model_dump()), make_optimizer(model, spec, config.optimizer)
    ema = EMA(model, EMA_DECAY)
    height, width = model.preprocessing.image_size
    images = torch.randint(0, 256, (config.micro_batch_size, 3, height, width), dtype=torch.uint8, device=device)
    boxes = torch.tensor([[0.1, 0.1, 0.4, 0.5], [0.3, 0.3, 0.9, 0.9], [0.6, 0.1, 0.7, 0.2]]) * height
    targets = on_device([Target.make(boxes, torch.arange(3) % classes)] * len(images), device)
    torch.backends.cudnn.benchmark = True  # as in training

    def step() -> None:
        with autocast(dtype, device):
            outputs = model(model.preprocessing.normalize(images))
        losses = criterion({name: _float(value) for name, value in outputs.items()}, targets)
        sum(losses.values(), torch.zeros((), device=device)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.update_parameters(model)

    times = time_interleaved(
        {"step": step},
        repetitions=2 if stage.rehearse else 20,
        device=device,
        warmup_limit_s=0 if stage.rehearse else 3,
    )["step"]
    synchronize(device)
    speed = times.throughput(len(images))
    return {**_conditions(config), "images_per_s": speed.median, "images_per_s_interval": speed.interval}


def on_device(targets: list[Target], device: torch.device) -> Any:
    return targets


def _float(value: Any) -> Any:
    return value.float() if torch.is_tensor(value) and value.is_floating_point() else value


def _conditions(config: TrainConfig) -> dict[str, Any]:
    keys = ("model", "batch_size", "precision", "workers", "norm_momentum", "ema_decay")
    return {key: getattr(config, key) for key in keys}
