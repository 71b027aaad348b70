"""Which anchors are matched to which objects, and which are used as negatives.

Both functions follow SSD's MultiBox layer and treat a whole batch at once. On a GPU they never look at a value, because
that would wait for all that the GPU was given before.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vovnet.boxes import pairwise_iou

MIN_OBJECTNESS = 0.01
"""RefineDet's second step ignores anchors that the first step gives a lower score for holding an object."""

_MIN_BIPARTITE_IOU = 1e-6
_MOST_PAIRS = (
    2**24
)  # of objects and anchors that are compared together: a crowded batch must not decide the peak memory


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
    if _can_look_at(valid):
        used = valid.any(dim=0).nonzero()
        m = int(used[-1]) + 1 if len(used) else 0
        boxes, valid = boxes[:, :m], valid[:, :m]
    n, m, a = boxes.shape[0], boxes.shape[1], anchors.shape[-2]
    if m == 0 or a == 0:
        return boxes.new_full((n, a), -1, dtype=torch.int64), boxes.new_zeros((n, a))
    together = max(1, _MOST_PAIRS // (m * a))  # images
    parts = [
        _compare(
            boxes[i : i + together],
            valid[i : i + together],
            anchors if anchors.ndim == 2 else anchors[i : i + together],
        )
        for i in range(0, n, together)
    ]
    best_iou, best_object, keys = (torch.cat(values) for values in zip(*parts, strict=True))
    matches = torch.where(best_iou >= iou_threshold, best_object, -1)
    pairs = _bipartite(keys, a).to(boxes.device)
    return torch.where(pairs >= 0, pairs, matches), best_iou.clamp(min=0)


def _compare(boxes: Tensor, valid: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What matching has to know of all pairs: `_first_argmax` of the IoU, and the keys for `_bipartite`."""
    iou = pairwise_iou(boxes, anchors)  # (N, M, A)
    iou = iou.masked_fill(~valid.unsqueeze(-1), -1.0)
    candidates = torch.where(iou > _MIN_BIPARTITE_IOU, iou, 0.0)
    return *_first_argmax(iou), _best_keys(candidates if _sorts_integers(iou.device) else candidates.cpu())


def _sorts_integers(device: torch.device) -> bool:
    """Whether the device finds many of the largest 64-bit integers; MPS does not."""
    return device.type != "mps"


def _can_look_at(tensor: Tensor) -> bool:
    """Whether its values are here already, so that looking at one waits for no device."""
    return tensor.device.type == "cpu"


def _first_argmax(iou: Tensor) -> tuple[Tensor, Tensor]:
    """(N, M, A) → the largest IoU of each anchor, and the first object that has it; that of `max` may be any."""
    best = iou.amax(dim=1)
    objects = torch.arange(iou.shape[1], device=iou.device, dtype=torch.int32).unsqueeze(-1)
    first = torch.where(iou == best.unsqueeze(1), objects, iou.shape[1]).amin(dim=1)
    return best, first.long()


def _best_keys(iou: Tensor) -> Tensor:
    """IoU (N, M, A), 0 where a pair must not be matched → (N, M, K): the best pairs of each object, best first.

    The other objects can take M - 1 anchors from an object, so only its best M can be its own: K is M, or all anchors.
    As integers, floats that are not negative have the same order. The lower half makes the lower anchor the larger.
    """
    m, a = iou.shape[1:]
    keys = iou.float().view(torch.int32).long()
    keys <<= 32
    keys |= torch.arange(a - 1, -1, -1, device=iou.device)
    return keys.topk(min(m, a), dim=2).values


def _bipartite(keys: Tensor, a: int) -> Tensor:
    """`_best_keys` (N, M, K) among A anchors → (N, A): the object of each anchor in the first stage, or −1.

    The pairs, sorted once, are few enough to be gone through M times.
    """
    n, m, k = keys.shape
    # In a tie, the pair that is first, that of the lower object, stays first.
    keys, order = keys.flatten(1).sort(dim=1, descending=True, stable=True)  # (N, M·K)
    anchors, objects = a - 1 - (keys & 0xFFFFFFFF), order // k
    ranks = torch.arange(m * k, 0, -1, device=keys.device, dtype=torch.int32)
    ranks = torch.where(keys >> 32 > 0, ranks, 0)  # of the pairs that are left: the largest is the best pair
    best_ranks = []
    for _ in range(k):
        best, place = ranks.max(dim=1, keepdim=True)  # (N, 1)
        best_ranks.append(best)
        taken = (anchors == anchors.gather(1, place)) | (objects == objects.gather(1, place))
        ranks = ranks.masked_fill(taken, 0)
    best = torch.cat(best_ranks, dim=1)  # (N, K)
    place = (m * k - best).clamp(max=m * k - 1)
    anchor = torch.where(best > 0, anchors.gather(1, place), a)  # what is no pair goes to a column that is cut off
    return keys.new_full((n, a + 1), -1).scatter_(1, anchor, objects.gather(1, place))[:, :a]


def hard_negatives(candidates: Tensor, difficulty: Tensor, quota: Tensor) -> Tensor:
    """The hardest candidates of each image, (N, A) bool.

    candidates: (N, A) bool.
    difficulty: (N, A), larger is harder.
    quota: (N,), how many to keep.
    """
    ranked = difficulty.masked_fill(~candidates, -torch.inf).argsort(dim=1, descending=True, stable=True)
    keep = torch.arange(ranked.shape[1], device=ranked.device) < quota.unsqueeze(1)
    return torch.zeros_like(candidates).scatter_(1, ranked, keep) & candidates
