"""The exponential moving average of a model's weights and norm statistics."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class EMA:
    """The average of a model, in `module`. Its decay starts small and rises to `decay`.

    PyTorch's `AveragedModel` counts the updates on the device, and waits for it to read the count.

    updates: how many there were. The first one copies the model.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take the present weights and statistics of `model` into the average. Counters of batch norms are copied."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averaged: list[tuple[Tensor, Tensor]] = []
        copied: list[tuple[Tensor, Tensor]] = []
        for pair in zip(_tensors(self.module), _tensors(model), strict=True):
            (averaged if self.updates and pair[0].is_floating_point() else copied).append(pair)
        if averaged:
            averages, currents = zip(*averaged, strict=True)
            torch._foreach_lerp_(averages, currents, 1 - decay)
        if copied:
            averages, currents = zip(*copied, strict=True)
            torch._foreach_copy_(averages, currents)
        self.updates += 1


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
