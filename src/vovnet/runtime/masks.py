"""From the probabilities that Mask R-CNN predicts in each box to masks of the image, without PyTorch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vovnet import run_lengths

_THRESHOLD = 0.5
_BAND = 2**19  # pixels that are resized at a time
_FAR = 2.0**31


def paste_codes(
    probabilities: npt.NDArray[np.float32], boxes: npt.NDArray[np.float32], image_size: tuple[int, int]
) -> tuple[bytes, ...]:
    """COCO's code of each mask: a pixel is in it if its probability, resized to the box, is above one half.

    Follows `vovnet.masks.paste` step by step. PyTorch may add two products with or without rounding between them,
    depending on the CPU, so a pixel within a rounding error of one half may differ. Memory holds a part of one box.

    probabilities: (D, S, S).
    boxes: (D, 4), x1 y1 x2 y2 in pixels of the image. They may reach a little beyond it.
    image_size: (height, width).
    """
    if probabilities.ndim != 3 or boxes.shape != (len(probabilities), 4):
        raise ValueError(
            f"probabilities must have shape (D, S, S) and boxes (D, 4), got {probabilities.shape} and {boxes.shape}"
        )
    cells = probabilities.shape[1]
    padded_maps = np.pad(probabilities.astype(np.float32), ((0, 0), (1, 1), (1, 1)))
    padded_boxes = _grown(boxes.astype(np.float32), np.float32((cells + 2) / cells))
    pairs = zip(padded_maps, padded_boxes.tolist(), strict=False)
    return tuple(_paste(padded_map, box, image_size) for padded_map, box in pairs)


def _grown(boxes: npt.NDArray[np.float32], scale: np.float32) -> npt.NDArray[np.int64]:
    """The boxes, larger by `scale` around their centres, in whole pixels."""
    boxes = np.clip(np.nan_to_num(boxes), -_FAR, _FAR)
    half = (boxes[:, 2:] - boxes[:, :2]) * np.float32(0.5) * scale
    centre = (boxes[:, 2:] + boxes[:, :2]) * np.float32(0.5)
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.int64)


def _paste(padded_map: npt.NDArray[np.float32], box: list[int], image_size: tuple[int, int]) -> bytes:
    x1, y1, x2, y2 = box
    # Mask R-CNN includes the pixels x2 and y2.
    top, bottom = (min(max(y, 0), image_size[0]) for y in (y1, y2 + 1))
    left, right = (min(max(x, 0), image_size[1]) for x in (x1, x2 + 1))
    rows, columns = max(bottom - top, 0), max(right - left, 0)
    above, below, weight_below = _neighbours(len(padded_map), max(y2 + 1 - y1, 1), top - y1, rows)
    crop = np.empty((columns, rows), dtype=np.bool_)
    step = max(_BAND // max(rows, 1), 1)
    for start in range(0, columns, step):
        number = min(step, columns - start)
        before, after, weight_after = _neighbours(len(padded_map), max(x2 + 1 - x1, 1), left + start - x1, number)
        resized = _mix(padded_map.T[before], padded_map.T[after], weight_after[:, None])
        crop[start : start + number] = _mix(resized[:, above], resized[:, below], weight_below) > _THRESHOLD
    return run_lengths.encode_crop(crop.T, top, left, image_size)


def _mix(
    first: npt.NDArray[np.float32], second: npt.NDArray[np.float32], weight: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    return first * (np.float32(1) - weight) + second * weight


def _neighbours(
    cells: int, pixels: int, start: int, number: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Of `number` of the pixels to which the cells are resized: the cell before, the one after, and its weight."""
    scale = np.float32(cells) / np.float32(pixels)
    position = scale * (np.arange(start, start + number, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    position = np.maximum(position, 0)
    before = np.minimum(position.astype(np.int64), cells - 1)
    return before, np.minimum(before + 1, cells - 1), np.clip(position - before.astype(np.float32), 0, 1)
