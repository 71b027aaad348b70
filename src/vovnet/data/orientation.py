"""Turns pixels, boxes and masks as stored in a file upright, by the file's EXIF orientation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vovnet.data.dataset import Box
from vovnet.masks import RleMasks, decode, encode
from vovnet.polygons import Polygons

if TYPE_CHECKING:
    from torch import Tensor

SIDEWAYS = (5, 6, 7, 8)  # the EXIF orientations that swap height and width
# Axes of a tensor (N, H, W) to flip for each orientation, after height and width are swapped for 5 to 8. Pillow's
# exif_transpose needs a Pillow image, which takes twice as long, and torchvision's decoder ignores an orientation that
# is stated in XMP.
_FLIPS: dict[int, tuple[int, ...]] = {2: (2,), 3: (1, 2), 4: (1,), 6: (2,), 7: (1, 2), 8: (1,)}


def means_stored_pixels(stated_size: tuple[int, int] | None, size: tuple[int, int], orientation: int) -> bool:
    """Whether an annotation is that of the pixels as stored, not of the upright image.

    Programs that ignore EXIF make such annotations. They show where height and width are swapped and the annotation
    states its size; otherwise the upright image is meant.

    stated_size: (height, width) that the annotation states.
    size: (height, width) of the upright image.
    """
    return orientation in SIDEWAYS and stated_size == size[::-1] != size


def turn_pixels(image: Tensor, orientation: int) -> Tensor:
    """(N, H, W) as stored → upright: (N, H, W), or (N, W, H) for orientations 5 to 8."""
    if orientation in SIDEWAYS:
        image = image.transpose(1, 2)
    return image.flip(_FLIPS[orientation]) if orientation in _FLIPS else image


def turn_array(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) as stored → upright: (H, W, 3), or (W, H, 3) for orientations 5 to 8."""
    if orientation in SIDEWAYS:
        pixels = pixels.swapaxes(0, 1)
    return np.flip(pixels, tuple(axis - 1 for axis in _FLIPS.get(orientation, ())))


def turn_box(box: Box, stored_size: tuple[int, int], orientation: int) -> Box:
    """The box x1 y1 x2 y2 in the upright image.

    stored_size: (height, width) of the pixels as stored.
    """
    x1, y1, x2, y2 = box
    height, width = stored_size
    if orientation in SIDEWAYS:
        x1, y1, x2, y2, height, width = y1, x1, y2, x2, width, height
    flips = _FLIPS.get(orientation, ())
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
    flips = _FLIPS.get(orientation, ())
    return replace(polygons, points=np.stack([width - x if 2 in flips else x, height - y if 1 in flips else y], axis=1))
