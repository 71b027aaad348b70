"""Anchors, which SSD calls default boxes, and the cell anchors of a region proposal network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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
        sizes = [(float(self.min_size), float(self.min_size))]
        if self.max_size is not None:
            side = math.sqrt(self.min_size * self.max_size)
            sizes.append((side, side))
        for ratio in self.ratios:
            long, short = self.min_size * math.sqrt(ratio), self.min_size / math.sqrt(ratio)
            sizes += [(long, short), (short, long)]
        return sizes


def make_anchors(
    levels: Sequence[AnchorLevel], map_sizes: Sequence[tuple[int, int]], image_size: tuple[int, int]
) -> Tensor:
    """Anchors (A, 4) as cx cy w h in pixels, by feature map, row, column and shape. They are not clipped to the image.

    map_sizes: (height, width) of the feature map of each level.
    image_size: (height, width) of the network's input.
    """
    per_level = []
    for level, (height, width) in zip(levels, map_sizes, strict=True):
        step_y, step_x = (level.step or image_size[0] / height, level.step or image_size[1] / width)
        cy = (torch.arange(height) + 0.5) * step_y
        cx = (torch.arange(width) + 0.5) * step_x
        shapes = torch.tensor(level.shapes())  # (P, 2)
        anchors = torch.empty(height, width, len(shapes), 4)
        anchors[..., 0] = cx.view(1, -1, 1)
        anchors[..., 1] = cy.view(-1, 1, 1)
        anchors[..., 2:] = shapes
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


CellAnchors = Callable[[float, int, Sequence[float]], Tensor]
"""(size, stride, ratios) → the anchors (P, 4) of a feature map's first cell: x1 y1 x2 y2 in pixels of the input.

size: side of the square anchor. stride: of the feature map. ratios: height to width, in the order of the anchors.
"""


def torchvision_anchors(size: float, stride: int, ratios: Sequence[float]) -> Tensor:
    """`CellAnchors` as torchvision makes them: around the cell's top left corner, corners rounded to whole pixels."""
    height = torch.tensor(ratios, dtype=torch.float32, device="cpu").sqrt()  # whatever the default device
    half = torch.stack([1 / height, height], dim=1) * (size / 2)
    return torch.cat([-half, half], dim=1).round()


def detectron_anchors(size: float, stride: int, ratios: Sequence[float]) -> Tensor:
    """`CellAnchors` as Detectron and maskrcnn-benchmark make them, with x2 and y2 exclusive.

    They lie around the middle of the cell, half a stride right of and below torchvision's. They are rounded at the size
    of the stride and then enlarged, which changes a side by up to 6 %: 48×24 at stride 4 where torchvision has 46×22.
    Weights trained with one convention give misplaced proposals with the other.
    """
    ratio = torch.tensor(ratios, dtype=torch.float64, device="cpu")
    width = (stride / ratio.sqrt()).round()
    height = (width * ratio).round()
    half = torch.stack([width, height], dim=1) * (size / stride / 2)
    return torch.cat([stride / 2 - half, stride / 2 + half], dim=1).float()
