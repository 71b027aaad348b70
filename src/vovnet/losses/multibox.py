"""SSD's MultiBox loss. The SSD, DSOD and Pelee detectors train with it; RefineDet applies it twice."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vovnet.boxes import cxcywh_to_xyxy, decode, encode, pairwise_iou
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
    images_per_group: so many consecutive images share a normaliser, as if each group were a forward pass of its own;
        the loss is the mean over the groups. None: the batch is one group.
    iou_targets: the target of a positive's class is the IoU of its predicted box with the object, and of the background
        the rest, instead of 1 and 0. Of two detections of an object the better placed one then has the higher score, as
        with the varifocal loss (arXiv 2008.13367).
    """

    def __init__(
        self,
        iou_threshold: float = 0.5,
        negative_iou_threshold: float = 0.5,
        negatives_per_positive: int = 3,
        use_difficult: bool = True,
        images_per_group: int | None = None,
        iou_targets: bool = False,
    ) -> None:
        super().__init__()
        self.iou_threshold = iou_threshold
        self.negative_iou_threshold = negative_iou_threshold
        self.negatives_per_positive = negatives_per_positive
        self.use_difficult = use_difficult
        self.images_per_group = images_per_group
        self.iou_targets = iou_targets

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
        valid = padded.valid & ~padded.crowd
        if not self.use_difficult:
            valid &= ~padded.difficult

        matches, best_iou = match(padded.boxes, valid, cxcywh_to_xyxy(anchors_cxcywh), self.iou_threshold)
        positive = matches >= 0  # (N, A)
        count = positive.sum(dim=1)
        log_probabilities = F.log_softmax(logits, dim=-1)
        candidates = ~positive & (best_iou < self.negative_iou_threshold)
        negative = hard_negatives(
            candidates if may_be_negative is None else candidates & may_be_negative,
            difficulty=-log_probabilities[..., 0].detach(),
            quota=self.negatives_per_positive * count,
        )

        # How many anchors count is not known here, so each has a loss, and those of the others become 0.
        obj = matches.clamp(min=0)
        label = torch.where(positive, padded.labels.gather(1, obj) + 1, 0)
        class_losses = -log_probabilities.gather(2, label.unsqueeze(-1)).squeeze(-1)
        is_positive = positive.unsqueeze(-1)
        boxes = padded.boxes.gather(1, obj.unsqueeze(-1).expand(-1, -1, 4))
        if self.iou_targets:
            reached = _iou(decode(deltas.detach(), anchors_cxcywh), boxes)
            class_losses = torch.where(positive, reached * class_losses, class_losses)
            class_losses = class_losses - torch.where(positive, 1 - reached, 0.0) * log_probabilities[..., 0]
        class_loss = torch.where(positive | negative, class_losses, 0.0).sum(dim=1)
        box_targets = torch.where(is_positive, encode(boxes, anchors_cxcywh), 0.0)
        deltas = torch.where(is_positive, deltas, 0.0)
        box_loss = F.smooth_l1_loss(deltas, box_targets, reduction="none").sum(dim=(1, 2))
        return {"class_loss": self._mean(class_loss, count), "box_loss": self._mean(box_loss, count)}

    def _mean(self, of_images: Tensor, count: Tensor) -> Tensor:
        """The sums of the images (N,) divided by the number of matched anchors of their group."""
        groups = (-1, self.images_per_group or len(count))
        return (of_images.view(groups).sum(dim=1) / count.view(groups).sum(dim=1).clamp(min=1)).mean()


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """Of each pair at the same position: (..., 4), (..., 4) → (...)."""
    return pairwise_iou(a.unsqueeze(-2), b.unsqueeze(-2))[..., 0, 0]
