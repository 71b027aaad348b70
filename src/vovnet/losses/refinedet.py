"""RefineDet's loss: MultiBox for the anchor refinement, and again for the detections on the refined anchors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from vovnet.boxes import decode, xyxy_to_cxcywh
from vovnet.losses.multibox import MultiBoxLoss
from vovnet.matching import MIN_OBJECTNESS
from vovnet.structures import Target


class RefineDetLoss(nn.Module):
    """Both steps' losses, each over its own number of matched anchors. Source: RefineDet's Caffe code.

    The first step tells objects of any class from background on the fixed anchors. The second matches anew, on the
    anchors as the first one moved them; these are constants to it. Anchors whose objectness is below 1 % are no
    candidates for its negatives; where they match an object, they stay positive.

    arm_iou_threshold, arm_negative_iou_threshold: of the first step; 0.5 and 0.5 in the paper, 0.7 and 0.3 in its
    authors' scripts for VOC. Outputs as `RefineDet` gives them; "arm_class_loss", "arm_box_loss", "class_loss" and
    "box_loss" come back.
    """

    def __init__(
        self,
        arm_iou_threshold: float = 0.5,
        arm_negative_iou_threshold: float = 0.5,
        use_difficult: bool = False,
    ) -> None:
        super().__init__()
        self.arm = MultiBoxLoss(arm_iou_threshold, arm_negative_iou_threshold, use_difficult=use_difficult)
        self.odm = MultiBoxLoss(use_difficult=use_difficult)

    def forward(self, outputs: dict[str, Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        objectness, anchor_deltas = outputs["objectness_logits"].float(), outputs["anchor_deltas"].float()
        anchors = outputs["anchors_cxcywh"]
        objects = [replace(target, labels=torch.zeros_like(target.labels)) for target in targets]
        arm_class_loss, arm_box_loss = self.arm.compute(objectness, anchor_deltas, anchors, objects)

        refined = xyxy_to_cxcywh(decode(anchor_deltas.detach(), anchors))  # (N, A, 4)
        likely = objectness.detach().softmax(dim=-1)[..., 1] >= MIN_OBJECTNESS
        class_loss, box_loss = self.odm.compute(
            outputs["class_logits"], outputs["box_deltas"], refined, targets, may_be_negative=likely
        )
        return {
            "arm_class_loss": arm_class_loss,
            "arm_box_loss": arm_box_loss,
            "class_loss": class_loss,
            "box_loss": box_loss,
        }
