"""What the table says about each detector: its loss and what the config sets there, masks, parameter names."""

import re

import pytest
import torch

from vovnet import create_model
from vovnet.engine.config import LossConfig
from vovnet.errors import UsageError
from vovnet.losses.mask_rcnn import MaskRCNNLoss
from vovnet.losses.multibox import MultiBoxLoss
from vovnet.losses.refinedet import RefineDetLoss
from vovnet.names import BACKBONE_NAMES, DETECTORS
from vovnet.structures import Target
from vovnet.zoo import BACKBONES, SPECS, find_detector


def criterion_of(name, **config):
    return find_detector(name).make_loss(LossConfig(**config).model_dump())


@pytest.mark.parametrize("name", ["dsod300_vovnet27_slim", "ssd300_mobilenet", "pelee304", "ssdfpn320_vovnet19_tiny"])
@pytest.mark.parametrize(("option", "learnt"), [(None, True), (True, True), (False, False)])
def test_ssd_detectors(name, option, learnt):
    criterion = criterion_of(name, use_difficult=option)
    assert isinstance(criterion, MultiBoxLoss)
    assert criterion.use_difficult is learnt


@pytest.mark.parametrize(("name", "by_iou"), [("ssdfpn320_vovnet19_tiny", True), ("dsod300_vovnet27_slim", False)])
def test_which_ssd_learns_how_well_its_boxes_are_placed(name, by_iou):
    assert criterion_of(name).iou_targets is by_iou


@pytest.mark.parametrize("name", ["refinedet320_vovnet39", "refinedet512_vgg16"])
@pytest.mark.parametrize(("option", "learnt"), [(None, False), (True, True), (False, False)])
def test_refinedet(name, option, learnt):
    criterion = criterion_of(name, use_difficult=option)
    assert isinstance(criterion, RefineDetLoss)
    assert criterion.arm.use_difficult is criterion.odm.use_difficult is learnt
    for step in (criterion.arm, criterion.odm):
        assert (step.iou_threshold, step.negative_iou_threshold, step.negatives_per_positive) == (0.5, 0.5, 3)


@pytest.mark.parametrize("name", ["maskrcnn_vovnet39_gn", "fasterrcnn_timm/resnet18"])
def test_mask_rcnn(name):
    assert isinstance(criterion_of(name, use_difficult=False), MaskRCNNLoss)


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
    losses = criterion_of(name)(
        model(torch.randn(2, 3, size, size)), [Target.make([[0, 0, 40, 40]], [1]), Target.make()]
    )
    assert list(losses) == names
    assert all(loss.ndim == 0 and loss.isfinite() and loss > 0 for loss in losses.values())


@pytest.mark.parametrize("name", DETECTORS)
def test_rows_agree_with_their_networks(name):
    spec = find_detector(name)
    with torch.device("meta"):
        model = create_model(name, 2)
    assert spec.masks == model.masks == name.startswith("maskrcnn_")
    names = [parameter for parameter, _ in model.named_parameters()]
    assert all(any(parameter.startswith(part) for parameter in names) for part in spec.never_decayed)
    assert bool(spec.fast_biases(model)) == bool(spec.backbones)


def test_names_on_a_backbone():
    assert find_detector("dsod300_vovnet27_slim").backbone is None
    for name, backbone, group_norm in [
        ("refinedet320_vovnet39", "vovnet39", False),
        ("fasterrcnn_vovnet39", "vovnet39", False),
        ("maskrcnn_vovnet39_gn", "vovnet39", True),
        ("maskrcnn_timm/resnet50_gn", "timm/resnet50_gn", False),  # timm's own name
    ]:
        spec = find_detector(name)
        assert (spec.backbone, spec.group_norm) == (backbone, group_norm)


@pytest.mark.parametrize(
    ("name", "option", "near"),
    [
        ("refinedet320_vovnet39", "image_size", "there are: anchors, backbone, pixels, width"),
        ("dsod300_vovnet27_slim", "bottleneck", "there are: anchors, norm, pool, init"),
        ("maskrcnn_vovnet39", "group_norm", "there are: backbone, pixels, image_size, rois, anchors"),
        ("ssd300_mobilenet", "default_boxes", "there are: anchors, init"),
    ],
)
def test_what_a_name_decides_is_no_option(name, option, near):
    with pytest.raises(ValueError, match=f"no option of {name} is called '{option}' .{near}"):
        create_model(name, 2, **{option: None})


@pytest.mark.parametrize("name", ["refinedet320", "refinedet320_", "ssd300_vovnet39", "refinedet320_vovnet39_gn"])
def test_what_is_no_detector(name):
    with pytest.raises(ValueError, match=f"no detector is called '{name}'"):
        find_detector(name)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("pelee304", "default_boxes"),
        ("refinedet320_vovnet39", "default_boxes"),
        ("refinedet320_vovnet39", "make_backbone"),
        ("dsod300_vovnet27_slim", "bottleneck"),
        ("fasterrcnn_resnet50_gn", "masks"),
    ],
)
def test_what_a_row_fixes_is_no_option(name: str, option: str) -> None:
    with pytest.raises(UsageError, match=f"no option of {name} is called '{option}'"):
        create_model(name, 3, **{option: None})


def test_the_listed_names_are_those_of_the_tables():
    """`vovnet list` reads the names without importing the networks."""
    assert sorted(BACKBONE_NAMES) == sorted(BACKBONES)
    assert (
        tuple(
            f"{name}_{backbone}{suffix}" if backbone else name
            for name, spec in SPECS.items()
            for backbone in spec.backbones or ("",)
            for suffix in (("_gn", "") if spec.gn_suffix else ("",))
        )
        == DETECTORS
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("maskrcnn_vovnet39_gn", {"image_size": [20000, 20000]}, "20000 × 20000 has more than 16,777,216 pixels"),
        ("fasterrcnn_resnet50", {"image_size": [1, 2**30]}, "--limit network_pixels=N"),
        ("maskrcnn_vovnet39", {"image_size": [2**62, 2**62]}, "two whole numbers"),
        ("maskrcnn_vovnet39", {"image_size": 800}, "image_size must be two whole numbers of at least 1, got 800"),
        ("maskrcnn_vovnet39", {"image_size": [800, "x"]}, "two whole numbers"),
        ("maskrcnn_vovnet39", {"image_size": {"a": 1, "b": 2}}, "two whole numbers"),
        ("maskrcnn_vovnet39", {"image_size": [0, 10]}, "two whole numbers"),
        ("maskrcnn_vovnet39", {"image_size": [True, 10.0]}, "two whole numbers"),
        ("maskrcnn_vovnet39", {"rois": 10**12}, "rois must be a whole number from 1 to 65,536, got 1000000000000"),
        ("maskrcnn_vovnet39", {"rois": -1}, "rois must be a whole number"),
        ("maskrcnn_vovnet39", {"anchors": ["x"]}, "no set of anchors is called"),
        ("maskrcnn_vovnet39", {"backbone": 5}, "backbone must be a section"),
        ("maskrcnn_vovnet39", {"backbone": {1: 5}}, "backbone must be a section"),
        ("refinedet320_vovnet39", {"backbone": {"identity": "no"}}, "identity must be true or false, got 'no'"),
        ("refinedet320_vovnet39", {"backbone": {"norm": {}}}, "norm must be"),
        ("refinedet320_vovnet39", {"width": 2.5}, "width must be a whole number"),
        ("dsod300_vovnet27_slim", {"anchors": {}}, "no set of anchors is called {}"),
        ("dsod300_vovnet27_slim", {"pixels": {1: 2}}, "pixels must be a section"),
        ("dsod300_vovnet27_slim", {"pixels": {"mean": [10**400, 0, 0]}}, "mean must be three numbers"),
        ("dsod300_vovnet27_slim", {"a" * 10**6: 2}, "no option of dsod300_vovnet27_slim is called"),
        ("dsod300_vovnet27_slim", {"init": "a" * 10**6}, "init must be"),
        ("x" * 10**6, {}, "no detector is called"),
    ],
)
def test_options_of_a_stranger_end_in_one_short_sentence(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        create_model(name, 3, **options)
    assert len(str(error.value)) <= 500
    assert "\n" not in str(error.value)


def test_the_limit_of_the_network_input_can_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOVNET_LIMITS", "network_pixels=500000000")
    assert create_model("maskrcnn_vovnet27_slim", 1, image_size=[20000, 20000]).preprocessing.image_size[0] == 20000
