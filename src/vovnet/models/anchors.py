"""Anchors, which SSD calls default boxes: of a one-stage detector's feature maps, and of one cell as in Detectron."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vovnet.errors import UsageError, counted, unknown_name
from vovnet.printing import quoted

Anchors = str | Sequence[Sequence[Sequence[float]]] | None
"""What the option `anchors` of a one-stage detector takes: the name of a set, for each feature map the list of the
[width, height] of its default boxes in pixels of the network's input, or None for the detector's own."""

_SIDES = (0.1, 4096.0)  # pixels
_MOST_PER_CELL = 64


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

    @property
    def smallest(self) -> float:
        """Side of the smallest square."""
        return self.min_size

    def shapes(self) -> list[tuple[float, float]]:
        """(width, height) of each box of a cell."""
        sides = [self.min_size] if self.max_size is None else [self.min_size, math.sqrt(self.min_size * self.max_size)]
        shapes: list[tuple[float, float]] = [(side, side) for side in sides]
        for ratio in self.ratios:
            long, short = self.min_size * math.sqrt(ratio), self.min_size / math.sqrt(ratio)
            shapes += [(long, short), (short, long)]
        return shapes


class ListedLevel(NamedTuple):
    """The default boxes of one feature map as a list of (width, height); `step` is as in `AnchorLevel`."""

    boxes: tuple[tuple[float, float], ...]
    step: int | None = None

    @property
    def per_cell(self) -> int:
        return len(self.boxes)

    @property
    def smallest(self) -> float:
        """√area of the smallest box."""
        return min(math.sqrt(width * height) for width, height in self.boxes)

    def shapes(self) -> list[tuple[float, float]]:
        """(width, height) of each box of a cell."""
        return list(self.boxes)


Level = AnchorLevel | ListedLevel


def choose_levels(
    anchors: Anchors, own: Sequence[AnchorLevel], sets: Mapping[str, Sequence[AnchorLevel]] | None = None
) -> tuple[Level, ...]:
    """The levels that a detector's option `anchors` stands for.

    own: the detector's own levels. Listed boxes stand on the same grids, one list for each.
    sets: the sets that have a name.

    Raises UsageError for anything else; the option may come from a stranger's file.
    """
    if anchors is None:
        return tuple(own)
    if isinstance(anchors, str) and sets and anchors in sets:
        return tuple(sets[anchors])
    if not isinstance(anchors, list | tuple):
        if sets:
            raise unknown_name("set of anchors", anchors, sets)
        raise _wrong(f"of {len(own)} feature maps", anchors)
    if len(anchors) != len(own):
        raise UsageError(
            f"anchors must be {counted(len(own), 'list')} of default boxes, one a feature map, got {len(anchors)}"
        )
    return tuple(
        ListedLevel(_boxes(boxes, number), level.step)
        for number, (boxes, level) in enumerate(zip(anchors, own, strict=True))
    )


def _boxes(boxes: object, number: int) -> tuple[tuple[float, float], ...]:
    """The boxes of feature map `number`, as a list states them."""
    if not isinstance(boxes, list | tuple) or not 1 <= len(boxes) <= _MOST_PER_CELL:
        raise _wrong(f"of feature map {number}, 1 to {_MOST_PER_CELL} of them", boxes)
    for box in boxes:
        if not isinstance(box, list | tuple) or len(box) != 2 or not all(map(_is_side, box)):
            raise _wrong(f"of feature map {number}", box)
    return tuple((float(width), float(height)) for width, height in boxes)


def _is_side(value: object) -> bool:
    return type(value) in (int, float) and _SIDES[0] <= value <= _SIDES[1]  # type: ignore[operator]


def _wrong(where: str, got: object) -> UsageError:
    least, most = _SIDES
    return UsageError(
        f"anchors must list the default boxes {where}, each as [width, height] of {least:g} to {most:g} pixels, got "
        f"{quoted(got)}"
    )


def make_anchors(levels: Sequence[Level], map_sizes: Sequence[tuple[int, int]], image_size: tuple[int, int]) -> Tensor:
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

    def __init__(self, levels: Sequence[Level]) -> None:
        self.levels = tuple(levels)
        self.map_sizes: dict[tuple[int, int], list[tuple[int, int]]] = {}  # by the size of the input, once it was seen
        self._cache: dict[tuple[int, int, torch.device], Tensor] = {}

    def __call__(self, feature_maps: Sequence[Tensor], images: Tensor) -> Tensor:
        """Anchors (A, 4) as cx cy w h for the feature maps that the network makes of these images (N, 3, H, W)."""
        height, width = images.shape[-2:]
        key = (height, width, images.device)
        if key not in self._cache:
            map_sizes = [(feature.shape[-2], feature.shape[-1]) for feature in feature_maps]
            self.map_sizes[height, width] = map_sizes
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
