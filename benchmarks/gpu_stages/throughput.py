"""Training images/s against bare steps: the same network and loss, with a batch that is on the device already.

What the ratio lacks to 1 is what reading, augmentation, transfers, logging and checkpoints cost.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from shared import ROOT

from gpu_stages.record import StageRecord
from gpu_stages.stage import Options, Stage
from gpu_stages.steady import HIDDEN, MEASURED, REHEARSED, Span, span
from gpu_stages.training_settings import arguments, training_settings
from gpu_stages.voc_data import find_pack, made_up_pack
from vovnet.data.batches.worker_count import choose_workers
from vovnet.data.formats import open_dataset
from vovnet.engine.config import TrainConfig, load_config
from vovnet.engine.train import train
from vovnet.engine.training.ema import EMA
from vovnet.engine.training.optimizer import make_optimizer
from vovnet.engine.training.step import autocast, compute_dtype
from vovnet.padded_targets import PaddedTargets
from vovnet.profiling.speed import time_interleaved
from vovnet.structures import Target
from vovnet.zoo import create_model, find_detector

SECONDS, LEAST_S = 100.0, 30.0
BY_CARD = True
SOURCES = ("src/vovnet/data", "src/vovnet/engine", "src/vovnet/losses", "src/vovnet/models", "src/vovnet/boxes.py")
SOURCES += ("src/vovnet/matching.py", "src/vovnet/media", "benchmarks/gpu_stages/throughput.py", "src/vovnet/zoo.py")
SOURCES += tuple(f"src/vovnet/{name}.py" for name in ("constants", "masks", "padded_targets", "structures"))
SOURCES += ("src/vovnet/profiling/speed.py", "src/vovnet/profiling/intervals.py", "benchmarks/gpu_stages/voc_data.py")
SOURCES += tuple(f"configs/{name}.yaml" for name in ("voc_dsod300_vovnet27_slim", "coco_refinedet320_vovnet39"))
SOURCES += ("configs/coco_fasterrcnn_vovnet39_2x.yaml", "benchmarks/gpu_stages/steady.py")
SOURCES += ("benchmarks/gpu_stages/training_settings.py",)
LOGGED = 8  # steps between two log lines, at which training waits for the device
EMA_DECAY, CLIP_NORM = 0.999, 10.0


@dataclass(frozen=True)
class Variant:
    """A way to train.

    least_s: what the training run takes on a fast GPU, rounded up.
    measured: "bare" steps, "training" runs, or both.
    tiny: further settings in a rehearsal.
    """

    name: str
    config: str
    batch: int
    overrides: Mapping[str, str] = field(default_factory=dict)
    least_s: float = 25.0
    measured: str = "both"
    tiny: Mapping[str, str] = field(default_factory=dict)


DSOD, REFINE = ("voc_dsod300_vovnet27_slim", 128), ("coco_refinedet320_vovnet39", 32)
FASTER, FASTER_NAME = ("coco_fasterrcnn_vovnet39_2x", 4), "fasterrcnn_vovnet39_gn"
GN = {"model": FASTER_NAME}
# A CPU takes seconds for RefineDet320 and Faster R-CNN, and minutes to compile.
SMALL = {"model": "fasterrcnn_vovnet27_slim_gn", "model_options.image_size": "[64, 96]", "micro_batch_size": "1"}
SMALL |= {"batch_size": "1", "model_options.rois": "16"}
SLIM = {"model": "refinedet320_vovnet27_slim"}
TWO, EAGER = {"norm_batch_size": "1"}, {"compile": "false"}

VARIANTS = (
    Variant("dsod300_vovnet27_slim", *DSOD),
    Variant("refinedet320_vovnet39", *REFINE, tiny=SLIM),
    # Statistics of four images, as each of the paper's passes had, in passes of 128.
    Variant("dsod300_vovnet27_slim, norms of 4", *DSOD, {"norm_batch_size": "4"}, measured="training", tiny=TWO),
    Variant(f"{FASTER_NAME}, channels last", *FASTER, {**GN, "channels_last": "true"}, measured="bare", tiny=SMALL),
    Variant(f"{FASTER_NAME}, by channel", *FASTER, {**GN, "channels_last": "false"}, measured="bare", tiny=SMALL),
    Variant("dsod300_vovnet27_slim, compiled", *DSOD, {"compile": "true"}, 110.0, "training", EAGER),
    Variant("refinedet320_vovnet39, compiled", *REFINE, {"compile": "true"}, 140.0, "training", {**EAGER, **SLIM}),
)


def settings(options: Options) -> dict[str, Any]:
    return {"measured steps": MEASURED, "hidden": HIDDEN, "logged": LOGGED}


def names(variant: Variant) -> list[str]:
    """The measurements of a variant, in their order."""
    bare, training = [f"bare steps {variant.name}"], [f"training {variant.name}"]
    return {"both": bare + training, "bare": bare, "training": training}[variant.measured]


def is_done(record: StageRecord, key: str) -> bool:
    """Whether all is measured that fits into the stage's time; compiling takes longer."""
    fitting = [variant for variant in VARIANTS if variant.least_s < SECONDS]
    return all(record.get(name, key) is not None for variant in fitting for name in names(variant))


def run(stage: Stage) -> None:
    data = stage.options.data
    if data is None or find_pack(data) is not None:
        data = made_up_pack(stage.options.work, 8 if stage.rehearse else 1024)
    for variant in VARIANTS:
        config = _config(stage, variant, data)
        for name in names(variant):
            function = bare_steps if name.startswith("bare") else training_run
            least_s = 0 if stage.rehearse else variant.least_s if function is training_run else 6
            stage.measure(name, lambda function=function, config=config: function(stage, config), least_s=least_s)


def _config(stage: Stage, variant: Variant, data: Any) -> TrainConfig:
    batch = 2 if stage.rehearse else variant.batch
    values = {
        **training_settings(stage, data, batch=batch, steps=_span(stage).steps, logged=LOGGED),
        "backbone_weights": "null",
        "schedule.epochs": "null",
        "schedule.warmup_iterations": 0,
        "optimizer.learning_rate": 1e-3,
        "optimizer.clip_norm": CLIP_NORM,
        "ema_decay": EMA_DECAY,
        "output": stage.options.work / "throughput",
        **variant.overrides,
        **(variant.tiny if stage.rehearse else {}),
    }
    return load_config(ROOT / f"configs/{variant.config}.yaml", arguments(values))


def training_run(stage: Stage, config: TrainConfig) -> dict[str, Any]:
    """Images/s of a whole training run, once it is no faster than its loader processes."""
    shutil.rmtree(config.output, ignore_errors=True)
    train(config)
    entries = [json.loads(line) for line in (config.output / "log.jsonl").read_text().splitlines()]
    speeds = [entry["images_per_s"] for entry in entries if "images_per_s" in entry]
    shutil.rmtree(config.output)
    steady = _span(stage)
    measured = {"first_step": steady.first + 1, "steps": steady.steps}
    return {**_conditions(config), "images_per_s": steady.speed(entries), **measured, "logged": speeds}


def _span(stage: Stage) -> Span:
    return REHEARSED if stage.rehearse else span(choose_workers(stage.device.type), LOGGED)


def bare_steps(stage: Stage, config: TrainConfig) -> dict[str, Any]:
    """Images/s of forward pass, loss, backward pass, clipping, optimizer and EMA on one batch on the device.

    The device is waited for as often as in training.
    """
    torch.manual_seed(0)
    device, dtype = stage.device, compute_dtype(config.precision, stage.device)
    classes = len(open_dataset(config.data.root, config.data.train).class_names)
    model = create_model(config.model, classes, **config.model_options)
    memory_format = torch.contiguous_format if config.channels_last is False else torch.channels_last
    model = model.to(device).to(memory_format=memory_format).train()
    spec = find_detector(config.model)
    criterion, optimizer = spec.make_loss(config.loss.model_dump()), make_optimizer(model, spec, config.optimizer)
    ema = EMA(model, EMA_DECAY)
    height, width = (
        side - side % 32 if model.preprocessing.keep_ratio else side for side in model.preprocessing.image_size
    )
    images = torch.randint(0, 256, (config.micro_batch_size, 3, height, width), dtype=torch.uint8, device=device)
    boxes = torch.tensor([[0.1, 0.1, 0.4, 0.5], [0.3, 0.3, 0.9, 0.9], [0.6, 0.1, 0.7, 0.2]]) * height
    objects = [Target.make(boxes, torch.arange(3) % classes)] * len(images)
    targets = objects if model.two_stage else PaddedTargets.of(objects).to(device)
    torch.backends.cudnn.benchmark = True  # as in training

    def step() -> None:
        with autocast(dtype, device):
            normalized = model.preprocessing.normalize(images).contiguous(memory_format=memory_format)
            outputs = model(normalized, targets) if model.two_stage else model(normalized)
            losses = criterion(outputs, targets)
        sum(losses.values(), torch.zeros((), device=device)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.update_parameters(model)

    steps = 2 if stage.rehearse else LOGGED

    def block() -> None:
        for _ in range(steps):
            step()

    times = time_interleaved(
        {"block": block},
        repetitions=2 if stage.rehearse else 8,
        device=device,
        warmup_limit_s=0 if stage.rehearse else 3,
    )["block"]
    speed = times.throughput(steps * len(images))
    how = {**_conditions(config), "steps_between_waits": steps}
    return {**how, "images_per_s": speed.median, "images_per_s_interval": speed.interval}


def _conditions(config: TrainConfig) -> dict[str, Any]:
    keys = (
        "model",
        "batch_size",
        "precision",
        "norm_batch_size",
        "channels_last",
        "compile",
        "draw_images",
        "ema_decay",
    )
    workers = choose_workers(config.device.partition(":")[0]) if config.workers == "auto" else config.workers
    return {**{key: getattr(config, key) for key in keys}, "workers": workers}
