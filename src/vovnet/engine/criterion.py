"""The loss that goes with a detector."""

from __future__ import annotations

from torch import nn

from vovnet.engine.config import LossConfig
from vovnet.losses.mask_rcnn import MaskRCNNLoss
from vovnet.losses.multibox import MultiBoxLoss
from vovnet.losses.refinedet import RefineDetLoss
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.detectors.mask_rcnn import MaskRCNN
from vovnet.models.detectors.refinedet import RefineDet


def make_criterion(model: DetectionModel, config: LossConfig) -> nn.Module:
    """(outputs, targets) → scalar losses by name, for the outputs of this model."""
    if isinstance(model, MaskRCNN):
        return MaskRCNNLoss()
    if isinstance(model, RefineDet):
        return RefineDetLoss(
            config.arm_iou_threshold, config.arm_negative_iou_threshold, use_difficult=bool(config.use_difficult)
        )
    return MultiBoxLoss(use_difficult=config.use_difficult is not False)
