"""OpenCV's interpolations, which average over no more pixels when an image shrinks, except for "area".

OpenCV rounds the weights of 8-bit images to 1/2048, so its results differ by at most one level here and there.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Interpolation = Literal["linear", "area", "nearest", "cubic", "lanczos4"]
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)
"""In the order of SSD's list."""


def resize(image: npt.NDArray[np.uint8], size: tuple[int, int], interpolation: Interpolation) -> npt.NDArray[np.uint8]:
    """uint8 (H, W, C) → uint8 (height, width, C)."""
    if image.shape[:2] == size:
        return image
    if interpolation == "area" and (size[0] > image.shape[0] or size[1] > image.shape[1]):
        taps = [_area_of_two(*lengths) for lengths in zip(image.shape, size, strict=False)]
    else:
        taps = [_taps(*lengths, interpolation) for lengths in zip(image.shape, size, strict=False)]
    rows = _weighted(image.astype(np.float32), *taps[0])  # (height, W, C)
    columns = _weighted(rows.swapaxes(0, 1), *taps[1])  # (width, height, C)
    return columns.swapaxes(0, 1).round().clip(0, 255).astype(np.uint8)


def _weighted(values: npt.NDArray[np.float32], index: npt.NDArray, weight: npt.NDArray) -> npt.NDArray[np.float32]:
    """The weighted sums of K rows each: (H, …) → (height, …). index, weight: (height, K)."""
    result = np.zeros((len(index), *values.shape[1:]), np.float32)
    for tap in range(index.shape[1]):
        result += weight[:, tap, None, None].astype(np.float32) * values[index[:, tap]]
    return result


def _taps(length: int, wanted: int, interpolation: Interpolation) -> tuple[npt.NDArray, npt.NDArray]:
    """The pixels that make up each new pixel, and their weights: (wanted, K) each. The border is repeated."""
    scale = length / wanted
    new = np.arange(wanted)
    if interpolation == "nearest":
        return np.minimum(np.floor(new * scale).astype(int), length - 1)[:, None], np.ones((wanted, 1))
    if interpolation == "area":
        start = np.floor(new * scale + 1e-9).astype(int)
        index = start[:, None] + np.arange(int(np.ceil(scale)) + 1)
        ends = np.minimum(index + 1, (new[:, None] + 1) * scale)
        weight = (ends - np.maximum(index, new[:, None] * scale)).clip(0) / scale
        return index.clip(max=length - 1), weight
    centre = (new + 0.5) * scale - 0.5
    before = {"linear": 0, "cubic": 1, "lanczos4": 3}[interpolation]
    index = np.floor(centre).astype(int)[:, None] + np.arange(-before, before + 2)
    weight = _kernel(np.abs(index - centre[:, None]), interpolation)
    return index.clip(0, length - 1), weight / weight.sum(axis=1, keepdims=True)


def _kernel(distance: npt.NDArray, interpolation: Interpolation) -> npt.NDArray:
    if interpolation == "linear":
        return 1 - distance
    if interpolation == "lanczos4":
        return np.sinc(distance) * np.sinc(distance / 4)
    a = -0.75
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, far)


def _area_of_two(length: int, wanted: int) -> tuple[npt.NDArray, npt.NDArray]:
    """As `_taps`, for "area" if a side grows: of two pixels each. On a side that shrinks OpenCV skips the others."""
    scale = length / wanted
    new = np.arange(wanted)
    first = np.floor(new * scale).astype(int)
    share = np.maximum(new + 1 - (first + 1) / scale, 0)
    share -= np.floor(share)
    index = first[:, None] + np.arange(2)
    return index.clip(max=length - 1), np.stack([1 - share, share], axis=1)
