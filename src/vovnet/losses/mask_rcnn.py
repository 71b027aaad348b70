"""The losses of Faster R-CNN and Mask R-CNN: two for the proposals, two for the boxes, one for the masks.

Sources: Faster R-CNN (arXiv 1506.01497), Mask R-CNN (arXiv 1703.06870); the settings are those of Table 5's models.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from torchvision.models.detection.roi_heads import project_masks_on_boxes

from vovnet.boxes import pairwise_iou
from vovnet.masks import rasterise
from vovnet.structures import Target, TrainingMasks

P2_STRIDE = 4


class MaskRCNNLoss(nn.Module):
    """(outputs of `MaskRCNN` with targets, targets) → scalar losses by name.

    The RPN learns from 256 anchors per image, at most half of them positive. An anchor is positive if its IoU with an
    object is at least 0.7, or if it is the best anchor for an object; it is negative if its IoU with every object is
    below 0.3. Anchors that cross the image's border are ignored, and so are crowds. The smooth L1 loss has beta 1/9 in
    the RPN and 1 in the second stage.

    On a GPU the host waits for it where a number is not known before: of anchors inside each image, of objects that an
    anchor overlaps, of sampled anchors and positive proposals; and for proposals whose masks are polygons, which the
    host draws. Bitmaps are pooled on the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.anchor_matcher = Matcher(0.7, 0.3, allow_low_quality_matches=True)
        self.anchor_sampler = BalancedPositiveNegativeSampler(256, 0.5)
        self.anchor_coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
        self.box_coder = BoxCoder((10.0, 10.0, 5.0, 5.0))

    def forward(self, outputs: dict[str, Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """targets: boxes in pixels of the network's input; with masks, polygons or bitmaps in the same pixels."""
        objects = [target[~target.crowd] for target in targets]
        losses = self._proposal_losses(outputs, objects) | self._box_losses(outputs, objects)
        if "mask_logits" in outputs:
            losses["mask_loss"] = self._mask_loss(outputs, objects)
        return losses

    def _proposal_losses(self, outputs: dict[str, Tensor], objects: Sequence[Target]) -> dict[str, Tensor]:
        """Objectness and anchor loss of the sampled anchors."""
        anchors, logits = outputs["anchors"], outputs["objectness_logits"].float()
        deltas = outputs["anchor_deltas"].float()
        padded_size = [P2_STRIDE * side for side in outputs["p2"].shape[-2:]]
        labels, delta_targets = [], []
        for target in objects:
            height, width = target.image_size or padded_size
            left, top, right, bottom = anchors.unbind(1)
            inside = ((left >= 0) & (top >= 0) & (right <= width) & (bottom <= height)).nonzero().squeeze(1)
            label = anchors.new_full((len(anchors),), -1)
            label[inside], matched = self._match_anchors(anchors[inside], target.boxes.to(anchors))
            delta_target = torch.zeros_like(anchors)
            delta_target[inside] = self.anchor_coder.encode_single(matched, anchors[inside])
            labels.append(label)
            delta_targets.append(delta_target)
        positive, negative = (torch.stack(chosen).bool() for chosen in self.anchor_sampler(labels))  # (N, A) each
        sampled = positive | negative
        label, delta_target = torch.stack(labels), torch.stack(delta_targets)  # (N, A), (N, A, 4)
        count = sampled.sum().clamp(min=1)
        objectness_loss = F.binary_cross_entropy_with_logits(logits[sampled], label[sampled], reduction="sum") / count
        anchor_loss = F.smooth_l1_loss(deltas[positive], delta_target[positive], beta=1 / 9, reduction="sum") / count
        return {"objectness_loss": objectness_loss, "anchor_loss": anchor_loss}

    def _match_anchors(self, anchors: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Labels (A,) and matched boxes (A, 4) of the anchors of one image.

        The label is 1 if the anchor is positive, 0 if it is negative, and −1 if its IoU is between the thresholds. An
        anchor that is not positive has an arbitrary box.
        """
        overlap = pairwise_iou(boxes, anchors)  # (M, A)
        # For an object that no anchor overlaps, such as one at the border, every anchor would count as the best.
        touched = (overlap > 0).any(dim=1)
        boxes, overlap = boxes[touched], overlap[touched]
        if not len(boxes):
            return anchors.new_zeros(len(anchors)), anchors
        matched = self.anchor_matcher(overlap)
        label = (matched >= 0).to(anchors.dtype)
        label[matched == Matcher.BETWEEN_THRESHOLDS] = -1
        return label, boxes[matched.clamp(min=0)]

    def _box_losses(self, outputs: dict[str, Tensor], objects: Sequence[Target]) -> dict[str, Tensor]:
        """Class and box loss of the sampled proposals."""
        labels, matched = outputs["proposal_labels"], outputs["proposal_objects"]
        logits = outputs["class_logits"].float()
        positive = (labels > 0).nonzero().squeeze(1)
        # Indices of objects count within an image; `first` turns them into indices among the objects of all images.
        firsts = torch.tensor([0, *(len(target) for target in objects[:-1])]).cumsum(0)
        first = firsts.repeat_interleave(outputs["proposals_per_image"].cpu()).to(matched.device, non_blocking=True)
        boxes = torch.cat([target.boxes for target in objects]).to(outputs["proposals"])
        delta_targets = self.box_coder.encode_single(boxes[(first + matched)[positive]], outputs["proposals"][positive])
        deltas = outputs["box_deltas"].float().view(*logits.shape, 4)[positive, labels[positive]]
        count = max(1, len(labels))
        class_loss = F.cross_entropy(logits, labels, reduction="sum") / count
        return {
            "class_loss": class_loss,
            "box_loss": F.smooth_l1_loss(deltas, delta_targets, beta=1.0, reduction="sum") / count,
        }

    def _mask_loss(self, outputs: dict[str, Tensor], objects: Sequence[Target]) -> Tensor:
        """Binary cross entropy of the masks of the positive proposals, each in its own class."""
        logits, counts = outputs["mask_logits"].float(), outputs["proposals_per_image"].tolist()
        classes, mask_targets = [], []
        columns = (outputs[name].split(counts) for name in ("proposals", "proposal_labels", "proposal_objects"))
        for number, (target, boxes, label, index) in enumerate(zip(objects, *columns, strict=True)):
            if not isinstance(target.masks, Tensor | TrainingMasks):
                expected = "polygons or a bitmap of every object"
                raise ValueError(f"expected {expected} of image {number} of the batch, got none")
            positive = label > 0
            classes.append(label[positive])
            masks = TrainingMasks.of(target.masks)
            mask_targets.append(_mask_targets(masks, boxes[positive], index[positive], logits.shape[-1]))
        label, mask_target = torch.cat(classes), torch.cat(mask_targets)
        if not len(label):
            return logits.sum() * 0
        own_class = logits[torch.arange(len(label), device=label.device), label]
        return F.binary_cross_entropy_with_logits(own_class, mask_target)


def _mask_targets(masks: TrainingMasks, boxes: Tensor, matched: Tensor, side: int) -> Tensor:
    """What the matched objects cover of their proposals (R, 4): (R, side, side) in [0, 1].

    Polygons are drawn at this size, as in maskrcnn-benchmark and Detectron. Bitmaps are pooled by RoIAlign.
    """
    if len(boxes) and not masks.polygons.parts.any():  # bitmaps only: nothing to draw, and no reason to ask the device
        return project_masks_on_boxes(masks.bitmaps.to(boxes.device), boxes, matched, side)
    objects = matched.cpu().numpy()
    polygons = masks.polygons[objects]
    targets = torch.from_numpy(rasterise(polygons, boxes.double().cpu().numpy(), side)).to(boxes)
    with_bitmap = (polygons.parts == 0).nonzero()[0]
    if len(with_bitmap):
        index = torch.from_numpy(masks.bitmap_indices()[objects[with_bitmap]]).to(boxes.device)
        rows = torch.from_numpy(with_bitmap).to(boxes.device)
        targets[rows] = project_masks_on_boxes(masks.bitmaps.to(boxes.device), boxes[rows], index, side)
    return targets
