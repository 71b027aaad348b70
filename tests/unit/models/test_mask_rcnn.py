"""Mask R-CNN: equal to torchvision's with the same weights; shapes and contents of its outputs."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator

from vovnet import create_model
from vovnet.losses.mask_rcnn import MaskRCNNLoss
from vovnet.masks import decode
from vovnet.models.anchors import detectron_anchors
from vovnet.models.detectors.mask_rcnn import ANCHOR_RATIOS, ANCHOR_SIZES, LEVELS, MaskRCNN
from vovnet.models.preprocessing import Preprocessing
from vovnet.structures import Target

from ...small_two_stage import SmallBackbone

FEW = 40  # proposals, instead of a thousand: the second stage takes seconds for those


def make_toy(*, masks: bool = True, size: tuple[int, int] = (128, 192), rois: int = 32) -> MaskRCNN:
    torch.manual_seed(0)
    pixels = Preprocessing(size, mean=(100.0, 110.0, 120.0), std=(50.0, 50.0, 50.0), keep_ratio=True)
    model = MaskRCNN(SmallBackbone(), SmallBackbone.channels, 3, pixels, masks=masks, rois=rois)
    model.rpn._post_nms_top_n = {"training": 400, "testing": FEW}
    for parameter in model.roi_heads.box_predictor.parameters():  # so that scores and boxes differ
        nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture
def toy() -> MaskRCNN:
    return make_toy()


class Pyramid(nn.Module):
    """Backbone and pyramid in the form that torchvision's detectors take."""

    out_channels = 256

    def __init__(self, model: MaskRCNN) -> None:
        super().__init__()
        self.backbone, self.fpn = model.backbone, model.fpn

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        return self.fpn(OrderedDict(zip(LEVELS, self.backbone(x), strict=True)))


def test_equals_torchvisions_on_the_same_weights(toy: MaskRCNN) -> None:
    heads = toy.roi_heads
    theirs = TorchvisionMaskRCNN(
        Pyramid(toy),
        min_size=128,
        max_size=192,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        rpn_anchor_generator=AnchorGenerator(tuple((s,) for s in ANCHOR_SIZES), (ANCHOR_RATIOS,) * 5),
        rpn_head=toy.rpn.head,
        box_roi_pool=heads.box_roi_pool,
        box_head=heads.box_head,
        box_predictor=heads.box_predictor,
        mask_roi_pool=heads.mask_roi_pool,
        mask_head=heads.mask_head,
        mask_predictor=heads.mask_predictor,
        rpn_post_nms_top_n_test=FEW,
    ).eval()
    images = torch.randn(2, 3, 128, 192)
    sizes = [(128, 192), (256, 384)]  # the second image was twice as large
    toy.eval()
    with torch.no_grad():
        detections = toy.decode(toy(images), sizes)
        expected = theirs(list(images))
    for ours, theirs, scale in zip(detections, expected, (1, 2), strict=True):
        assert len(ours) > 20
        torch.testing.assert_close(ours.boxes, theirs["boxes"] * scale, rtol=0, atol=1e-3)
        torch.testing.assert_close(ours.scores, theirs["scores"])
        assert torch.equal(ours.labels + 1, theirs["labels"])
    assert detections[0].masks is not None
    bitmaps = (expected[0]["masks"][:, 0] >= 0.5).to(torch.uint8)
    agree = (decode(detections[0].masks) == bitmaps).float().mean()
    assert agree > 0.9999


def test_images_of_a_batch_do_not_affect_each_other(toy: MaskRCNN) -> None:
    images = torch.randn(2, 3, 100, 150)
    toy.eval()
    with torch.no_grad():
        both = toy.decode(toy(images), [(200, 300), (100, 150)])
        alone = [toy.decode(toy(images[i : i + 1]), [size])[0] for i, size in enumerate([(200, 300), (100, 150)])]
    for in_batch, single in zip(both, alone, strict=True):
        assert len(in_batch) == len(single) > 0
        torch.testing.assert_close(in_batch.boxes, single.boxes, rtol=1e-4, atol=1e-2)
        assert in_batch.masks is not None
        assert single.masks is not None
        assert in_batch.masks.size == in_batch.image_size
        assert torch.equal(in_batch.labels, single.labels)


def test_the_size_that_the_network_saw(toy: MaskRCNN) -> None:
    """`input_size` is for callers that resize images to another size than the preprocessing does."""
    toy.eval()
    with torch.no_grad():
        outputs = toy(torch.randn(1, 3, 100, 150))
        (own,) = toy.decode(outputs, [(200, 300)], input_size=toy.preprocessing.input_size((200, 300)))
        (default,) = toy.decode(outputs, [(200, 300)])
        assert torch.equal(own.boxes, default.boxes)
        seen = toy.decode(outputs, [(100, 150)], input_size=(100, 150))[0]
        enlarged = toy.decode(outputs, [(200, 300)], input_size=(100, 150))[0]
    assert len(seen) > 0
    torch.testing.assert_close(enlarged.boxes, 2 * seen.boxes)


@pytest.mark.parametrize("size", [(20, 3000), (3000, 20), (1, 1), (64, 64)])
def test_images_of_any_shape(toy: MaskRCNN, size: tuple[int, int]) -> None:
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    batch = toy.preprocessing([image])
    assert batch.shape[-2:] == toy.preprocessing.input_size(size)
    toy.eval()
    with torch.no_grad():
        (detections,) = toy.decode(toy(batch), [size])
    height, width = size
    assert (detections.boxes >= 0).all()
    assert (detections.boxes[:, 2] <= width).all()
    assert (detections.boxes[:, 3] <= height).all()
    assert detections.masks is not None
    assert detections.masks.size == size


def test_no_detections(toy: MaskRCNN) -> None:
    toy.eval()
    with torch.no_grad():
        (detections,) = toy.decode(toy(torch.randn(1, 3, 64, 64)), [(64, 64)], score_threshold=1.0)
    assert len(detections) == 0
    assert detections.masks is not None
    assert len(detections.masks) == 0


def test_the_caller_sets_threshold_and_number(toy: MaskRCNN) -> None:
    toy.eval()
    with torch.no_grad():
        outputs = toy(torch.randn(1, 3, 128, 192))
        every, few = (toy.decode(outputs, [(128, 192)], score_threshold=0.0, top_k=k)[0] for k in (10**6, 7))
        high = toy.decode(outputs, [(128, 192)], score_threshold=float(every.scores.median()), top_k=10**6)[0]
    assert len(every) > 20
    assert torch.equal(few.boxes, every.boxes[:7])
    assert 0 < len(high) < len(every)
    assert torch.equal(high.boxes, every.boxes[: len(high)])


def padded(image: Tensor, size: tuple[int, int], filling: float) -> Tensor:
    result = torch.full((1, 3, *size), filling)
    result[:, :, : image.shape[1], : image.shape[2]] = image
    return result


def test_the_padding_of_a_training_image_has_no_effect(toy: MaskRCNN) -> None:
    """Its values do not matter, and proposals end at the border of the image."""
    image = torch.randn(3, 90, 120)
    target = replace(Target.make([[10, 10, 60, 70]], [1]), image_size=(90, 120))
    toy.train()
    outputs = []
    for filling in (0.0, 50.0):
        torch.manual_seed(1)
        with torch.no_grad():
            outputs.append(toy(padded(image, (128, 160), filling), [target]))
    for name in ("class_logits", "proposals", "objectness_logits"):
        assert torch.equal(outputs[0][name], outputs[1][name]), name
    assert outputs[0]["proposals"][:, 2].max() <= 120
    assert outputs[0]["proposals"][:, 3].max() <= 90


def test_the_sample_holds_objects_and_no_crowds(toy: MaskRCNN) -> None:
    boxes = [[0, 0, 100, 100], [20, 30, 60, 90], [70, 10, 120, 60]]
    target = Target.make(boxes, [0, 1, 2], crowd=[True, False, False])
    toy.train()
    outputs = toy(torch.randn(1, 3, 128, 128), [target])
    labels, objects = outputs["proposal_labels"], outputs["proposal_objects"]
    assert len(labels) == 32
    positive = labels > 0
    assert 0 < positive.sum() <= 8
    # The crowd comes first, so the indices of the other objects are lower by 1: labels 2 and 3 are objects 0 and 1.
    assert torch.equal(labels[positive] - 2, objects[positive])
    assert len(outputs["mask_logits"]) == positive.sum()
    assert outputs["mask_logits"].shape[1:] == (4, 28, 28)


def test_without_masks_it_is_faster_rcnn() -> None:
    toy = make_toy(masks=False)
    assert not any("mask" in name for name, _ in toy.named_parameters())
    outputs = toy.train()(torch.randn(1, 3, 64, 64), [Target.make([[5, 5, 40, 40]], [0])])
    assert "mask_logits" not in outputs
    (detections,) = toy.eval().decode(toy(torch.randn(1, 3, 64, 64)), [(64, 64)])
    assert detections.masks is None


def test_anchors_are_spaced_by_the_strides_of_the_pyramid(toy: MaskRCNN) -> None:
    """Also if the size of P6 is rounded: 96 pixels are 1.5 cells of stride 64."""
    anchors = toy.eval()(torch.randn(1, 3, 96, 160))["anchors"]
    counts = [3 * h * w for h, w in ((24, 40), (12, 20), (6, 10), (3, 5), (2, 3))]
    assert len(anchors) == sum(counts)
    last = anchors[-9:]  # the lower row of P6: cells at y = 64, x = 0, 64, 128
    centres = (last[:, :2] + last[:, 2:]) / 2
    assert centres.tolist() == [[x, 64.0] for x in (0.0, 64.0, 128.0) for _ in range(3)]
    areas = (last[:, 2:] - last[:, :2]).prod(dim=1).sqrt()
    torch.testing.assert_close(areas, torch.full((9,), 512.0), rtol=0.01, atol=0)


def test_anchors_of_a_cell_follow_torchvision_or_detectron() -> None:
    theirs = AnchorGenerator(tuple((size,) for size in ANCHOR_SIZES), (ANCHOR_RATIOS,) * 5).cell_anchors
    detectrons = [detectron_anchors(size, size // 8, ANCHOR_RATIOS) for size in ANCHOR_SIZES]
    for options, expected in (({}, theirs), ({"anchors": "detectron"}, detectrons)):
        cells = create_model("maskrcnn_vovnet27_slim_gn", 2, **options).rpn.anchor_generator.cell_anchors
        assert all(torch.equal(cell, other) for cell, other in zip(cells, expected, strict=True))
    with pytest.raises(ValueError, match="no set of anchors is called 'detectrons', did you mean 'detectron'"):
        create_model("maskrcnn_vovnet27_slim_gn", 2, anchors="detectrons")


def test_nothing_is_frozen_from_scratch() -> None:
    model = create_model("maskrcnn_vovnet27_slim_gn", 2)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("box", [[1001, 20, 1002, 60], [258.2, 20, 258.9, 60]])
def test_half_precision_does_not_round_boxes(box: list[float]) -> None:
    """bfloat16 has only every fourth integer above 512, so an object one pixel wide would have no width."""
    target = replace(Target.make([box], [1], masks=torch.ones(1, 128, 1280, dtype=torch.uint8)), image_size=(128, 1280))
    image = torch.randn(1, 3, 128, 1280)
    losses = []
    for enabled in (False, True):
        toy = make_toy().train()
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            outputs = toy(image, [target])
            losses.append(MaskRCNNLoss()(outputs, [target]))
        for name in ("anchors", "proposals", "anchor_deltas"):
            assert outputs[name].dtype == torch.float32, name
    assert all(value.isfinite() for value in losses[1].values())
    assert losses[1]["anchor_loss"].item() == pytest.approx(losses[0]["anchor_loss"].item(), rel=0.05)


def test_an_image_without_a_single_proposal(toy: MaskRCNN) -> None:
    nn.init.zeros_(toy.rpn.head.bbox_pred.weight)
    nn.init.constant_(toy.rpn.head.bbox_pred.bias, 1e4)  # moves every box far out of the image
    with torch.no_grad():
        (detections,) = toy.eval().decode(toy(torch.randn(1, 3, 64, 64)), [(64, 64)])
    assert len(detections) == 0
    outputs = toy.train()(torch.randn(1, 3, 64, 64), [Target.make()])
    assert len(outputs["proposals"]) == 0


def test_training_settings() -> None:
    """As published: 2,000 proposals per level and image, 512 for the second stage, a quarter of them positive."""
    model = create_model("maskrcnn_vovnet27_slim_gn", 2)
    rpn, heads = model.rpn, model.roi_heads
    assert (rpn._pre_nms_top_n, rpn._post_nms_top_n) == (
        {"training": 2000, "testing": 1000},
        {"training": 2000, "testing": 1000},
    )
    assert (rpn.nms_thresh, heads.score_thresh, heads.nms_thresh, heads.detections_per_img) == (0.7, 0.05, 0.5, 100)
    sampler = heads.fg_bg_sampler
    assert (sampler.batch_size_per_image, sampler.positive_fraction) == (512, 0.25)
    matcher = heads.proposal_matcher
    assert (matcher.high_threshold, matcher.low_threshold, matcher.allow_low_quality_matches) == (0.5, 0.5, False)


def test_initial_weights() -> None:
    torch.manual_seed(0)
    model = create_model("maskrcnn_vovnet27_slim_gn", 80)
    heads = model.roi_heads
    for layer, std in (
        (model.rpn.head.cls_logits, 0.01),
        (model.rpn.head.bbox_pred, 0.01),
        (heads.box_predictor.cls_score, 0.01),
        (heads.box_predictor.bbox_pred, 0.001),
        (heads.box_head[0][0], (2 / (9 * 256)) ** 0.5),
        (model.backbone.stem[1].conv, (2 / (9 * 64)) ** 0.5),
    ):
        assert layer.weight.std().item() == pytest.approx(std, rel=0.05), layer
        if layer.bias is not None:
            assert not layer.bias.any()
    fully_connected = heads.box_head[5]
    assert fully_connected.weight.abs().max().item() == pytest.approx(
        (3 / fully_connected.in_features) ** 0.5, rel=0.01
    )
