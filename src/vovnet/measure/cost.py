"""Exact counts: parameters and multiply-adds."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(module: nn.Module) -> int:
    """Trainable values: weights, biases, norm scales. Running statistics of batch norm are not parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_multiply_adds(module: nn.Module, input_size: tuple[int, int], channels: int = 3) -> int:
    """Multiply-adds of convolutions and matrix products for one image of (height, width); FLOPs are twice that.

    What the paper's tables call FLOPs is this number. Nothing is computed: the module's copy has shapes only.
    """
    shadow = copy.deepcopy(module).eval().to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shadow(torch.empty(1, channels, *input_size, device="meta"))
    return counter.get_total_flops() // 2
