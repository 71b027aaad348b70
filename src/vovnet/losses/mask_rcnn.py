"""The losses of Faster R-CNN and Mask R-CNN: two of the proposals, two of the boxes, one of the masks.

Sources: Faster R-CNN (arXiv 1506.01497), Mask R-CNN (arXiv 1703.06870); the settings are those of Table 5's models.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from torchvision.models.detection.roi_heads import maskrcnn_loss

from vovnet.boxes import pairwise_iou
from vovnet.structures import Target


class MaskRCNNLoss(nn.Module):
    """(outputs of `MaskRCNN` with targets, targets) → scalar losses by name.

    The RPN learns from 256 anchors an image, at most half of them on objects, and from none that crosses the image's
    border; an anchor is an object's at IoU 0.7 or where no other overlaps it more, and background below 0.3. Smooth L1
    with beta 1/9 there and 1 for boxes. Crowds are left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.anchor_matcher = Matcher(0.7, 0.3, allow_low_quality_matches=True)
        self.anchor_sampler = BalancedPositiveNegativeSampler(256, 0.5)
        self.anchor_coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
        self.box_coder = BoxCoder((10.0, 10.0, 5.0, 5.0))

    def forward(self, outputs: dict[str, Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """targets: boxes in pixels of the network's input; with masks, bitmaps (M, H, W) in the same pixels."""
        objects = [target[~target.crowd] for target in targets]
        objectness_loss, anchor_loss = self._proposal_losses(outputs, objects)
        class_loss, box_loss = self._box_losses(outputs, objects)
        losses = {
            "objectness_loss": objectness_loss,
            "anchor_loss": anchor_loss,
            "class_loss": class_loss,
            "box_loss": box_loss,
        }
        if "mask_logits" in outputs:
            losses["mask_loss"] = self._mask_loss(outputs, objects)
        return losses

    def _proposal_losses(self, outputs: dict[str, Tensor], objects: Sequence[Target]) -> tuple[Tensor, Tensor]:
        anchors, logits = outputs["anchors"], outputs["objectness_logits"].float()
        deltas = outputs["anchor_deltas"].float()
        padded_size = [4 * side for side in outputs["p2"].shape[-2:]]
        labels, wanted = [], []
        for target in objects:
            height, width = target.image_size or padded_size
            end = anchors.new_tensor([width, height])
            inside = ((anchors[:, :2] >= 0) & (anchors[:, 2:] <= end)).all(dim=1).nonzero().squeeze(1)
            label = anchors.new_full((len(anchors),), -1)
            label[inside], matched = self._match_anchors(anchors[inside], target.boxes.to(anchors))
            aim = torch.zeros_like(anchors)
            aim[inside] = self.anchor_coder.encode_single(matched, anchors[inside])
            labels.append(label)
            wanted.append(aim)
        positive, negative = (torch.stack(chosen).bool() for chosen in self.anchor_sampler(labels))
        sampled = positive | negative
        label, aim = torch.stack(labels), torch.stack(wanted)
        count = sampled.sum().clamp(min=1)
        objectness_loss = F.binary_cross_entropy_with_logits(logits[sampled], label[sampled], reduction="sum") / count
        anchor_loss = F.smooth_l1_loss(deltas[positive], aim[positive], beta=1 / 9, reduction="sum") / count
        return objectness_loss, anchor_loss

    def _match_anchors(self, anchors: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """1, 0 or, between the thresholds, −1 of each anchor, and the box of those with 1 (of others, any)."""
        overlap = pairwise_iou(boxes, anchors)
        # An object that no anchor touches, as on the border, would have all of them for its best ones.
        touched = (overlap > 0).any(dim=1)
        boxes, overlap = boxes[touched], overlap[touched]
        if not len(boxes):
            return anchors.new_zeros(len(anchors)), anchors
        matched = self.anchor_matcher(overlap)
        label = (matched >= 0).to(anchors.dtype)
        label[matched == Matcher.BETWEEN_THRESHOLDS] = -1
        return label, boxes[matched.clamp(min=0)]

    def _box_losses(self, outputs: dict[str, Tensor], objects: Sequence[Target]) -> tuple[Tensor, Tensor]:
        labels, matched = outputs["proposal_labels"], outputs["proposal_objects"]
        logits = outputs["class_logits"].float()
        positive = (labels > 0).nonzero().squeeze(1)
        # Every object's place in the list of all images' objects.
        firsts = torch.tensor([0, *(len(target) for target in objects[:-1])]).cumsum(0)
        first = firsts.repeat_interleave(outputs["proposals_per_image"].cpu()).to(matched.device)
        boxes = torch.cat([target.boxes for target in objects]).to(outputs["proposals"])
        aim = self.box_coder.encode_single(boxes[(first + matched)[positive]], outputs["proposals"][positive])
        deltas = outputs["box_deltas"].float().view(*logits.shape, 4)[positive, labels[positive]]
        count = max(1, len(labels))
        box_loss = F.smooth_l1_loss(deltas, aim, beta=1.0, reduction="sum") / count
        return F.cross_entropy(logits, labels, reduction="sum") / count, box_loss

    def _mask_loss(self, outputs: dict[str, Tensor], objects: Sequence[Target]) -> Tensor:
        counts = outputs["proposals_per_image"].tolist()
        labels, matched = outputs["proposal_labels"].split(counts), outputs["proposal_objects"].split(counts)
        proposals = outputs["proposals"].split(counts)
        device = outputs["mask_logits"].device
        masks, classes = [], []
        for number, target in enumerate(objects):
            if not isinstance(target.masks, Tensor):
                raise ValueError(f"expected a bitmap of every object of image {number} of the batch, got none")
            masks.append(target.masks.to(device))
            classes.append((target.labels + 1).to(device))
        return maskrcnn_loss(
            outputs["mask_logits"].float(),
            [one[label > 0] for one, label in zip(proposals, labels, strict=True)],
            masks,
            classes,
            [one[label > 0] for one, label in zip(matched, labels, strict=True)],
        )
