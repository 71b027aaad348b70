"""Training one classifier on CIFAR-10, from the start or from its checkpoint, and its test accuracy."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vovnet.engine.training.checkpoint import OptimizerState, check_optimizer, damaged
from vovnet.engine.training.optimizer import set_learning_rate
from vovnet.errors import UsageError
from vovnet.paper.aggregation.cifar10 import Cifar10, augment, normalize
from vovnet.paper.aggregation.config import AggregationConfig
from vovnet.weights.file import load_checkpoint, load_state, save_checkpoint
from vovnet.weights.metadata import Metadata, validated

FORMAT = "vovnet-classifier-1"
TEST_BATCH = 500

Hook = Callable[[Mapping[str, Any]], object]


class _Checkpoint(Metadata):
    """What `TrainingState.save` writes."""

    settings: dict[str, Any]
    sums: Tensor
    model: dict[str, Tensor]
    optimizer: OptimizerState
    step: Annotated[int, Field(strict=True, ge=0, lt=2**62)]
    log: list[dict[str, Any]]


class TrainingState:
    """Everything that changes during training; a checkpoint holds it all.

    log: one entry per `log_every` steps.
    sums: (3,) loss, accuracy and number of the steps since the last log entry, summed on the training device.
    """

    def __init__(self, model: nn.Module, config: AggregationConfig) -> None:
        self.model, self.settings = model, config.settings()
        self.optimizer = torch.optim.SGD(
            model.parameters(),
            lr=config.learning_rate,
            momentum=config.momentum,
            nesterov=config.momentum > 0,
            weight_decay=config.weight_decay,
        )
        self.sums = torch.zeros(3, device=_device(model))
        self.step = 0
        self.log: list[dict[str, Any]] = []

    def save(self, path: Path) -> None:
        checkpoint = {
            "format": FORMAT,
            "settings": self.settings,
            "sums": self.sums,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "log": self.log,
        }
        save_checkpoint(path, checkpoint)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint. Raises UsageError if it was made with other settings."""
        checkpoint = load_checkpoint(path, FORMAT)
        validated(_Checkpoint, checkpoint, lambda reason: damaged(path, reason))
        if checkpoint["sums"].shape != self.sums.shape:
            raise damaged(path, "its sums have another shape")
        check_settings(checkpoint["settings"], self.settings, path)
        load_state(self.model, checkpoint["model"], str(path))
        check_optimizer(checkpoint["optimizer"], self.optimizer, path)
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.step, self.log, self.sums = checkpoint["step"], checkpoint["log"], checkpoint["sums"].to(self.sums.device)


def train_classifier(
    model: nn.Module,
    data: Cifar10,
    config: AggregationConfig,
    *,
    seed: int,
    folder: Path,
    hook: Hook = lambda line: None,
    stop: threading.Event | None = None,
) -> list[dict[str, Any]] | None:
    """SGD with Nesterov momentum on random crops and mirror images; the log, or None if `stop` was set before the end.

    Continues from FOLDER/last.pt. What a step sees depends only on `seed` and the step's number, so an interrupted run
    ends with the same weights as an uninterrupted one. Raises FloatingPointError if the loss is not finite.

    hook: called with every log entry.
    """
    device = _device(model)
    data = Cifar10(data.images.to(device), data.labels.to(device), data.form)
    stop = stop or threading.Event()
    last = folder / "last.pt"
    steps = max(1, math.ceil(config.epochs * len(data.labels) / config.batch_size))
    state = TrainingState(model, config)
    if last.exists():
        state.load(last)
    model.train()
    started, first_step = time.perf_counter(), state.step
    while state.step < steps:
        passed = sum(state.step >= fraction * steps for fraction in config.milestones)
        set_learning_rate(state.optimizer, config.learning_rate * 0.1**passed)
        state.sums += _train_step(state, data, config, seed)
        state.step += 1
        if state.step % config.log_every == 0 or state.step == steps:
            total, hits, count = state.sums.tolist()
            if not math.isfinite(total):
                raise FloatingPointError(
                    f"the loss became infinite or not a number by step {state.step} of {folder.name}; "
                    "lower learning_rate"
                )
            images = (state.step - first_step) * config.batch_size
            entry = {
                "step": state.step,
                "steps": steps,
                "epoch": round(state.step * config.batch_size / len(data.labels), 3),
                "loss": round(total / count, 5),
                "train_accuracy": round(hits / count, 4),
                "images_per_s": round(images / (time.perf_counter() - started), 1),
            }
            state.log.append(entry)
            hook({"run": folder.name, **entry})
            state.sums.zero_()
            started, first_step = time.perf_counter(), state.step
        if stop.is_set() or state.step % config.checkpoint_every == 0 or state.step == steps:
            state.save(last)
        if stop.is_set() and state.step < steps:
            return None
    return state.log


def _train_step(state: TrainingState, data: Cifar10, config: AggregationConfig, seed: int) -> Tensor:
    """Update the weights once; (3,) loss, accuracy and 1."""
    device = data.images.device
    indices = batch_indices(state.step, config.batch_size, len(data.labels), seed).to(device)
    generator = torch.Generator().manual_seed(_derived_seed(seed, state.step))
    images, labels = augment(normalize(data.images[indices]), generator), data.labels[indices]
    with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        logits = state.model(images)
        loss = F.cross_entropy(logits, labels)
    loss.backward()
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    accuracy = (logits.detach().argmax(dim=1) == labels).float().mean()
    return torch.stack([loss.detach().float(), accuracy, torch.ones((), device=device)])


def batch_indices(step: int, batch_size: int, count: int, seed: int) -> Tensor:
    """(batch_size,) which of `count` images a step sees: shuffled epochs in sequence, cut into batches."""
    positions = torch.arange(step * batch_size, (step + 1) * batch_size)
    epochs = positions.div(count, rounding_mode="floor")
    indices = torch.empty(batch_size, dtype=torch.int64)
    for epoch in epochs.unique().tolist():
        generator = torch.Generator().manual_seed(_derived_seed(seed, -1 - epoch))
        order = torch.randperm(count, generator=generator)
        in_epoch = epochs == epoch
        indices[in_epoch] = order[positions[in_epoch] % count]
    return indices


def _derived_seed(seed: int, part: int) -> int:
    """A seed for each step (part from 0) and each epoch (part from −1 down)."""
    return (seed * 1_000_003 + part) % 2**63


def check_settings(previous: Mapping[str, Any], settings: Mapping[str, Any], path: Path) -> None:
    """Raises UsageError naming the settings that differ from those of the run in `path`."""
    changed = [key for key in settings if previous.get(key) != settings[key]]
    if changed:
        raise UsageError(
            f"{path} belongs to a run with other settings ({', '.join(changed)}); choose another output=FOLDER"
        )


@torch.inference_mode()
def test_accuracy(model: nn.Module, data: Cifar10) -> float:
    """The fraction of the images that is classified correctly, in float32."""
    device = _device(model)
    model.eval()
    correct = 0
    for images, labels in zip(data.images.split(TEST_BATCH), data.labels.split(TEST_BATCH), strict=True):
        correct += int((model(normalize(images.to(device))).argmax(dim=1).cpu() == labels).sum())
    return correct / len(data.labels)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
