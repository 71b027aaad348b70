"""Non-maximum suppression with numpy, for runtimes whose networks end with a score for each box and class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vovnet.runtime.session import Rows

_STRIP = 64  # boxes of a group that are compared with all behind them at a time
_PAIRS = 2**16  # of boxes that are compared at a time, where a group is not longer: they stay in the processor's cache

_Floats = npt.NDArray[np.float32]
_Indices = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]


def best_rows(
    boxes: _Floats, scores: _Floats, *, side: float, score_threshold: float, nms_threshold: float, candidates: int
) -> Rows:
    """What remains after NMS in each image and class, of the `candidates` highest scores above the threshold.

    boxes: (N, A, 4), x1 y1 x2 y2. A box goes if its IoU with a remaining one of a higher score is above
        `nms_threshold`. Of equal scores, the first counts as the higher one.
    scores: (N, A, K). NaN is not above the threshold.
    side: the longer one of the network's input. Boxes are limited to −side…2 · side, as in `select_detections`.
    """
    anchors, classes = scores.shape[1:]
    index = _passing(scores, np.float32(score_threshold), candidates)
    score = scores.reshape(-1)[index]
    anchor, label = np.divmod(index, classes)  # the anchor counts on from image to image
    image = anchor // anchors
    group = image * classes + label

    order = np.lexsort((-score, group))
    sizes = np.bincount(group)
    starts = np.cumsum(sizes) - sizes
    rank = np.arange(len(order)) - starts[group[order]]
    order = order[rank < candidates]
    sizes = np.minimum(sizes, candidates)

    image, anchor, label, score = image[order], anchor[order], label[order], score[order]
    box = np.clip(boxes.reshape(-1, 4)[anchor], -side, 2 * side)
    kept = survivors(box, sizes[sizes > 0], np.float32(nms_threshold))
    return Rows(image[kept], box[kept], label[kept], score[kept])


def _passing(scores: _Floats, threshold: np.float32, candidates: int) -> _Indices:
    """Where the flat scores are above the threshold, without many of those that others push out of the candidates."""
    passed = scores > threshold
    if np.count_nonzero(passed) > 4 * scores.shape[0] * scores.shape[2] * candidates:
        ranked = np.where(passed, scores, -np.inf)
        place = scores.shape[1] - candidates
        passed &= scores >= np.partition(ranked, place, axis=1)[:, place : place + 1]
    return np.flatnonzero(passed)


def survivors(boxes: _Floats, sizes: _Indices, threshold: np.float32) -> _Flags:
    """Which boxes remain. The boxes of a group follow one another, best first; sizes: of each group, at least 1.

    Groups of like sizes are padded to the largest and compared together, as many as fit in the cache.
    """
    kept = np.ones(len(boxes), np.bool_)
    starts = np.cumsum(sizes) - sizes
    order = np.argsort(-sizes, kind="stable")
    order = order[sizes[order] > 1]
    while len(order):
        most = int(sizes[order[0]])
        together, order = np.split(order, [max(1, _PAIRS // (most * min(most, _STRIP)))])
        place = np.arange(most)
        there = place < sizes[together, None]  # (G, most)
        index = np.where(there, starts[together, None] + place, 0)
        with np.errstate(invalid="ignore", divide="ignore"):  # empty boxes, and those of a network that gives NaN
            kept[index[there]] = _suppress(np.moveaxis(boxes[index], -1, 0), there, threshold)[there]
    return kept


def _suppress(boxes: _Floats, there: _Flags, threshold: np.float32) -> _Flags:
    """Which boxes remain in each of G groups of B, best first.

    boxes: (4, G, B). there: (G, B), false for padding.

    Strip by strip, first within the strip, then all behind it. Within, a box remains if no remaining one suppresses it:
    repeated until nothing changes, because each round settles at least the best box that was open.
    """
    kept = there.copy()
    for start in range(0, kept.shape[1], _STRIP):
        end = min(start + _STRIP, kept.shape[1])
        above = _overlap(
            boxes[:, :, start:end, None], boxes[:, :, None, start:], threshold
        )  # (G, end − start, B − start)
        inside = above[:, :, : end - start] & np.triu(np.ones((end - start, end - start), np.bool_), 1)
        strip = kept[:, start:end]
        alive = strip
        while True:
            settled = strip & ~(inside & alive[:, :, None]).any(axis=1)
            if np.array_equal(settled, alive):
                break
            alive = settled
        kept[:, start:end] = alive
        kept[:, end:] &= ~(above[:, :, end - start :] & alive[:, :, None]).any(axis=1)
    return kept


def _overlap(first: _Floats, second: _Floats, threshold: np.float32) -> _Flags:
    """Whether the IoU is above the threshold; the first axis has x1, y1, x2, y2, the others are broadcast."""
    width = np.minimum(first[2], second[2])
    width -= np.maximum(first[0], second[0])
    height = np.minimum(first[3], second[3])
    height -= np.maximum(first[1], second[1])
    intersection = np.maximum(width, 0, out=width)
    intersection *= np.maximum(height, 0, out=height)
    union = _area(first) + _area(second)
    union -= intersection
    intersection /= union
    return intersection > threshold


def _area(boxes: _Floats) -> _Floats:
    return (boxes[2] - boxes[0]) * (boxes[3] - boxes[1])
