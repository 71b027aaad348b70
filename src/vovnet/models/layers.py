"""The few layers that all networks here are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from vovnet.models.norms import FrozenBatchNorm
from vovnet.printing import quoted

Norm = Literal["batch", "group", "frozen"]
Init = Literal["kaiming", "xavier"]


def check_option(name: str, value: str, options: Any) -> None:
    """ValueError with the alternatives if `value` is not one of the strings of the Literal `options`."""
    *others, last = map(repr, get_args(options))
    if value not in get_args(options):
        raise ValueError(f"{name} must be {', '.join(others)} or {last}, got {quoted(value)}")


def make_norm(norm: Norm, channels: int, eps: float = 1e-5) -> nn.Module:
    """A normalisation layer by name.

    "batch": batch norm.
    "group": group norm with 32 groups, or with gcd(32, channels) where 32 does not divide `channels`.
    "frozen": batch norm with constant statistics, weight and bias, for those of a trained network.
    """
    check_option("norm", norm, Norm)
    if norm == "group":
        return nn.GroupNorm(math.gcd(32, channels), channels, eps=eps)
    return (nn.BatchNorm2d if norm == "batch" else FrozenBatchNorm)(channels, eps=eps)


def memory_format_of(channels_last: bool | None) -> torch.memory_format:
    """The memory format of weights and feature maps: by channel only if `channels_last` is False."""
    return torch.contiguous_format if channels_last is False else torch.channels_last


class ConvNormAct(nn.Sequential):
    """Convolution without bias, norm, ReLU; padded so that stride 1 keeps the size."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        stride: int = 1,
        norm: Norm = "batch",
        act: bool = True,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = make_norm(norm, c_out, eps)
        if act:
            self.act = nn.ReLU(inplace=True)


class NormActConv(nn.Sequential):
    """Batch norm, ReLU, convolution without bias: the pre-activation order of DenseNet and DSOD."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(c_in)
        self.act = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)


class ResidualBlock(nn.Module):
    """1×1, 3×3 and 1×1 convolutions with batch norm, beside a 1×1 shortcut; Pelee and RefineDet predict from it.

    (N, c_in, H, W) → (N, c_out, H/stride, W/stride). width: channels between the convolutions.
    """

    def __init__(self, c_in: int, width: int, c_out: int, *, stride: int = 1, eps: float = 1e-5) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            ConvNormAct(c_in, width, 1, stride, eps=eps),
            ConvNormAct(width, width, 3, eps=eps),
            ConvNormAct(width, c_out, 1, act=False, eps=eps),
        )
        self.shortcut = ConvNormAct(c_in, c_out, 1, stride, act=False, eps=eps)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.branch(x) + self.shortcut(x))


class L2Norm(nn.Module):
    """Scale each position's channel vector to length 1, then each channel by a learned factor (ParseNet)."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        # In half precision the sum would overflow, and so would the gradient at a position that is all zero.
        wide = x.float()
        length = (wide.square().sum(dim=1, keepdim=True) + 1e-10).sqrt()
        return (wide / length * self.scale.view(1, -1, 1, 1)).to(x.dtype)


def predict(heads: nn.ModuleList, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Box deltas (N, A, 4) and logits (N, A, num_logits) of all feature maps, by map, row, column and anchor.

    Each head turns its feature map into (N, P·4, H, W) and (N, P·num_logits, H, W).
    """
    deltas, logits = [], []
    for head, feature in zip(heads, maps, strict=True):
        box, cls = (output.permute(0, 2, 3, 1).flatten(1, 2) for output in head(feature))  # (N, H·W, P·…)
        per_cell = box.shape[-1] // 4
        deltas.append(box.unflatten(2, (per_cell, -1)).flatten(1, 2))
        logits.append(cls.unflatten(2, (per_cell, -1)).flatten(1, 2))
    return torch.cat(deltas, dim=1), torch.cat(logits, dim=1)


def caffe_xavier_(weight: Tensor) -> None:
    """Caffe's "xavier" filler: uniform in ±√(3 / fan_in)."""
    bound = math.sqrt(3 / weight[0].numel())
    nn.init.uniform_(weight, -bound, bound)


def init_weights(module: nn.Module, init: Init) -> None:
    """Initialise the weights of all convolutions, and set biases of convolutions and linear layers to 0.

    "kaiming": normal with variance 2 / fan_in.
    "xavier": see `caffe_xavier_`.
    """
    check_option("init", init, Init)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            if init == "kaiming":
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            else:
                caffe_xavier_(layer.weight)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
