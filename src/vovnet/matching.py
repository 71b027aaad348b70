"""Which anchors are matched to which objects, and which are used as negatives.

Both functions follow SSD's MultiBox layer and treat a whole batch at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vovnet.boxes import pairwise_iou

MIN_OBJECTNESS = 0.01
"""RefineDet's second step ignores anchors that the first step gives a lower score for holding an object."""

_MIN_BIPARTITE_IOU = 1e-6


def _first_argmax(values: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The largest value along `dim` and its lowest index; in a tie, that of `Tensor.max` depends on the device."""
    best = values.amax(dim, keepdim=True)
    shape = [1] * values.ndim
    shape[dim] = -1
    index = torch.arange(values.shape[dim], device=values.device, dtype=torch.int32).view(shape)
    index = torch.where(values == best, index, values.shape[dim]).amin(dim)
    return best.squeeze(dim), index.long()


def match(boxes: Tensor, valid: Tensor, anchors: Tensor, iou_threshold: float) -> tuple[Tensor, Tensor]:
    """Match anchors to objects in SSD's two stages.

    The first stage is greedy and bipartite: it matches the pair of an unmatched object and an unmatched anchor that has
    the largest IoU, and repeats this until no remaining pair overlaps. The second matches every other anchor to the
    object with which it has the largest IoU, if that is at least `iou_threshold`. Ties go to the anchor with the lower
    index, then to the object with the lower index.

    boxes: (N, M, 4), padded.
    valid: (N, M) bool, False for padding.
    anchors: (A, 4) or (N, A, 4), x1 y1 x2 y2.

    Returns (matches, best_iou), each (N, A): the index of the object or −1, and the largest IoU with any object.
    """
    n, m, a = boxes.shape[0], boxes.shape[1], anchors.shape[-2]
    if m == 0:
        return boxes.new_full((n, a), -1, dtype=torch.int64), boxes.new_zeros((n, a))
    iou = pairwise_iou(boxes, anchors)  # (N, M, A)
    iou = iou.masked_fill(~valid.unsqueeze(-1), -1.0)
    best_iou, best_object = _first_argmax(iou, dim=1)  # (N, A)
    matches = torch.where(best_iou >= iou_threshold, best_object, -1)

    # Sooner or later the greedy order matches every pair whose members prefer each other. So one round can match many
    # objects at once; only those that compete for the same anchor need another.
    free = torch.where(iou > _MIN_BIPARTITE_IOU, iou, -1.0)
    objects = torch.arange(m, device=boxes.device)
    while True:
        object_iou, object_anchor = _first_argmax(free, dim=2)  # (N, M)
        # (N, M, M): the IoU of every object with the anchor that each object prefers.
        rivals = free.gather(2, object_anchor.unsqueeze(1).expand(-1, m, -1))
        mutual = (object_iou > 0) & (_first_argmax(rivals, dim=1)[1] == objects)
        if not mutual.any():
            return matches, best_iou.clamp(min=0)
        image, obj = mutual.nonzero(as_tuple=True)
        anchor = object_anchor[image, obj]
        matches[image, anchor] = obj
        free[image, obj, :] = -1.0
        free[image, :, anchor] = -1.0


def hard_negatives(candidates: Tensor, difficulty: Tensor, quota: Tensor) -> Tensor:
    """The hardest candidates of each image, (N, A) bool.

    candidates: (N, A) bool.
    difficulty: (N, A), larger is harder.
    quota: (N,), how many to keep.
    """
    ranked = difficulty.masked_fill(~candidates, -torch.inf).argsort(dim=1, descending=True, stable=True)
    keep = torch.arange(ranked.shape[1], device=ranked.device) < quota.unsqueeze(1)
    return torch.zeros_like(candidates).scatter_(1, ranked, keep) & candidates
