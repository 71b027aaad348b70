"""Names of other sources' checkpoints, against names written out by hand."""

from __future__ import annotations

import pytest

from vovnet.weights.names import Scheme, head_name_in_file, holds_detector, recognise

# Our name, and that of VoVNet.pytorch (vovnet-detectron2 where v1 has no such part), timm and Caffe; "" for none.
NAMES = [
    ("stem.0.conv.weight", "stem.stem_1/conv.weight", "stem.0.conv.weight", "stem1/conv.0"),
    ("stem.2.norm.bias", "stem.stem_3/norm.bias", "stem.2.bn.bias", "stem3/scale.1"),
    ("stem.1.depthwise.weight", "stem.stem_2/dw_conv3x3.weight", "stem.1.conv_dw.weight", ""),
    ("stem.2.pointwise.conv.weight", "stem.stem_3/pw_conv1x1.weight", "stem.2.conv_pw.weight", ""),
    ("stem.2.pointwise.norm.running_var", "stem.stem_3/pw_norm.running_var", "stem.2.bn.running_var", ""),
    (
        "stages.0.0.layers.0.conv.weight",
        "stage2.OSA2_1.layers.0.OSA2_1_0/conv.weight",
        "stages.0.blocks.0.conv_mid.0.conv.weight",
        "DiverseBlock2a/conv.0",
    ),
    (
        "stages.2.1.layers.4.norm.running_mean",
        "stage4.OSA4_2.layers.4.OSA4_2_4/norm.running_mean",
        "stages.2.blocks.1.conv_mid.4.bn.running_mean",
        "DiverseBlock4j/bn.0",
    ),
    (
        "stages.3.0.layers.1.depthwise.weight",
        "stage5.OSA5_1.layers.1.OSA5_1_1/dw_conv3x3.weight",
        "stages.3.blocks.0.conv_mid.1.conv_dw.weight",
        "",
    ),
    (
        "stages.3.0.layers.1.pointwise.norm.weight",
        "stage5.OSA5_1.layers.1.OSA5_1_1/pw_norm.weight",
        "stages.3.blocks.0.conv_mid.1.bn.weight",
        "",
    ),
    (
        "stages.1.0.concat.norm.running_var",
        "stage3.OSA3_1.concat.OSA3_1_concat/norm.running_var",
        "stages.1.blocks.0.conv_concat.bn.running_var",
        "Transition3/bn.1",
    ),
    (
        "stages.2.0.concat.conv.weight",
        "stage4.OSA4_1.concat.OSA4_1_concat/conv.weight",
        "stages.2.blocks.0.conv_concat.conv.weight",
        "Transition4A/conv.0",
    ),
    (
        "stages.3.1.concat.norm.weight",
        "stage5.OSA5_2.concat.OSA5_2_concat/norm.weight",
        "stages.3.blocks.1.conv_concat.bn.weight",
        "Transition5B/scale.0",
    ),
    (
        "stages.3.1.concat.norm.num_batches_tracked",
        "stage5.OSA5_2.concat.OSA5_2_concat/norm.num_batches_tracked",
        "stages.3.blocks.1.conv_concat.bn.num_batches_tracked",
        "Transition5B/bn.2",
    ),
    ("stages.2.1.ese.fc.weight", "stage4.OSA4_2.ese.fc.weight", "stages.2.blocks.1.attn.fc.weight", ""),
    (
        "stages.1.0.reduction.conv.weight",
        "stage3.OSA3_1.conv_reduction.OSA3_1_reduction_0/conv.weight",
        "stages.1.blocks.0.conv_reduction.conv.weight",
        "",
    ),
    (
        "stages.1.0.reduction.norm.bias",
        "stage3.OSA3_1.conv_reduction.OSA3_1_reduction_0/norm.bias",
        "stages.1.blocks.0.conv_reduction.bn.bias",
        "",
    ),
    ("head.weight", "classifier.weight", "head.fc.weight", "fc1000.0"),
    ("head.bias", "classifier.bias", "head.fc.bias", "fc1000.1"),
]
OSA_WEIGHT = "stage2.OSA2_1.layers.0.OSA2_1_0/conv.weight"
OSA_MEAN = "stage2.OSA2_1.layers.0.OSA2_1_0/norm.running_mean"
OSA_COUNTER = "stage2.OSA2_1.layers.0.OSA2_1_0/norm.num_batches_tracked"
OSA_ESE = "stage2.OSA2_1.ese.fc.weight"
TIMM_WEIGHT = "stages.0.blocks.0.conv_mid.0.conv.weight"


def scheme_of(*names: str) -> Scheme:
    scheme = recognise(names)
    assert scheme is not None
    return scheme


@pytest.mark.parametrize(("ours", "osa", "timm", "caffe"), NAMES)
def test_every_kind_of_name(ours: str, osa: str, timm: str, caffe: str) -> None:
    assert scheme_of(OSA_WEIGHT).name_in_file(ours) == osa
    assert scheme_of(TIMM_WEIGHT).name_in_file(ours) == timm
    if caffe:
        assert scheme_of("DiverseBlock2a/conv.0").name_in_file(ours) == caffe


@pytest.mark.parametrize(
    ("names", "title", "prefix", "flags"),
    [
        ([OSA_WEIGHT, OSA_COUNTER], "VoVNet.pytorch", "", ("stride", True, "none", "batch")),
        ([OSA_WEIGHT, OSA_MEAN, "classifier.bias"], "VoVNet.pytorch", "", ("stride", True, "none", "batch")),
        (
            [f"module.{OSA_WEIGHT}", f"module.{OSA_COUNTER}"],
            "VoVNet.pytorch",
            "module.",
            ("stride", True, "none", "batch"),
        ),
        ([OSA_WEIGHT, OSA_MEAN], "VoVNet-Detectron", "", ("stride", True, "none", "batch")),
        (
            ["rpn.head.conv.weight", f"module.backbone.body.{OSA_WEIGHT}", f"module.backbone.body.{OSA_MEAN}"],
            "VoVNet-Detectron",
            "module.backbone.body.",
            ("stride", True, "none", "batch"),
        ),
        ([f"backbone.body.{OSA_WEIGHT}"], "VoVNet-Detectron", "backbone.body.", ("stride", True, "none", "group")),
        ([OSA_WEIGHT, OSA_MEAN, OSA_ESE], "vovnet-detectron2", "", ("stride", True, "all", "batch")),
        (
            [f"backbone.bottom_up.{OSA_WEIGHT}", f"backbone.bottom_up.{OSA_ESE}"],
            "vovnet-detectron2",
            "backbone.bottom_up.",
            ("stride", True, "all", "batch"),
        ),
        ([TIMM_WEIGHT], "timm", "", ("stride", False, "none", "batch")),
        ([TIMM_WEIGHT, "stages.0.blocks.0.attn.fc.bias"], "timm", "", ("stride", True, "last", "batch")),
        (["data", "stem1/conv.0"], "Caffe", "", ("pool", False, "none", "batch")),
    ],
)
def test_what_the_names_say(names: list[str], title: str, prefix: str, flags: tuple[object, ...]) -> None:
    scheme = scheme_of(*names)
    assert (scheme.title, scheme.prefix) == (title, prefix)
    assert tuple(scheme.options[option] for option in ("stem", "identity", "ese", "norm")) == flags
    assert scheme.name_in_file("stem.0.conv.weight").startswith(prefix)


def test_pixels_of_each_source() -> None:
    def pixels(*names: str) -> tuple[object, ...]:
        return tuple(scheme_of(*names).pixels.values())

    imagenet = pytest.approx((0.485 * 255, 0.456 * 255, 0.406 * 255)), pytest.approx((0.229 * 255, 0.224 * 255, 57.375))
    assert pixels(OSA_WEIGHT, OSA_COUNTER) == pixels(TIMM_WEIGHT) == (*imagenet, "RGB")
    assert pixels(OSA_WEIGHT, OSA_MEAN) == ((102.9801, 115.9465, 122.7717), (1, 1, 1), "BGR")
    assert pixels(OSA_WEIGHT, OSA_ESE) == ((103.53, 116.28, 123.675), (1, 1, 1), "BGR")
    assert pixels("stem1/conv.0") == ((104, 117, 123), (1, 1, 1), "BGR")


def test_other_names_are_not_recognised() -> None:
    assert recognise(["conv1.weight", "layer1.0.conv1.weight", "stem.0.conv.weight"]) is None
    assert recognise([]) is None


# Our name of a part behind the backbone, and maskrcnn-benchmark's.
HEADS = [
    ("fpn.inner_blocks.0.0.weight", "backbone.fpn.fpn_inner1.0.weight"),
    ("fpn.layer_blocks.3.1.bias", "backbone.fpn.fpn_layer4.1.bias"),
    ("rpn.head.conv.0.0.bias", "rpn.head.conv.bias"),
    ("rpn.head.cls_logits.weight", "rpn.head.cls_logits.weight"),
    ("rpn.head.bbox_pred.bias", "rpn.head.bbox_pred.bias"),
    ("roi_heads.box_head.0.0.weight", "roi_heads.box.feature_extractor.xconvs.0.weight"),
    ("roi_heads.box_head.1.1.weight", "roi_heads.box.feature_extractor.xconvs.4.weight"),
    ("roi_heads.box_head.3.1.bias", "roi_heads.box.feature_extractor.xconvs.10.bias"),
    ("roi_heads.box_head.5.weight", "roi_heads.box.feature_extractor.fc6.weight"),
    ("roi_heads.box_predictor.cls_score.bias", "roi_heads.box.predictor.cls_score.bias"),
    ("roi_heads.box_predictor.bbox_pred.weight", "roi_heads.box.predictor.bbox_pred.weight"),
    ("roi_heads.mask_head.0.0.weight", "roi_heads.mask.feature_extractor.mask_fcn1.0.weight"),
    ("roi_heads.mask_head.3.1.bias", "roi_heads.mask.feature_extractor.mask_fcn4.1.bias"),
    ("roi_heads.mask_predictor.conv5_mask.weight", "roi_heads.mask.predictor.conv5_mask.weight"),
    ("roi_heads.mask_predictor.mask_fcn_logits.bias", "roi_heads.mask.predictor.mask_fcn_logits.bias"),
]
WITHOUT_NORM = [
    ("fpn.inner_blocks.0.0.weight", "backbone.fpn.fpn_inner1.weight"),
    ("fpn.layer_blocks.3.0.bias", "backbone.fpn.fpn_layer4.bias"),
    ("rpn.head.conv.0.0.weight", "rpn.head.conv.weight"),
    ("roi_heads.box_head.fc6.weight", "roi_heads.box.feature_extractor.fc6.weight"),
    ("roi_heads.box_head.fc7.bias", "roi_heads.box.feature_extractor.fc7.bias"),
    ("roi_heads.mask_head.2.0.bias", "roi_heads.mask.feature_extractor.mask_fcn3.bias"),
]


def test_names_of_a_detectors_heads() -> None:
    assert [head_name_in_file(ours, group_norm=True) for ours, _ in HEADS] == [theirs for _, theirs in HEADS]
    found = [head_name_in_file(ours, group_norm=False) for ours, _ in WITHOUT_NORM]
    assert found == [theirs for _, theirs in WITHOUT_NORM]


def test_what_is_a_whole_detector() -> None:
    body, heads = f"backbone.body.{OSA_WEIGHT}", "roi_heads.box.predictor.cls_score.bias"
    assert holds_detector([body, heads])
    assert holds_detector([f"module.{body}", f"module.{heads}"])
    assert not holds_detector([body, "rpn.head.cls_tower.0.weight"])  # a one-stage detector on the same backbone
    assert not holds_detector([heads])
    assert not holds_detector([f"backbone.bottom_up.{OSA_WEIGHT}", "roi_heads.box.head.fc1.weight"])
