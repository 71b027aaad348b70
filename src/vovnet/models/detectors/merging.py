"""How RefineDet's test script merges detections: linear soft-NMS, selection by size, mirroring, box voting.

Source: the test script of RefineDet (arXiv 1711.06897). As there, widths, heights and areas here count pixels:
x2 − x1 + 1. Soft-NMS and voting are sequential, but each of their steps treats all classes at once. They run fastest on
a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vovnet.boxes import flip_horizontally
from vovnet.structures import Detections

SCORE_THRESHOLD = 0.01


def soft_nms(
    detections: Detections, *, iou_threshold: float = 0.30, score_threshold: float = SCORE_THRESHOLD
) -> Detections:
    """Linear soft-NMS of each class.

    The best box multiplies the score of every box with IoU > `iou_threshold` by 1 − IoU, then the best of the remaining
    boxes does, and so on. Boxes whose score falls below `score_threshold` are dropped.

    It is used for COCO at one scale, after the usual NMS. The settings of that NMS in the published runs are not known;
    here it has the same as in every other test (recommended).
    """
    boxes, labels, scores = detections.boxes, detections.labels, detections.scores.clone()
    kept = torch.zeros_like(scores, dtype=torch.bool)
    remaining = (scores >= score_threshold).nonzero().squeeze(1)
    while len(remaining):
        best = remaining[_best_of_class(scores[remaining], labels[remaining])]
        kept[best] = True
        remaining, best = remaining[remaining != best], best[remaining != best]
        iou = _iou(boxes[remaining], boxes[best])
        scores[remaining] *= torch.where(iou > iou_threshold, 1 - iou, 1)
        remaining = remaining[scores[remaining] >= score_threshold]
    return _best_first(replace(detections, scores=scores)[kept])


def select_sizes(
    detections: Detections, *, shorter_below: float | None = None, longer_above: float | None = None
) -> Detections:
    """The detections with a shorter side below `shorter_below` and a longer side above `longer_above` pixels."""
    sides = detections.boxes[:, 2:] - detections.boxes[:, :2] + 1
    keep = sides.amin(dim=1) < (math.inf if shorter_below is None else shorter_below)
    return detections[keep & (sides.amax(dim=1) > (-math.inf if longer_above is None else longer_above))]


def mirror(detections: Detections) -> Detections:
    """Detections in a mirrored image, with the boxes that they have in the image itself."""
    return replace(detections, boxes=flip_horizontally(detections.boxes, detections.image_size[1]))


def vote_boxes(
    runs: Sequence[Detections], *, soft: bool, iou_threshold: float = 0.45, score_threshold: float = SCORE_THRESHOLD
) -> Detections:
    """Merge several runs on the same image by box voting in each class.

    The best box forms a group with all boxes whose IoU with it is at least `iou_threshold`, then the best of the
    remaining boxes does, and so on. A group becomes one box: the mean weighted by the scores, with the group's best
    score. A box alone in its group does not change.

    soft: as for COCO, also keep the members of a group, with the score multiplied by 1 − IoU with the best box, where
        that is at least `score_threshold`. The best box has IoU 1 with itself, so it is not kept twice.
    """
    boxes = torch.cat([run.boxes for run in runs])
    labels = torch.cat([run.labels for run in runs])
    scores = torch.cat([run.scores for run in runs])
    best_of_group = torch.zeros_like(labels)
    iou = torch.zeros_like(scores)
    remaining = torch.arange(len(labels), device=labels.device)
    while len(remaining):
        best = remaining[_best_of_class(scores[remaining], labels[remaining])]
        iou[remaining] = _iou(boxes[remaining], boxes[best])
        joins = iou[remaining] >= iou_threshold
        best_of_group[remaining[joins]] = best[joins]
        remaining = remaining[~joins]

    best, group = best_of_group.unique(return_inverse=True)
    lone = group.bincount(minlength=len(best)) == 1
    weight = scores.new_zeros(len(best)).index_add(0, group, scores)
    mean = boxes.new_zeros(len(best), 4).index_add(0, group, boxes * scores[:, None]) / weight[:, None]
    voted = Detections(torch.where(lone[:, None], boxes[best], mean), labels[best], scores[best], runs[0].image_size)
    if soft:
        lowered = scores * (1 - iou)
        again = lowered >= score_threshold
        voted = Detections(
            torch.cat([voted.boxes, boxes[again]]),
            torch.cat([voted.labels, labels[again]]),
            torch.cat([voted.scores, lowered[again]]),
            voted.image_size,
        )
    return _best_first(voted)


def _best_of_class(scores: Tensor, labels: Tensor) -> Tensor:
    """For each of D > 0 detections the index (D,) of the best of its class, the lowest index in a tie."""
    d, k = len(labels), int(labels.max()) + 1
    best = scores.new_full((k,), -torch.inf).scatter_reduce(0, labels, scores, "amax")
    index = torch.arange(d, device=labels.device).masked_fill(scores < best[labels], d)
    return index.new_full((k,), d).scatter_reduce(0, labels, index, "amin")[labels]


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of the boxes at the same index, counted in pixels: (D, 4), (D, 4) → (D,)."""
    size = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2]) + 1).clamp(min=0)
    intersection = size.prod(dim=1)
    areas = [(boxes[:, 2:] - boxes[:, :2] + 1).prod(dim=1) for boxes in (a, b)]
    return intersection / (areas[0] + areas[1] - intersection)


def _best_first(detections: Detections) -> Detections:
    return detections[detections.scores.argsort(descending=True, stable=True)]
