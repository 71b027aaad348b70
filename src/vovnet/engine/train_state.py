"""What a training run must keep to resume bit for bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from vovnet.engine.checkpoint import check_optimizer, damaged
from vovnet.engine.config import TrainConfig
from vovnet.models.detectors.contract import DetectionModel
from vovnet.printing import line
from vovnet.weights.detector import ModelInfo
from vovnet.weights.file import DETECTOR_FORMAT, load_state, save_checkpoint


@dataclass
class LossSums:
    """Sums of the losses of the micro-batches since the last log line."""

    count: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, losses: Mapping[str, float]) -> None:
        self.sums = {name: self.sums.get(name, 0.0) + loss for name, loss in losses.items()}
        self.count += 1

    def means(self) -> dict[str, float]:
        return {name: loss / self.count for name, loss in self.sums.items()}


@dataclass
class TrainState:
    """Everything that changes during training.

    step: number of finished steps.
    best: highest metric on `val` so far.
    best_step: the step with this metric.
    last: metric on `val` of the weights at the end of the run; None before it.
    loss_sums: part of the checkpoint, so that a resumed run writes the same log.
    """

    model: DetectionModel
    ema: AveragedModel | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    step: int = 0
    best: float | None = None
    best_step: int | None = None
    last: float | None = None
    loss_sums: LossSums = field(default_factory=LossSums)

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
            "last": self.last,
            "window": asdict(self.loss_sums),
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
            self.ema.n_averaged.fill_(checkpoint["step"])
        check_optimizer(checkpoint["optimizer"], self.optimizer, path)
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        try:
            self.scaler.load_state_dict(checkpoint["scaler"])
        except (KeyError, RuntimeError) as error:
            raise damaged(path, f"its loss scaler: {line(str(error), 80)}") from None
        self.step, self.best, self.best_step = (checkpoint[key] for key in ("step", "best", "best_step"))
        self.last = checkpoint.get("last")  # older checkpoints lack it
        self.loss_sums = LossSums(**checkpoint["window"])

    def check_weights(self) -> None:
        """Raise FloatingPointError unless all weights are finite: they must not replace the last good ones."""
        stop_unless_finite([parameter.sum() for parameter in self.model.parameters()], "weights", self.step)


def stop_unless_finite(values: Sequence[Tensor], what: str, step: int, image_names: Sequence[str] = ()) -> None:
    """Raise FloatingPointError that names the images if a value is infinite or not a number."""
    if not torch.stack([value.detach().isfinite().all() for value in values]).all():
        where = (
            f" with {', '.join(image_names)}: check these images with `vovnet data check`, or" if image_names else ":"
        )
        raise FloatingPointError(
            f"the {what} became infinite or not a number at step {step}{where} lower optimizer.learning_rate or set "
            "optimizer.clip_norm; the last checkpoint is unharmed"
        )
