"""Box geometry: pure functions on tensors of shape (..., 4), x1 y1 x2 y2 in pixels unless the name says otherwise."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms as batched_nms

from vovnet.constants import constant

VARIANCES = (0.1, 0.1, 0.2, 0.2)
"""Scale of the regression targets (cx, cy, w, h) in SSD, DSOD and RefineDet."""

_LOG_SIZE_MAX = 6.0  # e^6 ≈ 400 times the anchor: boxes of an untrained network stay finite, real boxes are unaffected


def cxcywh_to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    centre, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], dim=-1)


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """Boxes as COCO writes them: left, top, width, height."""
    return torch.cat([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], dim=-1)


def area(boxes: Tensor) -> Tensor:
    """(..., 4) → (...); a box with x2 < x1 or y2 < y1 has area 0."""
    size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return size[..., 0] * size[..., 1]


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every pair: (..., M, 4), (..., A, 4) → (..., M, A). Two empty boxes have IoU 0."""
    # One coordinate at a time: the innermost loop then runs over all boxes, not over two coordinates.
    ax1, ay1, ax2, ay2 = a.unsqueeze(-2).unbind(dim=-1)  # each (..., M, 1)
    bx1, by1, bx2, by2 = b.unsqueeze(-3).movedim(-1, 0).contiguous().unbind()  # each (..., 1, A)
    width = torch.minimum(ax2, bx2).sub_(torch.maximum(ax1, bx1)).clamp_(min=0)
    height = torch.minimum(ay2, by2).sub_(torch.maximum(ay1, by1)).clamp_(min=0)
    intersection = width * height
    union = (area(a).unsqueeze(-1) + area(b).unsqueeze(-2)).sub_(intersection)
    return intersection / union.clamp_(min=torch.finfo(union.dtype).tiny)


def encode(boxes: Tensor, anchors_cxcywh: Tensor) -> Tensor:
    """Boxes (..., 4) → regression targets (..., 4) relative to their anchors; the inverse of `decode`."""
    boxes_cxcywh = xyxy_to_cxcywh(boxes)
    offset = (boxes_cxcywh[..., :2] - anchors_cxcywh[..., :2]) / anchors_cxcywh[..., 2:]
    log_size = torch.log(boxes_cxcywh[..., 2:] / anchors_cxcywh[..., 2:])
    return torch.cat([offset, log_size], dim=-1) / constant(VARIANCES, like=offset)


def decode(deltas: Tensor, anchors_cxcywh: Tensor) -> Tensor:
    """Regression outputs (..., 4) → boxes (..., 4), not clipped. Anchors may be (A, 4) for deltas (N, A, 4)."""
    deltas = deltas * constant(VARIANCES, like=deltas)
    centre = anchors_cxcywh[..., :2] + deltas[..., :2] * anchors_cxcywh[..., 2:]
    size = anchors_cxcywh[..., 2:] * torch.exp(deltas[..., 2:].clamp(max=_LOG_SIZE_MAX))
    return cxcywh_to_xyxy(torch.cat([centre, size], dim=-1))


def clip(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """The boxes limited to an image of (height, width)."""
    height, width = image_size
    return torch.stack([boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)], dim=-1).flatten(-2)


def flip_horizontally(boxes: Tensor, width: int) -> Tensor:
    """The boxes in the mirrored image of this width."""
    x1, y1, x2, y2 = boxes.unbind(dim=-1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=-1)


def flip_vertically(boxes: Tensor, height: int) -> Tensor:
    """The boxes in the image of this height turned upside down."""
    x1, y1, x2, y2 = boxes.unbind(dim=-1)
    return torch.stack([x1, height - y2, x2, height - y1], dim=-1)


def rescale(boxes: Tensor, from_size: tuple[int, int], to_size: tuple[int, int]) -> Tensor:
    """Boxes of an image of (height, width) `from_size` in pixels of the same image resized to `to_size`."""
    x, y = to_size[1] / from_size[1], to_size[0] / from_size[0]
    return torch.stack([boxes[..., 0::2] * x, boxes[..., 1::2] * y], dim=-1).flatten(-2)
