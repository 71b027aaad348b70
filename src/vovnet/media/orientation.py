"""Turns pixels as stored in a file upright, by the file's EXIF orientation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SIDEWAYS = (5, 6, 7, 8)  # the EXIF orientations that swap height and width
# Axes of (N, H, W) to flip for each orientation, after height and width are swapped for 5 to 8. Pillow's
# exif_transpose needs a Pillow image, which takes twice as long, and torchvision's decoder ignores an orientation that
# is stated in XMP.
FLIPS: dict[int, tuple[int, ...]] = {2: (2,), 3: (1, 2), 4: (1,), 6: (2,), 7: (1, 2), 8: (1,)}


def means_stored_pixels(stated_size: tuple[int, int] | None, size: tuple[int, int], orientation: int) -> bool:
    """Whether an annotation is that of the pixels as stored, not of the upright image.

    Programs that ignore EXIF make such annotations. They show where height and width are swapped and the annotation
    states its size; otherwise the upright image is meant.

    stated_size: (height, width) that the annotation states.
    size: (height, width) of the upright image.
    """
    return orientation in SIDEWAYS and stated_size == size[::-1] != size


def turn_array(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) as stored → upright: (H, W, 3), or (W, H, 3) for orientations 5 to 8."""
    if orientation in SIDEWAYS:
        pixels = pixels.swapaxes(0, 1)
    return np.flip(pixels, tuple(axis - 1 for axis in FLIPS.get(orientation, ())))
