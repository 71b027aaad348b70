"""From the rows of a batch to the detections of each image: the best of all classes, in pixels of the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vovnet.runtime.session import Rows
from vovnet.runtime.thresholds import ScoreThreshold, is_above


@dataclass(frozen=True, eq=False)
class Arrays:
    """The detections of one image, best score first.

    boxes: float32 (D, 4), x1 y1 x2 y2 in pixels of the original image, clipped to it.
    labels: int64 (D,).
    scores: float32 (D,).
    image_size: (height, width) of the original image.
    masks: float32 (D, 28, 28), probabilities in the box; None if the detector has no masks.
    """

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    image_size: tuple[int, int]
    masks: npt.NDArray[np.float32] | None = None


def select_images(
    rows: Rows,
    image_sizes: Sequence[tuple[int, int]],
    input_size: tuple[int, int],
    *,
    score_threshold: ScoreThreshold,
    top_k: int,
) -> list[Arrays]:
    """The `top_k` best detections of each image, of those above the threshold of their class.

    image_sizes, input_size: (height, width) of each original image and of the network's input.
    """
    passed = np.flatnonzero(is_above(rows.scores, rows.labels, score_threshold))
    order = passed[np.lexsort((-rows.scores[passed], rows.image[passed]))]
    ends = np.searchsorted(rows.image[order], np.arange(len(image_sizes)), side="right")
    detections = []
    for start, end, (height, width) in zip((0, *ends), ends, image_sizes, strict=False):
        own = order[start:end][:top_k]
        limit = np.array([width, height, width, height], np.float32)
        boxes = rows.boxes[own] * (limit / np.array([input_size[1], input_size[0]] * 2, np.float32))
        masks = None if rows.masks is None else rows.masks[own]
        detections.append(Arrays(np.clip(boxes, 0, limit), rows.labels[own], rows.scores[own], (height, width), masks))
    return detections
