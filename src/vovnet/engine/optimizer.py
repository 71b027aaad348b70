"""The optimizer of a run, as in each detector's published code, and the exponential moving average of its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from vovnet.engine.config import OptimizerConfig
from vovnet.zoo import DetectorSpec


def make_optimizer(model: nn.Module, spec: DetectorSpec, config: OptimizerConfig) -> torch.optim.Optimizer:
    """SGD or RMSProp. Weight decay leaves out vectors: norm parameters, biases, scales of L2Norm.

    With `decay_norms` it includes them, as Caffe does, but for those that the detector's `spec` exempts. Fast biases of
    the `spec` have a group of their own, without decay and at twice the rate.
    """
    fast = spec.fast_biases(model)
    fast_ids = {id(bias) for bias in fast}
    decayed: list[Tensor] = []
    free: list[Tensor] = []
    for name, parameter in model.named_parameters():
        decays = parameter.ndim > 1 or (config.decay_norms and not name.startswith(spec.never_decayed))
        if id(parameter) not in fast_ids:
            (decayed if decays else free).append(parameter)
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": free, "weight_decay": 0.0}]
    if fast:
        groups.append({"params": fast, "weight_decay": 0.0, "rate_factor": 2.0})
    options: dict[str, Any] = {
        "lr": config.learning_rate,
        "momentum": config.momentum,
        "weight_decay": config.weight_decay,
        "foreach": True,
    }
    # Caffe's RMSProp has the same formula; its decay 0.99 and epsilon 1e-8 are PyTorch's defaults.
    return torch.optim.RMSprop(groups, **options) if config.kind == "rmsprop" else torch.optim.SGD(groups, **options)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every group; a group with a "rate_factor" gets that multiple of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("rate_factor", 1.0)


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
