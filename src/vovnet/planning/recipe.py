"""The config of a run: a candidate's recipe, fitted to the data, the machine and the time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from vovnet.data.batches.worker_count import usable_cores
from vovnet.engine.config import AugmentConfig, TrainConfig
from vovnet.errors import listed
from vovnet.planning.candidates import Candidate
from vovnet.planning.facts import Facts
from vovnet.planning.trial import Trial

_WARMUP_STEPS, _WARMUP_SHARE = 50, 0.1  # of blood cells; of a short run
_EVALUATIONS = 12  # of a run
_EVALUATING = 0.1  # part of the time that evaluations may take
_MOST_SEEN_MILDLY = 100_000  # training images: longer runs gain from SSD's stronger augmentation
_CHECKPOINT_S = 120.0
_TOO_SMALL, _TILE_SIDES = 12.0, 10  # pixels in the input; sides of the median object in the side of a tile
_EPOCHS = (12, 300)  # the fewest and the most


@dataclass(frozen=True)
class Length:
    """How long a run is planned to be. One of the first two is given.

    epochs: of a run without a limit of time.
    minutes: for training, of a run with one.
    steps: that this will be.
    seconds: that this will take, with the evaluations.
    """

    epochs: float | None
    minutes: float | None
    steps: int
    seconds: float


def usual_epochs(candidate: Candidate, num_images: int) -> int:
    """Epochs of a run without a limit of time: fewer for more images."""
    least, most = _EPOCHS
    return min(most, max(least, math.ceil(candidate.usual_images / num_images)))


def first_config(candidate: Candidate, facts: Facts, output: Path, batch_size: int) -> dict[str, Any]:
    """The values of a config that hold for a candidate whatever is measured; with a length to be replaced."""
    splits = facts.splits
    return {
        "model": candidate.model,
        "model_options": dict(candidate.options),
        "data": {"root": str(splits.root), "train": splits.train, "val": splits.val},
        "augment": {"expand": 1.5, "crop_min_scale": 0.5, **({"flip": 0.0} if facts.sided_classes else {})},
        "default_boxes": "data",
        "optimizer": {"learning_rate": candidate.learning_rate, "weight_decay": 5e-4, "clip_norm": 10.0},
        "schedule": {"kind": "cosine", "iterations": 1000},
        "batch_size": batch_size,
        "micro_batch_size": batch_size,
        "ema_decay": 0.998,
        "metric": candidate.metric if find_spec("hotcoco") else "voc07_map",  # of the extra "eval"
        "workers": 1 if usable_cores() <= 2 else "auto",
        "output": str(output),
    }


def final_config(
    values: Mapping[str, Any], trial: Trial, length: Length, facts: Facts, step_s: float
) -> dict[str, Any]:
    """The config of the run. values: `first_config`. step_s: seconds of a step with the loading of its images."""
    epoch_s = len(facts.train) / trial.batch_size * step_s
    epochs = length.steps * trial.batch_size / len(facts.train)
    val_s = evaluation_seconds(trial, facts, 0 if facts.val is None else len(facts.val))
    augment = dict(values["augment"])
    if length.steps * trial.batch_size > _MOST_SEEN_MILDLY:
        augment = {key: value for key, value in augment.items() if key == "flip"}
    schedule: dict[str, Any] = {
        "kind": "cosine",
        "epochs": length.epochs,
        "minutes": length.minutes,
        "warmup_iterations": min(_WARMUP_STEPS, math.ceil(_WARMUP_SHARE * length.steps)),
    }
    return {
        **values,
        "augment": augment,
        "schedule": {key: value for key, value in schedule.items() if value is not None},
        "micro_batch_size": trial.micro_batch_size,
        "precision": trial.precision,
        "evaluate_every": max(1, math.ceil(epochs / _EVALUATIONS), math.ceil(val_s / (_EVALUATING * epoch_s))),
        "checkpoint_every": max(10, round(_CHECKPOINT_S / step_s)),
    }


def evaluation_seconds(trial: Trial, facts: Facts, num_images: int) -> float:
    """What the evaluation of so many images takes, in their tiles too, on a CPU and without the report."""
    return num_images * (facts.parts * trial.detect_ms / 1000 + trial.load_s / trial.batch_size)


def length_of(
    candidate: Candidate, facts: Facts, trial: Trial, *, step_s: float, seconds: float | None, epochs: float | None
) -> Length:
    """The length of a candidate's run.

    seconds: for training; None for no limit.
    epochs: that somebody asked for; None for the usual number.
    """
    steps_of_epoch = len(facts.train) / trial.batch_size
    val_s = evaluation_seconds(trial, facts, 0 if facts.val is None else len(facts.val))
    if seconds is not None:
        steps = max(1, int(seconds * (1 - _EVALUATING / 2) / step_s))
        return Length(None, round(seconds / 60, 2), steps, seconds)
    epochs = usual_epochs(candidate, len(facts.train)) if epochs is None else epochs
    steps = max(1, math.ceil(epochs * steps_of_epoch))
    return Length(epochs, None, steps, steps * step_s + min(_EVALUATIONS, epochs) * val_s)


def reasons_of(candidate: Candidate, facts: Facts, trial: Trial, config: TrainConfig, length: Length) -> list[str]:
    """Why the config is as it is, one thing in a line."""
    times = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in trial.step_s.items())
    memory = "" if trial.mib_per_image is None else f", {trial.mib_per_image:.0f} MiB each in training"
    amount = f"{length.minutes:g} min of training" if length.minutes is not None else f"{length.epochs:g} epochs"
    seen = length.steps * trial.batch_size
    augment = config.augment
    return [
        _about_size(facts, candidate),
        f"default boxes: {_about_boxes(config)}",
        f"learning rate {config.optimizer.learning_rate:g}: {_about_rate(candidate, config)}",
        f"precision {config.precision}: a step of {trial.batch_size} images took {times}",
        f"batch {trial.batch_size}, {config.micro_batch_size} in a forward pass: they fit into the memory{memory}",
        f"{amount}: about {length.steps:,} steps, which see {seen:,} images, {seen / len(facts.train):.0f} times each",
        f"augmentation: crops from {augment.crop_min_scale:g} of a side, borders up to {augment.expand:g} times it, "
        + _about_flips(facts, augment),
    ]


def _about_boxes(config: TrainConfig) -> str:
    if config.default_boxes == "published":
        return "those of the weights" if config.weights else "as published"
    fitted = "fitted to the sizes of the training objects before the first step"
    return f"those of the weights, unless boxes {fitted} match more of them" if config.weights else fitted


def _about_rate(candidate: Candidate, config: TrainConfig) -> str:
    if config.optimizer.learning_rate != candidate.learning_rate:
        return "as asked for"
    return "a fifth of the recipe's, because the weights are trained" if config.weights else "that of the recipe"


def _about_flips(facts: Facts, augment: AugmentConfig) -> str:
    if not augment.flip and facts.sided_classes:
        return f"no flips, because classes are left and right ({listed(facts.sided_classes, 4)})"
    if augment.flip and not augment.flip_vertical:
        return "horizontal flips only, because most things have an upright orientation"
    return f"horizontal flips {augment.flip:g}, vertical {augment.flip_vertical:g}"


def _about_size(facts: Facts, candidate: Candidate) -> str:
    """The input, and how large the objects are in it; what helps if that is too small."""
    side = facts.median_side * candidate.input_side
    inside = f"half of the objects are larger than {side:.0f} pixels"
    text = f"input {candidate.input_side} × {candidate.input_side}, in which {inside}"
    if side >= _TOO_SMALL or not len(facts.sides):
        return text
    tile = max(128, 32 * round(_TILE_SIDES * float(np.median(facts.sides)) / 32))
    return f"{text}: they are too small for it; training and detecting in tiles helps: data.tiles='{{size: {tile}}}'"
