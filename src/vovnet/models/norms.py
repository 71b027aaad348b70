"""Batch norms that PyTorch lacks: with constant statistics, and with those of small groups of images."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

_NO_EPS = 1e-30  # some versions of PyTorch refuse 0 in `F.batch_norm`


class FrozenBatchNorm(FrozenBatchNorm2d):
    """Batch norm with constant statistics, weight and bias; the output has the number format of the input.

    torchvision's raises bfloat16 and float16 to float32, and with them all that follows; this one computes in float32
    too, and rounds the result once. In float32 both give the same bits. eps may be 0.
    """

    def forward(self, x: Tensor) -> Tensor:
        constants = (self.weight, self.bias, self.running_mean, self.running_var)
        if x.dtype in (torch.bfloat16, torch.float16):
            weight, bias, mean, variance = (values.float() for values in constants)
            return F.batch_norm(x, mean, variance + self.eps, weight, bias, eps=_NO_EPS)
        weight, bias, mean, variance = (values.reshape(1, -1, 1, 1) for values in constants)
        scale = weight * (variance.to(torch.promote_types(variance.dtype, torch.float32)) + self.eps).rsqrt()
        return (x * scale + (bias - mean * scale)).to(x.dtype)


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
