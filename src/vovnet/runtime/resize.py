"""From an RGB image of any size to an exported network's input: `vovnet.models.preprocessing` without PyTorch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from vovnet.runtime.export_info import ExportInfo
from vovnet.sizes import fit_size

Pixels = npt.NDArray[np.uint8]
_Neighbour = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]
_Neighbours = tuple[_Neighbour, _Neighbour]
_BLOCK = 2**18  # pixels that are worked on at a time


def input_size(image_size: tuple[int, int], info: ExportInfo) -> tuple[int, int]:
    """(height, width) of the network's input for an image of (height, width)."""
    return fit_size(image_size, *info.image_size) if info.keep_ratio else info.image_size


def to_input(pixels: Pixels, info: ExportInfo) -> Pixels:
    """uint8 RGB (H, W, 3) → uint8 RGB (3, height, width), contiguous: one image of a batch for `Session.run`."""
    _check(pixels)
    size = input_size((pixels.shape[0], pixels.shape[1]), info)
    if not info.antialias or pixels.shape[:2] == size:
        return np.ascontiguousarray(resize(pixels, size, antialias=info.antialias).transpose(2, 0, 1))
    resized = _average(pixels, size)
    planes = bytearray().join(resized.tobytes("raw", channel) for channel in "RGB")  # faster than a copy
    return np.frombuffer(planes, np.uint8).reshape(3, *size)


def resize(pixels: Pixels, size: tuple[int, int], *, antialias: bool) -> Pixels:
    """uint8 RGB (H, W, 3) → uint8 RGB (height, width, 3), bilinear.

    antialias: average over all pixels when an image shrinks, as torchvision does: photographs differ by at most one
        grey level, black and white noise in a few values of a hundred million by two. Else OpenCV's INTER_LINEAR,
        which takes at most four pixels.
    """
    _check(pixels)
    if pixels.shape[:2] == tuple(size):
        return pixels
    return np.asarray(_average(pixels, size)) if antialias else _interpolate(pixels, *size)


def _check(pixels: Pixels) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"expected RGB pixels, uint8 (H, W, 3), got {pixels.dtype} {pixels.shape}")


def _average(pixels: Pixels, size: tuple[int, int]) -> Image.Image:
    height, width = size
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)


def _interpolate(pixels: Pixels, height: int, width: int) -> Pixels:
    """Between the four nearest pixels, rounded once. Only their rows are copied, some at a time."""
    rows, columns = _neighbours(pixels.shape[0], height), _neighbours(pixels.shape[1], width)
    result = np.empty((height, width * 3), np.uint8)
    step = max(1, _BLOCK // max(width, pixels.shape[1]))
    for start in range(0, height, step):
        block = slice(start, start + step)
        above, below = (_mix_columns(pixels[index[block]], columns) * weight[block, None] for index, weight in rows)
        result[block] = np.rint(above + below)
    return result.reshape(height, width, 3)


def _mix_columns(pixels: Pixels, columns: _Neighbours) -> npt.NDArray[np.float32]:
    """(R, W, 3) → (R, width · 3)"""
    values = pixels.reshape(len(pixels), -1)
    left, right = (
        values.take((index[:, None] * 3 + np.arange(3)).reshape(-1), axis=1) * weight.repeat(3)
        for index, weight in columns
    )
    return left + right


def _neighbours(before: int, after: int) -> _Neighbours:
    """Of each pixel of a resized axis, the two nearest pixels of the original with their weights."""
    place = (np.arange(after, dtype=np.float32) + np.float32(0.5)) * np.float32(before / after) - np.float32(0.5)
    place = np.clip(place, 0, before - 1)
    first = np.minimum(place.astype(np.int64), before - 1)
    weight = np.clip(place - first.astype(np.float32), 0, 1)
    return (first, 1 - weight), (np.minimum(first + 1, before - 1), weight)
