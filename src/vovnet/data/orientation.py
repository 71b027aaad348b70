"""Turns pixels, boxes and masks as stored in a file upright, by the file's EXIF orientation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vovnet.data.dataset import Box
from vovnet.masks import RleMasks, decode, encode
from vovnet.media.orientation import FLIPS, SIDEWAYS
from vovnet.polygons import Polygons

if TYPE_CHECKING:
    from torch import Tensor


def turn_pixels(image: Tensor, orientation: int) -> Tensor:
    """(N, H, W) as stored → upright: (N, H, W), or (N, W, H) for orientations 5 to 8."""
    if orientation in SIDEWAYS:
        image = image.transpose(1, 2)
    return image.flip(FLIPS[orientation]) if orientation in FLIPS else image


def turn_box(box: Box, stored_size: tuple[int, int], orientation: int) -> Box:
    """The box x1 y1 x2 y2 in the upright image.

    stored_size: (height, width) of the pixels as stored.
    """
    x1, y1, x2, y2 = box
    height, width = stored_size
    if orientation in SIDEWAYS:
        x1, y1, x2, y2, height, width = y1, x1, y2, x2, width, height
    flips = FLIPS.get(orientation, ())
    if 2 in flips:
        x1, x2 = width - x2, width - x1
    if 1 in flips:
        y1, y2 = height - y2, height - y1
    return x1, y1, x2, y2


def turn_masks(masks: RleMasks, orientation: int) -> RleMasks:
    """The masks in the upright image, and the polygons that describe them. One mask at a time is a bitmap."""
    import torch

    size = masks.size[::-1] if orientation in SIDEWAYS else masks.size
    bitmaps = (decode(masks[torch.tensor([index])]) for index in range(len(masks)))
    codes = tuple(encode(turn_pixels(bitmap, orientation)).counts[0] for bitmap in bitmaps)
    return RleMasks(codes, size, masks.polygons and _turn_polygons(masks.polygons, masks.size, orientation))


def _turn_polygons(polygons: Polygons, stored_size: tuple[int, int], orientation: int) -> Polygons:
    x, y = polygons.points.T
    height, width = stored_size
    if orientation in SIDEWAYS:
        x, y, height, width = y, x, width, height
    flips = FLIPS.get(orientation, ())
    return replace(polygons, points=np.stack([width - x if 2 in flips else x, height - y if 1 in flips else y], axis=1))
