"""RefineDet's loss: the MultiBox loss of the fixed anchors, and again of the refined anchors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from vovnet.boxes import decode, xyxy_to_cxcywh
from vovnet.losses.multibox import MultiBoxLoss
from vovnet.matching import MIN_OBJECTNESS
from vovnet.padded_targets import PaddedTargets
from vovnet.structures import Target


class RefineDetLoss(nn.Module):
    """(outputs of `RefineDet`, targets) → "arm_class_loss", "arm_box_loss", "class_loss", "box_loss".

    The first step (ARM) tells objects of any class from background on the fixed anchors. The second step (ODM) matches
    objects to the anchors that the first one moved, without a gradient through them. Anchors with an objectness below
    1 % are not used as its negatives; if they match an object, they are positive all the same. Each step divides by its
    own number of matched anchors. Source: RefineDet's Caffe code.

    arm_iou_threshold, arm_negative_iou_threshold: of the first step. 0.5 and 0.5 in the paper, 0.7 and 0.3 in the
        authors' scripts for VOC.
    use_difficult, images_per_group: see `MultiBoxLoss`.
    """

    def __init__(
        self,
        arm_iou_threshold: float = 0.5,
        arm_negative_iou_threshold: float = 0.5,
        use_difficult: bool = False,
        images_per_group: int | None = None,
    ) -> None:
        super().__init__()
        self.arm = MultiBoxLoss(
            arm_iou_threshold,
            arm_negative_iou_threshold,
            use_difficult=use_difficult,
            images_per_group=images_per_group,
        )
        self.odm = MultiBoxLoss(use_difficult=use_difficult, images_per_group=images_per_group)

    def forward(self, outputs: dict[str, Tensor], targets: Sequence[Target] | PaddedTargets) -> dict[str, Tensor]:
        """targets: boxes in pixels of the network's input."""
        objectness, anchor_deltas = outputs["objectness_logits"].float(), outputs["anchor_deltas"].float()
        anchors = outputs["anchors_cxcywh"]
        if not isinstance(targets, PaddedTargets):
            targets = PaddedTargets.of(targets).to(objectness.device)
        objects = replace(targets, labels=torch.zeros_like(targets.labels))
        arm = self.arm({"class_logits": objectness, "box_deltas": anchor_deltas, "anchors_cxcywh": anchors}, objects)

        refined = xyxy_to_cxcywh(decode(anchor_deltas.detach(), anchors))  # (N, A, 4)
        likely = objectness.detach().softmax(dim=-1)[..., 1] >= MIN_OBJECTNESS
        odm = self.odm({**outputs, "anchors_cxcywh": refined}, targets, may_be_negative=likely)
        return {**{f"arm_{name}": loss for name, loss in arm.items()}, **odm}
