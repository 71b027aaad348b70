"""Modules whose costs are counted in the tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from vovnet.profiling.cost import count_cost
from vovnet.profiling.cost_types import Cost


class Call(nn.Module):
    """A module that calls a function."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> object:
        return self.function(*inputs)


def total(module: nn.Module, *inputs: Sequence[int] | torch.Tensor) -> Cost:
    cost = count_cost(module, *inputs)
    assert cost.uncounted == {}
    assert cost.note is None
    return cost.total
