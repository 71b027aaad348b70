"""What RefineDet's test does with finished detections: linear soft-NMS, choice by size, mirroring, box voting.

Source: the test script of RefineDet (arXiv 1711.06897). As there, every width, height and area here counts pixels:
x2 − x1 + 1. Each step of the two sequential rules treats all classes at once. On a CPU they are quickest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vovnet.structures import Detections

SCORE_THRESHOLD = 0.01


def soft_nms(
    detections: Detections, *, iou_threshold: float = 0.30, score_threshold: float = SCORE_THRESHOLD
) -> Detections:
    """Linear soft-NMS of each class: the best box lowers the others' scores by × (1 − IoU) where IoU > `iou_threshold`,
    then the best of the rest does; what falls below `score_threshold` is dropped.

    For COCO, one scale, after the usual NMS. The settings of that NMS in the published runs are not known; here they
    stay those of every other test (recommended).
    """
    boxes, labels, scores = detections.boxes, detections.labels, detections.scores.clone()
    kept = torch.zeros_like(scores, dtype=torch.bool)
    waiting = (scores >= score_threshold).nonzero().squeeze(1)
    while len(waiting):
        best = waiting[_best_of_class(scores[waiting], labels[waiting])]
        kept[best] = True
        waiting, best = waiting[waiting != best], best[waiting != best]
        iou = _iou(boxes[waiting], boxes[best])
        scores[waiting] *= torch.where(iou > iou_threshold, 1 - iou, 1)
        waiting = waiting[scores[waiting] >= score_threshold]
    return _best_first(replace(detections, scores=scores)[kept])


def select_sizes(
    detections: Detections, *, shorter_below: float | None = None, longer_above: float | None = None
) -> Detections:
    """Those whose shorter side is less than `shorter_below`, and longer side more than `longer_above` pixels."""
    sides = detections.boxes[:, 2:] - detections.boxes[:, :2] + 1
    shorter, longer = sides.amin(dim=1), sides.amax(dim=1)
    keep = torch.ones_like(detections.labels, dtype=torch.bool)
    if shorter_below is not None:
        keep &= shorter < shorter_below
    if longer_above is not None:
        keep &= longer > longer_above
    return detections[keep]


def mirror(detections: Detections) -> Detections:
    """What was found in a mirrored image, as boxes of the image: x1' = W − x2, x2' = W − x1."""
    x1, y1, x2, y2 = detections.boxes.unbind(dim=1)
    width = detections.image_size[1]
    return replace(detections, boxes=torch.stack([width - x2, y1, width - x1, y2], dim=1))


def vote_boxes(
    runs: Sequence[Detections],
    *,
    soft: bool,
    iou_threshold: float = 0.45,
    score_threshold: float = SCORE_THRESHOLD,
) -> Detections:
    """One list from several of the same image, by box voting in each class.

    The best box gathers all with IoU ≥ `iou_threshold` to it, then the best of the rest does, and so on. A group
    becomes one box: the mean weighted by the scores, with the group's best score; a lone box stays as it is. soft
    (COCO): a group also leaves its members, with score · (1 − IoU to the best) where that is ≥ `score_threshold`; the
    best itself, like a lone box, has IoU 1 and does not come twice.
    """
    boxes = torch.cat([run.boxes for run in runs])
    labels = torch.cat([run.labels for run in runs])
    scores = torch.cat([run.scores for run in runs])
    best_of_group = torch.zeros_like(labels)
    iou = torch.zeros_like(scores)
    waiting = torch.arange(len(labels), device=labels.device)
    while len(waiting):
        best = waiting[_best_of_class(scores[waiting], labels[waiting])]
        iou[waiting] = _iou(boxes[waiting], boxes[best])
        joins = iou[waiting] >= iou_threshold
        best_of_group[waiting[joins]] = best[joins]
        waiting = waiting[~joins]

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
    """For each of D > 0 detections the place (D,) of the best of its class, the first of several equal ones."""
    d, k = len(labels), int(labels.max()) + 1
    best = scores.new_full((k,), -torch.inf).scatter_reduce(0, labels, scores, "amax")
    place = torch.arange(d, device=labels.device).masked_fill(scores < best[labels], d)
    return place.new_full((k,), d).scatter_reduce(0, labels, place, "amin")[labels]


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """Of each box with the other's box in the same place, (D, 4), (D, 4) → (D,), in pixels."""
    size = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2]) + 1).clamp(min=0)
    intersection = size.prod(dim=1)
    areas = [(boxes[:, 2:] - boxes[:, :2] + 1).prod(dim=1) for boxes in (a, b)]
    return intersection / (areas[0] + areas[1] - intersection)


def _best_first(detections: Detections) -> Detections:
    return detections[detections.scores.argsort(descending=True, stable=True)]
