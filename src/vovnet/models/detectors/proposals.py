"""Which of a two-stage detector's anchors become proposals."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vovnet.boxes import batched_nms, clip


def best_proposals(
    boxes: Tensor,
    logits: Tensor,
    sizes: Sequence[tuple[int, int]],
    per_level: Sequence[int],
    *,
    before: int,
    after: int,
    nms_threshold: float,
    least_side: float,
) -> list[Tensor]:
    """The proposals (·, 4) of each image, clipped to it, best first.

    These are torchvision's, except that they rank by logit. Probabilities near 1 are equal in float32, and then chance
    decides, which no other runtime repeats.

    boxes: (N, A, 4). logits: (N, A), level after level.
    sizes: (height, width) of each image. per_level: how many anchors each level has.
    before, after: how many of a level go into NMS, and of all levels are kept.
    least_side: of a proposal, in pixels.
    """
    starts = [sum(per_level[:number]) for number in range(len(per_level))]
    parts = zip(logits.split(list(per_level), dim=1), starts, strict=True)
    best = [part.topk(min(before, part.shape[1])).indices + start for part, start in parts]
    level = torch.cat([torch.full_like(index[0], number) for number, index in enumerate(best)])
    kept = []
    for box, logit, index, size in zip(boxes, logits, torch.cat(best, dim=1), sizes, strict=True):
        box, score = clip(box[index], size), logit[index]
        large = ((box[:, 2:] - box[:, :2]) >= least_side).all(dim=1).nonzero().squeeze(1)
        kept.append(box[large[batched_nms(box[large], score[large], level[large], nms_threshold)[:after]]])
    return kept
