"""Which loss goes with which detector, and what the config says to it."""

import pytest
import torch

from vovnet import create_model
from vovnet.engine.config import LossConfig
from vovnet.engine.criterion import make_criterion
from vovnet.losses.multibox import MultiBoxLoss
from vovnet.losses.refinedet import RefineDetLoss
from vovnet.structures import Target


def criterion_of(name, **config):
    with torch.device("meta"):
        return make_criterion(create_model(name, 2), LossConfig(**config))


@pytest.mark.parametrize("name", ["dsod300_vovnet27_slim", "ssd300_mobilenet", "pelee304"])
@pytest.mark.parametrize(("option", "learnt"), [(None, True), (True, True), (False, False)])
def test_ssd_detectors(name, option, learnt):
    criterion = criterion_of(name, use_difficult=option)
    assert isinstance(criterion, MultiBoxLoss)
    assert criterion.use_difficult is learnt


@pytest.mark.parametrize("name", ["refinedet320_vovnet39", "refinedet512_vgg16"])
@pytest.mark.parametrize(("option", "learnt"), [(None, False), (True, True), (False, False)])
def test_refinedet(name, option, learnt):
    criterion = criterion_of(name, use_difficult=option)
    assert isinstance(criterion, RefineDetLoss)
    assert criterion.arm.use_difficult is criterion.odm.use_difficult is learnt
    for step in (criterion.arm, criterion.odm):
        assert (step.iou_threshold, step.negative_iou_threshold, step.negatives_per_positive) == (0.5, 0.5, 3)


def test_thresholds_are_the_first_steps():
    criterion = criterion_of("refinedet320_vovnet39", arm_iou_threshold=0.7, arm_negative_iou_threshold=0.3)
    assert (criterion.arm.iou_threshold, criterion.arm.negative_iou_threshold) == (0.7, 0.3)
    assert (criterion.odm.iou_threshold, criterion.odm.negative_iou_threshold) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "size", "names"),
    [
        ("ssd300_mobilenet", 300, ["class_loss", "box_loss"]),
        ("refinedet320_vovnet27_slim", 64, ["arm_class_loss", "arm_box_loss", "class_loss", "box_loss"]),
    ],
)
def test_it_takes_what_the_detector_gives(name, size, names):
    torch.manual_seed(0)
    model = create_model(name, 2).train()
    losses = make_criterion(model, LossConfig())(
        model(torch.randn(2, 3, size, size)), [Target.make([[0, 0, 40, 40]], [1]), Target.make()]
    )
    assert list(losses) == names
    assert all(loss.ndim == 0 and loss.isfinite() and loss > 0 for loss in losses.values())
