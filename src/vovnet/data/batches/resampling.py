"""The interpolations of Pillow and of `vovnet.data.opencv` as matrices, for many images at once and on any device.

Each is separable and linear: rows of the result are weighted sums of rows of the image, and columns likewise. Positions
are float64, because a pixel at the rim of a filter counts or not by the last bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_BILINEAR, _BOX, _NEAREST, _BICUBIC, _LANCZOS = range(5)  # SSD's order; OpenCV's names are linear, area, …, lanczos4
_SUPPORTS = (1.0, 0.5, 0.5, 2.0, 3.0)  # half the width of each filter of Pillow


@dataclass(frozen=True)
class Sides:
    """One side of N crops, with the part of the image that each contains; tensors of shape (N, 1, 1).

    length: pixels of the crop, float64.
    longest: the largest length.
    start, stop: where the part begins and ends in the crop.
    interpolation: index into SSD's list.
    reverse: the result is flipped along this side.
    grows: the crop grows along this side or the other one; OpenCV's "area" then differs.
    """

    length: Tensor
    longest: int
    start: Tensor
    stop: Tensor
    interpolation: Tensor
    reverse: Tensor
    grows: Tensor


_Taps = tuple[Tensor, Tensor]
"""The pixels of the crop that make up each new pixel, and their weights: (N, wanted, K) each."""


def resampling_weights(sides: Sides, wanted: int, *, width: int, antialias: bool) -> Tensor:
    """float32 (N, wanted, width): the share of each pixel of a part in each new pixel; what is no part counts 0.

    width: of the matrices, at least that of the widest part.
    antialias: Pillow's interpolations, else OpenCV's.
    """
    new = torch.arange(wanted, dtype=torch.float64, device=sides.length.device)[:, None]
    new = torch.where(sides.reverse, wanted - 1 - new, new)  # (N, wanted, 1)
    scale = sides.length / wanted
    largest_scale = max(1.0, sides.longest / wanted)
    if antialias:
        index, weight = _pillow_taps(new, scale, sides, 2 * math.ceil(_SUPPORTS[_LANCZOS] * largest_scale) + 1)
    else:
        index, weight = _opencv_taps(new, scale, sides, max(8, math.ceil(largest_scale) + 1))
    inside = (index >= sides.start) & (index < sides.stop)
    column = (index - sides.start).clamp(0, width - 1).long()
    weights = torch.zeros((len(scale), wanted, width), dtype=torch.float32, device=scale.device)
    return weights.scatter_add_(2, column, torch.where(inside, weight, 0.0).float())


def _pillow_taps(new: Tensor, scale: Tensor, sides: Sides, num_taps: int) -> _Taps:
    """As `precompute_coeffs` of Pillow's Resample.c; the nearest pixel as in its Geometry.c."""
    kinds = sides.interpolation
    widening = scale.clamp(min=1)
    support = torch.zeros_like(scale)
    for kind, value in enumerate(_SUPPORTS):
        support = torch.where(kinds == kind, value, support)
    support = support * widening
    centre = (new + 0.5) * scale
    first = (centre - support + 0.5).floor().clamp(min=0)
    end = torch.minimum((centre + support + 0.5).floor(), sides.length)
    steps = torch.arange(num_taps, dtype=torch.float64, device=scale.device)
    index = first + steps
    offset = (index - centre + 0.5) * (1 / widening)
    distance = offset.abs()
    near = (1.5 * distance - 2.5) * distance**2 + 1  # the cubic with a = -1/2
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weight = (1 - distance).clamp(min=0)
    weight = torch.where(kinds == _BOX, ((offset > -0.5) & (offset <= 0.5)).double(), weight)
    cubic = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    weight = torch.where(kinds == _BICUBIC, cubic, weight)
    lanczos = torch.where((offset >= -3) & (offset < 3), torch.sinc(offset) * torch.sinc(offset / 3), 0.0)
    weight = torch.where(kinds == _LANCZOS, lanczos, weight)
    weight = torch.where(index < end, weight, 0.0)
    nearest = kinds == _NEAREST
    index = torch.where(nearest, torch.minimum(centre.floor(), sides.length - 1) + steps, index)
    weight = torch.where(nearest, (steps == 0).double(), weight)
    return index, weight / weight.sum(dim=2, keepdim=True)


def _opencv_taps(new: Tensor, scale: Tensor, sides: Sides, num_taps: int) -> _Taps:
    """As `vovnet.data.opencv`, of which this is the same with all images and interpolations at once."""
    kinds = sides.interpolation
    steps = torch.arange(num_taps, dtype=torch.float64, device=scale.device)
    centre = (new + 0.5) * scale - 0.5
    before = torch.where(kinds == _LANCZOS, 3.0, torch.where(kinds == _BICUBIC, 1.0, 0.0))
    index = centre.floor() - before + steps
    distance = (index - centre).abs()
    near = (1.25 * distance - 2.25) * distance**2 + 1  # the cubic with a = -3/4
    far = ((-0.75 * distance + 3.75) * distance - 6) * distance + 3
    weight = torch.where(steps < 2, 1 - distance, 0.0)
    cubic = torch.where(steps < 4, torch.where(distance <= 1, near, far), 0.0)
    weight = torch.where(kinds == _BICUBIC, cubic, weight)
    lanczos = torch.where(steps < 8, torch.sinc(distance) * torch.sinc(distance / 4), 0.0)
    weight = torch.where(kinds == _LANCZOS, lanczos / lanczos.sum(dim=2, keepdim=True), weight)

    area = kinds == _BOX
    first = (new * scale + 1e-9).floor() + steps
    covered = torch.minimum(first + 1, (new + 1) * scale) - torch.maximum(first, new * scale)
    index = torch.where(area & ~sides.grows, first, index)
    weight = torch.where(area & ~sides.grows, covered.clamp(min=0) / scale, weight)
    left = (new * scale).floor()
    share = (new + 1 - (left + 1) / scale).clamp(min=0)
    share = share - share.floor()
    of_two = torch.where(steps == 0, 1 - share, torch.where(steps == 1, share, 0.0))
    index = torch.where(area & sides.grows, left + steps, index)
    weight = torch.where(area & sides.grows, of_two, weight)

    nearest = kinds == _NEAREST
    index = torch.where(nearest, (new * scale).floor() + steps, index)
    weight = torch.where(nearest, (steps == 0).double(), weight)
    return torch.minimum(index.clamp(min=0), sides.length - 1), weight
