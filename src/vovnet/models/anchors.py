"""Anchors, which SSD calls default boxes, and the cell anchors of a region proposal network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

CellAnchors = Callable[[float, int, Sequence[float]], Tensor]
"""(size, stride, ratios) → the anchors (R, 4) of a feature map's first cell: x1 y1 x2 y2 in pixels of the input.

size: side of the square anchor; stride: of the feature map; ratios: height to width, in the order of the anchors.
"""


class AnchorLevel(NamedTuple):
    """The default boxes of one feature map, in pixels of the network's input.

    A cell has a square of `min_size`, one of √(min_size·max_size) where max_size is given, and for each ratio r a box
    of width min_size·√r and height min_size/√r followed by its transpose, in this order.
    step: distance of the cells' centres; None means input size / map size.
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
    """Default boxes (A, 4) as cx cy w h in pixels: map by map, then row, column, box. Not clipped to the image."""
    maps = []
    for level, (height, width) in zip(levels, map_sizes, strict=True):
        step_y, step_x = (level.step or image_size[0] / height, level.step or image_size[1] / width)
        cy = (torch.arange(height) + 0.5) * step_y
        cx = (torch.arange(width) + 0.5) * step_x
        shapes = torch.tensor(level.shapes())  # (P, 2)
        anchors = torch.empty(height, width, len(shapes), 4)
        anchors[..., 0] = cx.view(1, -1, 1)
        anchors[..., 1] = cy.view(-1, 1, 1)
        anchors[..., 2:] = shapes
        maps.append(anchors.view(-1, 4))
    return torch.cat(maps)


def torchvision_anchors(size: float, stride: int, ratios: Sequence[float]) -> Tensor:
    """`CellAnchors` as torchvision makes them: around the cell's top left corner, corners rounded to whole pixels."""
    height = torch.tensor(ratios, dtype=torch.float32, device="cpu").sqrt()
    half = torch.stack([1 / height, height], dim=1) * (size / 2)
    return torch.cat([-half, half], dim=1).round()


def detectron_anchors(size: float, stride: int, ratios: Sequence[float]) -> Tensor:
    """`CellAnchors` as Detectron and maskrcnn-benchmark make them, with x2 and y2 exclusive.

    They lie around the middle of the cell, half a stride right of and below torchvision's. They are rounded at the size
    of the stride and then enlarged, which changes a side by up to 6 %: 48×24 at stride 4 where torchvision has 46×22.
    Weights trained with one convention give misplaced proposals with the other.
    """
    ratio = torch.tensor(ratios, dtype=torch.float64, device="cpu")  # as torchvision's, whatever the default device
    width = (stride / ratio.sqrt()).round()
    height = (width * ratio).round()
    half = torch.stack([width, height], dim=1) * (size / stride / 2)
    return torch.cat([stride / 2 - half, stride / 2 + half], dim=1).float()
