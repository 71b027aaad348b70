"""Mask R-CNN and Faster R-CNN as one graph: the whole way from the pixels of an image of any size to its detections.

`MaskRCNN` calls torchvision's functions, which loop over images and proposals in Python. Here the same steps are
operations on whole tensors. The only ones whose result has a number of rows that depends on values are
`vovnet::best_after_nms` and the choice of a pyramid level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from vovnet.boxes import batched_nms
from vovnet.models.detectors.mask_rcnn import LEVELS, MIN_SIDE, PADDED_MULTIPLE, STRIDES, MaskRCNN
from vovnet.models.preprocessing import Preprocessing

_CANONICAL_SIDE, _CANONICAL_LEVEL, _FIRST_LEVEL, _EPSILON = 224, 4, 2, 1e-6  # of torchvision's `LevelMapper`
_REFUSED = -torch.inf  # score of a box that NMS must not see
_ABOVE_REFUSED = -1e30
_MOST_BOXES = 2**31


@torch.library.custom_op("vovnet::best_after_nms", mutates_args=())
def best_after_nms(boxes: Tensor, scores: Tensor, score_threshold: Tensor, iou_threshold: float, top_k: int) -> Tensor:
    """The `top_k` highest scores above the threshold that NMS keeps in each group: int64 (S, 2) of group and box.

    boxes: (G, C, 4). scores: (G, C). score_threshold: (1,).
    """
    group, box = (scores > score_threshold).nonzero(as_tuple=True)
    keep = batched_nms(boxes[group, box], scores[group, box], group, iou_threshold)[:top_k]
    return torch.stack([group[keep], box[keep]], dim=1)


@best_after_nms.register_fake
def _(boxes: Tensor, scores: Tensor, score_threshold: Tensor, iou_threshold: float, top_k: int) -> Tensor:
    return boxes.new_empty((torch.library.get_ctx().new_dynamic_size(), 2), dtype=torch.int64)


def _best_after_nms_in_onnx(boxes: Any, scores: Any, score_threshold: Any, iou_threshold: float, top_k: int) -> Any:
    from onnxscript import opset18

    op: Any = opset18
    number = op.Slice(op.Shape(scores), [1], [2])
    found = op.NonMaxSuppression(boxes, op.Unsqueeze(scores, [1]), number, iou_threshold, score_threshold)
    group_and_box = op.Gather(found, op.Constant(value_ints=[0, 2]), axis=1)
    score = op.GatherND(scores, group_and_box)
    _, best = op.TopK(score, op.Min(op.Shape(score), op.Constant(value_ints=[top_k])))
    return op.Gather(group_and_box, best, axis=0)


def translations() -> dict[Any, Any]:
    """How the exporter writes this module's own operation in ONNX."""
    return {torch.ops.vovnet.best_after_nms.default: _best_after_nms_in_onnx}


class Padding(nn.Module):
    """uint8 RGB image (1, 3, H, W) → the network's input, padded to multiples of 32, and the limits (4,) of boxes."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.preprocessing = preprocessing

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        height, width = images.shape[-2:]
        pixels = self.preprocessing.normalize(images)
        padded = nn.functional.pad(pixels, (0, -width % PADDED_MULTIPLE, 0, -height % PADDED_MULTIPLE))
        return padded, torch.stack([torch.scalar_tensor(side, dtype=torch.float32) for side in (width, height)] * 2)


class TwoStages(nn.Module):
    """What `Padding` returns, and a score threshold (1,) → image, boxes, labels, scores and, with masks, masks.

    For the outputs see `vovnet.runtime.session.Rows`. Best score first; only the `top_k` best.
    """

    def __init__(self, model: MaskRCNN, *, nms_threshold: float, top_k: int) -> None:
        super().__init__()
        self.model = model.eval()
        self.nms_threshold, self.top_k = nms_threshold, top_k
        generator = model.rpn.anchor_generator
        generator.set_cell_anchors(torch.float32, torch.device("cpu"))
        for level, cells in enumerate(generator.cell_anchors):
            self.register_buffer(f"cells{level}", cells, persistent=False)
        self.eval()

    def forward(self, padded: Tensor, limit: Tensor, score_threshold: Tensor) -> tuple[Tensor, ...]:
        model, heads = self.model, self.model.roi_heads
        maps = model.fpn(dict(zip(LEVELS, model.backbone(padded), strict=True)))
        proposals = self._proposals(list(maps.values()), limit)

        levels = [maps[level] for level in LEVELS]
        pooled = _pool(levels, proposals, heads.box_roi_pool.output_size)
        logits, deltas = heads.box_predictor(heads.box_head(pooled))
        boxes = heads.box_coder.decode_single(deltas.float(), proposals)
        boxes = _clip(boxes.unflatten(1, (-1, 4)), limit)[:, 1:].transpose(0, 1)  # (K, R + 1, 4)
        scores = logits.float().softmax(dim=-1)[:, 1:].transpose(0, 1)
        scores = torch.where(_large_enough(boxes, MIN_SIDE), scores, _REFUSED)
        selected = best_after_nms(boxes, scores, score_threshold, self.nms_threshold, self.top_k)
        labels, index = selected.unbind(dim=1)
        found = (torch.zeros_like(labels), boxes[labels, index], labels, scores[labels, index])
        return (*found, self._masks(levels, found[1], labels)) if model.masks else found

    def _proposals(self, maps: Sequence[Tensor], limit: Tensor) -> Tensor:
        """The proposals (R + 1, 4) and one without extent: some runtimes cannot compute with none at all."""
        rpn = self.model.rpn
        number, post = rpn.pre_nms_top_n(), rpn.post_nms_top_n()
        boxes, scores = [], []
        for level, (logits, deltas) in enumerate(zip(*rpn.head(list(maps)), strict=True)):
            cells = getattr(self, f"cells{level}")
            rows, columns = logits.shape[-2:]
            x = torch.arange(columns, dtype=torch.float32) * STRIDES[level]
            y = torch.arange(rows, dtype=torch.float32) * STRIDES[level]
            corners = torch.stack([x.expand(rows, -1), y[:, None].expand(-1, columns)] * 2, dim=-1)  # (H, W, 4)
            anchors = (corners.flatten(0, 1)[:, None] + cells).flatten(0, 1)  # (H·W·P, 4)
            logit = logits[0].permute(1, 2, 0).flatten().float()
            delta = deltas[0].unflatten(0, (-1, 4)).permute(2, 3, 0, 1).flatten(0, 2).float()
            # A level may have fewer anchors than are kept. Boxes without extent, which are refused below, make up.
            logit, top = torch.cat([logit, logit.new_full((number,), -torch.inf)]).topk(number)
            delta, anchor = (torch.cat([rows, rows.new_zeros(number, 4)])[top] for rows in (delta, anchors))
            boxes.append(_clip(rpn.box_coder.decode_single(delta, anchor), limit))
            scores.append(logit)
        box, score = torch.stack(boxes), torch.stack(scores)  # (5, 1000, 4), (5, 1000)
        score = torch.where(_large_enough(box, rpn.min_size), score, _REFUSED)
        threshold = torch.tensor([_ABOVE_REFUSED])
        level_of, index = best_after_nms(box, score, threshold, rpn.nms_thresh, post).unbind(dim=1)
        return torch.cat([box[level_of, index], box.new_zeros(1, 4)])

    def _masks(self, levels: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Probabilities (S, 28, 28). One more box is computed, as in `_proposals`."""
        heads = self.model.roi_heads
        pooled = _pool(levels, torch.cat([boxes, boxes.new_zeros(1, 4)]), heads.mask_roi_pool.output_size)
        logits = heads.mask_predictor(heads.mask_head(pooled))
        number = torch.arange(labels.shape[0])
        return logits[number, labels + 1].float().sigmoid()


def _clip(boxes: Tensor, limit: Tensor) -> Tensor:
    return torch.minimum(boxes.clamp(min=0), limit)


def _large_enough(boxes: Tensor, side: float) -> Tensor:
    return ((boxes[..., 2] - boxes[..., 0]) >= side) & ((boxes[..., 3] - boxes[..., 1]) >= side)


def _pool(levels: Sequence[Tensor], boxes: Tensor, output_size: Sequence[int]) -> Tensor:
    """The features (R, C, h, w) in each box, from the level that suits its size, as `MultiScaleRoIAlign` does it."""
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    level = torch.floor(_CANONICAL_LEVEL + torch.log2(side / _CANONICAL_SIDE) + _EPSILON)
    level = level.clamp(_FIRST_LEVEL, _FIRST_LEVEL + len(levels) - 1).to(torch.int64) - _FIRST_LEVEL
    rois = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], dim=1)
    own = [(level == number).nonzero().squeeze(1) for number in range(len(levels))]
    for index in own:
        torch._check(index.shape[0] <= _MOST_BOXES)  # the exporter adds these bounds up, in 64 bits
    parts = [
        roi_align(features, rois[index], output_size, 1 / stride, sampling_ratio=2)
        for features, index, stride in zip(levels, own, STRIDES, strict=False)
    ]
    return torch.cat(parts)[torch.cat(own).argsort()]
