"""Batch norms that PyTorch lacks: with constant statistics, and with those of small groups of images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d


class FrozenBatchNorm(FrozenBatchNorm2d):
    """Batch norm with constant statistics, weight and bias; the output has the number format of the input.

    torchvision's raises bfloat16 and float16 to float32, and with them all that follows. In float32 both give the same
    bits. eps may be 0, which some versions of PyTorch refuse in `F.batch_norm`.
    """

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, mean, variance = (
            values.reshape(1, -1, 1, 1) for values in (self.weight, self.bias, self.running_mean, self.running_var)
        )
        wide = torch.promote_types(variance.dtype, torch.float32)
        scale = weight * (variance.to(wide) + self.eps).rsqrt()
        shift = bias - mean * scale
        if x.dtype == wide:
            return x * scale + shift
        return torch.addcmul(shift.to(x.dtype), x, scale.to(x.dtype))  # rounds once


class FrozenBatchNormAct(FrozenBatchNorm):
    """What timm's `FrozenBatchNormAct2d` is: followed by an activation. Takes the place of `norm`."""

    def __init__(self, norm: Any) -> None:
        super().__init__(len(norm.weight), norm.eps)
        self.drop, self.act = norm.drop, norm.act

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.act(self.drop(super().forward(x)))
        return output


def keep_number_format(module: nn.Module) -> nn.Module:
    """The module with frozen norms that keep the number format of their input in the place of torchvision's and timm's.

    The names and values of the state dict stay the same.
    """
    for name, child in module.named_children():
        if isinstance(child, FrozenBatchNorm):
            continue
        if isinstance(child, FrozenBatchNorm2d):
            frozen = FrozenBatchNorm(len(child.weight), child.eps)
        elif type(child).__name__ == "FrozenBatchNormAct2d":
            frozen = FrozenBatchNormAct(child)
        else:
            keep_number_format(child)
            continue
        for key in ("weight", "bias", "running_mean", "running_var"):
            setattr(frozen, key, getattr(child, key))
        setattr(module, name, frozen)
    return module
