"""Anchors, which SSD calls default boxes: of a one-stage detector's feature maps, and of one cell as in Detectron."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class AnchorLevel(NamedTuple):
    """The default boxes of one feature map, in pixels of the network's input.

    In this order, a cell has a square of `min_size`; a square of √(min_size·max_size) if max_size is given; and for
    each ratio r a box of width min_size·√r and height min_size/√r, followed by its transpose.

    step: distance between the centres of neighbouring cells; None means input size / feature map size.
    """

    min_size: int
    max_size: int | None
    ratios: tuple[int, ...]
    step: int | None = None

    @property
    def per_cell(self) -> int:
        return 1 + (self.max_size is not None) + 2 * len(self.ratios)

    def shapes(self) -> list[tuple[float, float]]:
        """(width, height) of each box of a cell."""
        sides = [self.min_size] if self.max_size is None else [self.min_size, math.sqrt(self.min_size * self.max_size)]
        shapes: list[tuple[float, float]] = [(side, side) for side in sides]
        for ratio in self.ratios:
            long, short = self.min_size * math.sqrt(ratio), self.min_size / math.sqrt(ratio)
            shapes += [(long, short), (short, long)]
        return shapes


def make_anchors(
    levels: Sequence[AnchorLevel], map_sizes: Sequence[tuple[int, int]], image_size: tuple[int, int]
) -> Tensor:
    """Anchors (A, 4) as cx cy w h in pixels, by feature map, row, column and shape. They are not clipped to the image.

    map_sizes: (height, width) of the feature map of each level.
    image_size: (height, width) of the network's input.
    """
    per_level = []
    for level, (height, width) in zip(levels, map_sizes, strict=True):
        anchors = torch.empty(height, width, level.per_cell, 4)
        anchors[..., 0] = (torch.arange(width).view(1, -1, 1) + 0.5) * (level.step or image_size[1] / width)
        anchors[..., 1] = (torch.arange(height).view(-1, 1, 1) + 0.5) * (level.step or image_size[0] / height)
        anchors[..., 2:] = torch.tensor(level.shapes())  # (P, 2)
        per_level.append(anchors.view(-1, 4))  # (H·W·P, 4)
    return torch.cat(per_level)


class AnchorGrid:
    """The anchors of a one-stage detector, computed once per input size and device.

    No module and no buffer: the anchors follow from the input, so they do not belong in the state dict, and a model
    that was built on the meta device has real anchors as soon as it sees real images.
    """

    def __init__(self, levels: Sequence[AnchorLevel]) -> None:
        self.levels = tuple(levels)
        self._cache: dict[tuple[int, int, torch.device], Tensor] = {}

    def __call__(self, feature_maps: Sequence[Tensor], images: Tensor) -> Tensor:
        """Anchors (A, 4) as cx cy w h for the feature maps that the network makes of these images (N, 3, H, W)."""
        height, width = images.shape[-2:]
        key = (height, width, images.device)
        if key not in self._cache:
            map_sizes = [(feature.shape[-2], feature.shape[-1]) for feature in feature_maps]
            self._cache[key] = make_anchors(self.levels, map_sizes, (height, width)).to(images.device)
        return self._cache[key]


def detectron_anchors(size: float, stride: int, ratios: Sequence[float]) -> Tensor:
    """Anchors (P, 4) of a feature map's first cell as Detectron and maskrcnn-benchmark make them, x2 and y2 exclusive.

    They lie around the middle of the cell, half a stride right of and below torchvision's. They are rounded at the size
    of the stride and then enlarged, which changes a side by up to 6 %: 48×24 at stride 4 where torchvision has 46×22.
    Weights trained with one convention give misplaced proposals with the other.

    size: side of the square anchor.
    ratios: height to width, in the order of the anchors.
    """
    ratio = torch.tensor(ratios, dtype=torch.float64, device="cpu")  # whatever the default device
    width = (stride / ratio.sqrt()).round()
    height = (width * ratio).round()
    half = torch.stack([width, height], dim=1) * (size / stride / 2)
    return torch.cat([stride / 2 - half, stride / 2 + half], dim=1).float()
