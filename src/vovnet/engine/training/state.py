"""What a training run must keep to resume bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from vovnet.engine.config import TrainConfig
from vovnet.engine.training.checkpoint import check_optimizer, damaged
from vovnet.engine.training.ema import EMA
from vovnet.engine.training.loss_window import LossWindow, not_finite
from vovnet.engine.training.optimizer import complete_state
from vovnet.models.detectors.contract import DetectionModel
from vovnet.printing import line
from vovnet.weights.detector import ModelInfo
from vovnet.weights.file import DETECTOR_FORMAT, load_state, save_checkpoint

_OF_THE_DEVICE = ("foreach", "fused")  # how the optimizer computes, not what: a run may go on elsewhere
_LEAST_SCALE = 2.0**-10  # of the loss in float16: 26 overflows after the start value


@dataclass
class TrainState:
    """Everything that changes during training.

    step: number of finished steps.
    best: highest metric on `val` so far.
    best_step: the step with this metric.
    stopped_step: the last step after which the run stopped early; None without one.
    last: metric on `val` of the weights at the end of the run; None before it.
    seconds: time of a run of minutes that is used up; 0 in others.
    default_boxes: what the default boxes match that were fitted to the data, for records; None if they were not.
    window: part of the checkpoint, so that a resumed run writes the same log.
    """

    model: DetectionModel
    ema: EMA | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    step: int = 0
    best: float | None = None
    best_step: int | None = None
    stopped_step: int | None = None
    last: float | None = None
    seconds: float = 0.0
    default_boxes: Mapping[str, Any] | None = None
    window: LossWindow = field(default_factory=LossWindow)

    def __post_init__(self) -> None:
        self.window.may_overflow = self.scaler.is_enabled()

    @property
    def evaluated_model(self) -> DetectionModel:
        """The model that is evaluated and whose weights are saved as the best ones: the EMA if there is one."""
        return self.model if self.ema is None else cast(DetectionModel, self.ema.module)

    def save(self, path: Path, *, info: ModelInfo, images: str, config: TrainConfig) -> None:
        """Write a checkpoint. images: `fingerprint` of the training images."""
        checkpoint = {
            "format": DETECTOR_FORMAT,
            "model": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "best": self.best,
            "best_step": self.best_step,
            "stopped_step": self.stopped_step,
            "last": self.last,
            "seconds": self.seconds,
            "default_boxes": self.default_boxes,
            "window": self.window.state_dict(),
            "info": info.to_dict(),
            "images": images,
            "config": config.model_dump(mode="json"),
        }
        save_checkpoint(path, checkpoint)

    def load(self, checkpoint: Mapping[str, Any], path: Path) -> None:
        """Go back to the state in a checkpoint that was read from `path` and checked by `check_checkpoint`.

        ValueError if it is of another network or optimizer.
        """
        load_state(self.model, checkpoint["model"], str(path))
        if self.ema is not None:
            if checkpoint["ema"] is None:
                raise damaged(path, "it lacks the averaged weights")
            load_state(self.ema.module, checkpoint["ema"], str(path))
            self.ema.updates = checkpoint["step"]
        check_optimizer(checkpoint["optimizer"], self.optimizer, path)
        own = [{key: group.get(key) for key in _OF_THE_DEVICE} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        for group, options in zip(self.optimizer.param_groups, own, strict=True):
            group.update(options)
        complete_state(self.optimizer)
        try:
            self.scaler.load_state_dict(checkpoint["scaler"])
        except (KeyError, RuntimeError) as error:
            raise damaged(path, f"its loss scaler: {line(str(error), 80)}") from None
        self.step, self.best, self.best_step = (checkpoint[key] for key in ("step", "best", "best_step"))
        self.last, self.seconds = checkpoint.get("last"), checkpoint.get("seconds", 0.0)  # older checkpoints lack them
        self.stopped_step = checkpoint.get("stopped_step")
        self.window.load_state_dict(checkpoint["window"])

    def look(self, *, wait: bool = True) -> None:
        """Look at the losses since the last look, see `LossWindow.look`, and at the scale of the loss in float16.

        Raises FloatingPointError if they are not finite, or if nearly every step overflows.
        """
        self.window.look(wait=wait)
        if wait and self.scaler.is_enabled() and (scale := self.scaler.get_scale()) < _LEAST_SCALE:
            raise FloatingPointError(
                f"float16 overflows in every step, up to step {self.step}, whatever the loss is multiplied by (now "
                f"{scale:.1g}): use precision=bf16 or precision=fp32, lower optimizer.learning_rate or set "
                f"optimizer.clip_norm{self._suspects()}; the last checkpoint is unharmed"
            )

    def _suspects(self) -> str:
        if self.window.left_out is None:
            return ""
        step, names = self.window.left_out
        return (
            f", or check with `vovnet data check` the images of the last loss that was not finite, at step {step}: "
            + (", ".join(names))
        )

    def check_weights(self) -> None:
        """Raise FloatingPointError unless all that is saved is finite: it must not replace the last good checkpoint.

        If a loss was not, the error is that of `look`.
        """
        self.look()
        modules = [self.model] if self.ema is None else [self.model, self.ema.module]
        tensors = [tensor for module in modules for tensor in module.state_dict().values()]
        if not torch.stack([tensor.isfinite().all() for tensor in tensors]).all():
            raise not_finite("weights", self.step)
