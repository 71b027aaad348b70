"""Which proposals a two-stage detector has whichever way rounding turns a tie, and which it may have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vovnet.boxes import pairwise_iou

_LOGIT_TIE = 1e-3  # relative to the logits: those that close may change places
_IOU_TIE, CORNER_TIE = 1e-3, 2e-3  # by which an IoU and a corner, in pixels, may be off
_MOST = 5000  # boxes of a level, each of which is compared with each


class Proposals(NamedTuple):
    """boxes (P, 4); certain (P,): whether they are there whichever way each tie turns."""

    boxes: Tensor
    certain: Tensor


class TooManyTiesError(Exception):
    """So many proposals are tied that they cannot be compared with each other."""


def possible_proposals(
    levels: Sequence[tuple[Tensor, Tensor]], *, before: int, after: int, nms_threshold: float, least_side: float
) -> Proposals:
    """The proposals that there may be: the best of each level, those of them that NMS keeps, and the best of these.

    Ties are two scores that almost agree, and an IoU that is almost the threshold of NMS. A box is certainly kept if
    every box that may suppress it is certainly suppressed, and certainly suppressed if a box that is certainly kept
    does it; all others may be either. (That is NMS with three values: kept, suppressed, unknown.)

    levels: boxes (A, 4) and logits (A,) of each.
    before, after: how many of a level are looked at, and of all levels are kept.
    least_side: of a box that goes into NMS, in pixels.

    Raises TooManyTiesError.
    """
    parts = [_of_level(boxes, logits.double(), before, nms_threshold, least_side) for boxes, logits in levels]
    boxes, logits, certain = (torch.cat(part) for part in zip(*parts, strict=True))
    reach = _reach(logits)
    # How many may come before each, and how many certainly do.
    may = _count_at_least(reach, logits) - 1
    certainly = _count_below(reach, logits[certain])
    certain = certain & (may < after)
    possible = certainly < after
    return Proposals(boxes[possible], certain[possible])


def _of_level(
    boxes: Tensor, logits: Tensor, before: int, nms_threshold: float, least_side: float
) -> tuple[Tensor, Tensor, Tensor]:
    """boxes, logits and certain of the boxes of a level that NMS may keep."""
    looked_at = certain = torch.ones_like(logits, dtype=torch.bool)
    if len(logits) > before:
        last, next_one = logits.topk(before + 1).values[-2:]
        looked_at, certain = _reach(logits) >= last, logits > _reach(next_one)
    looked_at = looked_at & ((boxes[:, 2:] - boxes[:, :2]) >= least_side).all(dim=1)
    boxes, logits, certain = boxes[looked_at], logits[looked_at], certain[looked_at]
    if len(boxes) > _MOST:
        raise TooManyTiesError
    iou = pairwise_iou(boxes.double(), boxes.double())
    sides = (boxes[:, 2:] - boxes[:, :2]).amin(dim=1).clamp(min=1e-3)
    slack = _IOU_TIE + CORNER_TIE / torch.minimum(sides[:, None], sides)
    first = logits[:, None] > _reach(logits)  # row certainly ranks before column
    suppresses = (iou > nms_threshold + slack) & first
    may_suppress = ((iou > nms_threshold - slack) & ~first.T).fill_diagonal_(False)
    kept, gone = torch.zeros_like(certain), torch.zeros_like(certain)
    while True:
        now_gone = (suppresses & kept[:, None]).any(dim=0)
        now_kept = certain & ~(may_suppress & ~now_gone[:, None]).any(dim=0)
        if torch.equal(now_gone, gone) and torch.equal(now_kept, kept):
            break
        gone, kept = now_gone, now_kept
    return boxes[~gone], logits[~gone], kept[~gone]


def _reach(logits: Tensor) -> Tensor:
    """The highest logit that rounding may rank below each."""
    return logits + _LOGIT_TIE * logits.abs().clamp(min=1)


def _count_at_least(reach: Tensor, logits: Tensor) -> Tensor:
    """For each of `logits`, how many others reach it."""
    return len(reach) - torch.searchsorted(reach.sort().values, logits)


def _count_below(reach: Tensor, logits: Tensor) -> Tensor:
    """For each of `reach`, how many of `logits` lie above it."""
    return len(logits) - torch.searchsorted(logits.sort().values, reach, right=True)
