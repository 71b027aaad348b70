"""COCO's run-length code of a mask, in numpy alone.

The code lists the lengths of runs of pixels, column by column, alternately outside and inside the mask. It holds the
first three lengths, then the difference of each to the one two positions earlier. Each number becomes bytes of 48, plus
five of its bits, lowest first, plus 32 if more follow. The highest bit of the last byte is the sign.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_MOST_BYTES = 7  # of a number: 35 bits
_MOST_DECODED = 2**27  # pixels of a bitmap


def compress(runs: npt.ArrayLike) -> bytes:
    """The code of these lengths, each from 0 to 2³¹."""
    numbers = np.array(runs, dtype=np.int64)
    numbers[3:] -= np.array(runs, dtype=np.int64)[1:-2]
    rest = numbers >> 5 * np.arange(_MOST_BYTES + 1).reshape(-1, 1)
    digits = rest[:-1] & 0x1F
    more = rest[1:] != -(digits >> 4)  # what is left is not just the sign
    first = np.ones((1, len(numbers)), dtype=np.bool_)
    written = np.concatenate([first, np.logical_and.accumulate(more, axis=0)[:-1]])
    return bytes((48 + digits + 32 * more).T[written.T].astype(np.uint8))


def expand(code: bytes, pixels: int) -> npt.NDArray[np.int64]:
    """The lengths that a code holds. Raises ValueError unless they fill `pixels`, those of the image, exactly."""
    digits = np.frombuffer(code, dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(digits & 0x20 == 0)
    lengths = np.diff(ends, prepend=-1)
    well_formed = len(ends) and ends[-1] == len(digits) - 1 and digits.min() >= 0 and digits.max() <= 63
    if not well_formed or lengths.max() > _MOST_BYTES:
        raise ValueError("the mask's counts are not a run-length code")
    starts = ends - lengths + 1
    position_in_number = np.arange(len(digits)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((digits & 0x1F) << 5 * position_in_number, starts)
    runs -= (digits[ends] & 0x10) >> 4 << 5 * lengths
    small = np.abs(runs).max() <= pixels  # so that no sum below exceeds 64 bits
    for differences in (runs[1::2], runs[2::2]):
        np.cumsum(differences, out=differences)
    if not small or runs.min() < 0 or runs.max() > pixels or runs.sum() != pixels:
        raise ValueError(f"the mask's runs must sum to {pixels}, the image's pixels")
    return runs


def encode_crop(crop: npt.NDArray[np.bool_], top: int, left: int, size: tuple[int, int]) -> bytes:
    """The code of a mask that is empty except for a crop at (top, left). size: (height, width) of the image."""
    (rows, columns), (height, width) = crop.shape, size
    framed = np.zeros((columns + 1, rows + 1), dtype=np.bool_)  # False before each column and after the last
    framed[:columns, 1:] = crop.T
    changes = np.flatnonzero(framed.ravel()[1:] != framed.ravel()[:-1])
    column, row = np.divmod(changes, rows + 1)
    positions = (left + column) * height + top + row

    # A run that ends in the image's last row and one that begins in the next column's first row are one run.
    repeated = np.flatnonzero(positions[1:] == positions[:-1])
    positions = np.delete(positions, np.concatenate([repeated, repeated + 1]))
    runs = np.diff(positions, prepend=0, append=height * width)
    return compress(runs if runs[-1] else runs[:-1])


def decode(code: bytes, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The bitmap (H, W) of a code. Raises ValueError for a damaged code, one of another size, and huge images."""
    height, width = size
    if height * width > _MOST_DECODED:
        raise ValueError(f"a mask to draw must have at most {_MOST_DECODED:,} pixels, got {width} × {height}")
    runs = expand(code, height * width)
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T
