"""The optimizer of a run, with each code's own rules about what is decayed and what learns faster."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vovnet.engine.config import OptimizerConfig
from vovnet.models.detectors.mask_rcnn import MaskRCNN
from vovnet.models.detectors.refinedet import RefineDet


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """SGD or RMSProp whose weight decay leaves vectors (norms, biases, L2Norm scales) alone.

    With `decay_norms` it takes in those of the body, as in Caffe, whose SSD heads decay none either. The biases of
    RefineDet's predictors, and all of Mask R-CNN's but for its norms', learn at twice the rate and are never decayed.
    """
    fast_biases = _fast_biases(model)
    faster = {id(bias) for bias in fast_biases}
    decayed: list[Tensor] = []
    free: list[Tensor] = []
    for name, parameter in model.named_parameters():
        vector_decays = config.decay_norms and not name.startswith("heads.")
        if id(parameter) not in faster:
            (decayed if parameter.ndim > 1 or vector_decays else free).append(parameter)
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": free, "weight_decay": 0.0}]
    if fast_biases:
        groups.append({"params": fast_biases, "weight_decay": 0.0, "rate_factor": 2.0})
    options: dict[str, Any] = {
        "lr": config.learning_rate,
        "momentum": config.momentum,
        "weight_decay": config.weight_decay,
        "foreach": True,
    }
    # Caffe's RMSProp has the same formula, decay 0.99 and 1e-8, which are PyTorch's defaults too.
    return torch.optim.RMSprop(groups, **options) if config.kind == "rmsprop" else torch.optim.SGD(groups, **options)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every group; those with a "rate_factor" get so many times of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("rate_factor", 1.0)


def _fast_biases(model: nn.Module) -> list[Tensor]:
    if isinstance(model, RefineDet):
        layers: list[nn.Module] = [layer for head in (*model.arm, *model.odm) for layer in (head.box, head.cls)]
    elif isinstance(model, MaskRCNN):
        layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    else:
        layers = []
    return [bias for layer in layers if isinstance(bias := layer.bias, Tensor)]
