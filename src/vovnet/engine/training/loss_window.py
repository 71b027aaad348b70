"""The losses since the last log line. They stay on their device until somebody looks, because a look waits for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

_MOST_UNSEEN = 2000  # tensors that wait; only a run that logs very rarely comes to so many


class _Unseen(NamedTuple):
    """Values that nobody has looked at: the losses of a micro-batch, or the norm of a step's gradient."""

    what: str
    losses: tuple[str, ...]
    values: Tensor
    step: int
    image_names: Sequence[str]


@dataclass
class LossWindow:
    """Sums of the losses of the micro-batches since the last log line.

    count: number of micro-batches in `sums`.
    may_overflow: in float16 a loss may become infinite now and then; such a micro-batch is then left out.
    left_out: the step and the images of the last one that was, in this process.
    """

    count: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    may_overflow: bool = False
    left_out: tuple[int, Sequence[str]] | None = None
    unseen: list[_Unseen] = field(default_factory=list, repr=False)

    def add_losses(self, losses: Mapping[str, Tensor], step: int, image_names: Sequence[str]) -> None:
        """Keep the losses of a micro-batch, which are scalars."""
        values = torch.stack(list(losses.values())).detach()
        self.unseen.append(_Unseen("loss", tuple(losses), values, step, image_names))

    def add_gradient_norm(self, norm: Tensor, step: int, image_names: Sequence[str], *, shared: bool = False) -> None:
        """Keep the norm of a step's gradient. shared: by all processes, so that the images here may be innocent."""
        what, image_names = ("gradient of all processes", ()) if shared else ("gradient", image_names)
        self.unseen.append(_Unseen(what, (), norm.detach().view(1), step, image_names))

    def look(self, *, wait: bool = True) -> None:
        """Add what came since the last look to `sums`.

        wait: False looks only if the values are in main memory anyway, or if many have come together.

        Raises FloatingPointError that names the images of the first values that are infinite or not a number.
        """
        if not self.unseen or not (wait or self._is_free() or len(self.unseen) >= _MOST_UNSEEN):
            return
        seen, self.unseen = self.unseen, []
        values = iter(torch.cat([entry.values for entry in seen]).tolist())
        for entry in seen:
            numbers = [next(values) for _ in range(len(entry.values))]
            if not all(map(math.isfinite, numbers)):
                if self.may_overflow:
                    self.left_out = entry.step, entry.image_names
                    continue
                raise not_finite(entry.what, entry.step, entry.image_names)
            if entry.losses:
                by_name = zip(entry.losses, numbers, strict=True)
                self.sums = {name: self.sums.get(name, 0.0) + number for name, number in by_name}
                self.count += 1

    def _is_free(self) -> bool:
        return self.unseen[0].values.device.type == "cpu"

    def means(self) -> dict[str, float]:
        """The mean of each loss; none if all micro-batches overflowed."""
        return {name: loss / self.count for name, loss in self.sums.items()}

    def clear(self) -> None:
        self.count, self.sums = 0, {}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps. Call `look` before."""
        return {"count": self.count, "sums": self.sums}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count, self.sums, self.unseen = state["count"], dict(state["sums"]), []


def not_finite(what: str, step: int, image_names: Sequence[str] = ()) -> FloatingPointError:
    """An error that names the images and what helps."""
    where = f" with {', '.join(image_names)}: check these images with `vovnet data check`, or" if image_names else ":"
    return FloatingPointError(
        f"the {what} became infinite or not a number at step {step}{where} lower optimizer.learning_rate or set "
        "optimizer.clip_norm; the last checkpoint is unharmed"
    )
