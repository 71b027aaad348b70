"""SSD's MultiBox loss. The SSD, DSOD and Pelee detectors train with it; RefineDet applies it twice."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from vovnet.boxes import cxcywh_to_xyxy, encode
from vovnet.matching import hard_negatives, match
from vovnet.padded_targets import PaddedTargets
from vovnet.structures import Target


class MultiBoxLoss(nn.Module):
    """(outputs of `SSD`, targets) → "class_loss", cross entropy of positives and hard negatives, and "box_loss".

    The box loss is smooth L1 of the positives. Both are divided by the number of matched anchors of the batch, at least
    1. An image without objects contributes nothing, not even negatives. Source: SSD's MultiBox layer in Caffe.

    iou_threshold: from this IoU on, an anchor is positive; see `match`.
    negative_iou_threshold: below this IoU with every object, an anchor may be negative.
    negatives_per_positive: how many hard negatives an image has for each positive.
    use_difficult: learn from VOC's difficult objects too.
    """

    def __init__(
        self,
        iou_threshold: float = 0.5,
        negative_iou_threshold: float = 0.5,
        negatives_per_positive: int = 3,
        use_difficult: bool = True,
    ) -> None:
        super().__init__()
        self.iou_threshold = iou_threshold
        self.negative_iou_threshold = negative_iou_threshold
        self.negatives_per_positive = negatives_per_positive
        self.use_difficult = use_difficult

    def forward(
        self,
        outputs: dict[str, Tensor],
        targets: Sequence[Target] | PaddedTargets,
        may_be_negative: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """outputs: "anchors_cxcywh" may be (N, A, 4), if each image has its own.

        targets: boxes in pixels of the network's input.
        may_be_negative: (N, A) bool, False for anchors that must not be hard negatives; None allows all.
        """
        # In half precision, a sum over thousands of anchors would lose its small terms.
        logits, deltas = outputs["class_logits"].float(), outputs["box_deltas"].float()
        anchors_cxcywh = outputs["anchors_cxcywh"]
        padded = targets if isinstance(targets, PaddedTargets) else PaddedTargets.of(targets).to(logits.device)
        boxes, labels, valid = padded.boxes, padded.labels, padded.valid & ~padded.crowd
        if not self.use_difficult:
            valid &= ~padded.difficult

        matches, best_iou = match(boxes, valid, cxcywh_to_xyxy(anchors_cxcywh), self.iou_threshold)
        positive = matches >= 0  # (N, A)
        log_probabilities = F.log_softmax(logits, dim=-1)
        candidates = ~positive & (best_iou < self.negative_iou_threshold)
        negative = hard_negatives(
            candidates if may_be_negative is None else candidates & may_be_negative,
            difficulty=-log_probabilities[..., 0].detach(),
            quota=self.negatives_per_positive * positive.sum(dim=1),
        )

        image, anchor = positive.nonzero(as_tuple=True)
        matched = matches[image, anchor]
        box_targets = encode(boxes[image, matched], anchors_cxcywh.expand_as(deltas)[image, anchor])
        positive_loss = -log_probabilities[image, anchor, labels[image, matched] + 1].sum()
        negative_loss = -log_probabilities[..., 0][negative].sum()
        box_loss = F.smooth_l1_loss(deltas[image, anchor], box_targets, reduction="sum")
        normaliser = max(len(image), 1)
        return {"class_loss": (positive_loss + negative_loss) / normaliser, "box_loss": box_loss / normaliser}
