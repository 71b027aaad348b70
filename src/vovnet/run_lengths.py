"""COCO's run-length code of a mask, in numpy alone.

The code lists the lengths of runs of pixels, column by column, alternately outside and inside the mask. It holds the
first three lengths, then the difference of each to the one two positions earlier. Each number becomes bytes of 48, plus
five of its bits, lowest first, plus 32 if more follow. The highest bit of the last byte is the sign.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def move_and_join(masks: Sequence[tuple[bytes, tuple[int, int, int, int]]], size: tuple[int, int]) -> bytes:
    """The code, in an image of (height, width) `size`, of all that some masks cover.

    masks: a code and the part of the image that it is the mask of, x1 y1 x2 y2.
    """
    height, width = size
    corners = np.array([window for _, window in masks])
    (left, top), (right, bottom) = corners[:, :2].min(axis=0).tolist(), corners[:, 2:].max(axis=0).tolist()
    if len(masks) == 1 and (right - left, bottom - top) == (width, height):
        return masks[0][0]
    joined = np.zeros((bottom - top, right - left), np.bool_)
    for code, (x1, y1, x2, y2) in masks:
        joined[y1 - top : y2 - top, x1 - left : x2 - left] |= decode(code, (y2 - y1, x2 - x1))
    rows, columns = np.flatnonzero(joined.any(axis=1)), np.flatnonzero(joined.any(axis=0))
    if not len(rows):
        return encode_crop(joined[:0, :0], 0, 0, size)
    crop = joined[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return encode_crop(crop, top + int(rows[0]), left + int(columns[0]), size)


def outlines(bitmap: npt.NDArray[np.bool_], left: int, top: int) -> list[list[float]]:
    """The outer outlines of a bitmap (H, W) whose upper left corner is at (left, top).

    Every corner of an outline has one edge along its row and one along its column. A row enters and leaves the mask in
    turn, so its corners are joined in pairs: first to second, third to fourth, and so on. The same holds for columns.
    """
    padded = np.pad(bitmap, 1)
    nw, ne, sw, se = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    touching = (nw == se) & (ne == sw) & (nw != ne)  # two pixels meet at a corner only, which belongs to both outlines
    y, x = np.nonzero((nw ^ ne ^ sw ^ se) | touching)
    y, x = (np.repeat(axis, 1 + touching[y, x]) for axis in (y, x))
    # Of two copies of a corner, the second has the edge to the right.
    second = np.append(False, (y[1:] == y[:-1]) & (x[1:] == x[:-1]))[: len(x)]

    by_column = np.lexsort((second ^ ne[y, x], y, x))  # of two copies, the one with the edge above comes first
    partners = np.empty(len(x), dtype=np.int64)
    partners[by_column] = by_column[np.arange(len(x)) ^ 1]
    vertical_partner = partners.tolist()  # a corner's horizontal partner is the other of its pair: index ^ 1

    polygons, seen = [], bytearray(len(x))
    for first in range(len(x)):
        if seen[first]:
            continue
        outline, corner = [], first
        while not seen[corner]:
            seen[corner] = seen[corner ^ 1] = True
            outline += [corner, corner ^ 1]
            corner = vertical_partner[corner ^ 1]
        # The first corner is the upper left one. If the pixel inside it is not in the mask, this outlines a hole.
        if se[y[first], x[first]]:
            polygons.append(np.stack([x[outline] + left, y[outline] + top], axis=1).ravel().astype(float).tolist())
    return polygons
