"""The exponential moving average (EMA) of a model's weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def make_ema(model: nn.Module, decay: float) -> AveragedModel:
    """An EMA of the weights and norm statistics. Its decay starts small and rises to `decay`."""

    def update(averages: Sequence[Tensor], currents: Sequence[Tensor], count: Tensor | int) -> None:
        if not averages[0].is_floating_point():  # counters of batch norms
            torch._foreach_copy_(list(averages), list(currents))
            return
        updates = int(count)
        current_decay = min(decay, (1 + updates) / (10 + updates))
        torch._foreach_lerp_(list(averages), list(currents), 1 - current_decay)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)
