"""Anchors of a region proposal network as Detectron and maskrcnn-benchmark make them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def detectron_anchors(size: float, stride: int, ratios: Sequence[float]) -> Tensor:
    """The anchors (R, 4) of a map's first cell: x1 y1 x2 y2 in pixels of the input, the ends outside the box.

    size: side of the square one; stride: the map's; ratios: height to width, in the order of the anchors.

    They lie around the middle of the cell, torchvision's around its corner, half a stride up and to the left. Theirs
    are rounded at the size of the stride and then enlarged, which changes a side by up to 6 %: 48×24 at stride 4 where
    torchvision has 46×22. Weights learned with the one kind give misplaced proposals with the other.
    """
    ratio = torch.tensor(ratios, dtype=torch.float64, device="cpu")  # as torchvision's, whatever the default
    width = (stride / ratio.sqrt()).round()
    height = (width * ratio).round()
    half = torch.stack([width, height], dim=1) * (size / stride / 2)
    return torch.cat([stride / 2 - half, stride / 2 + half], dim=1).float()
