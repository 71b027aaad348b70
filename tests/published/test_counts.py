"""Parameters and multiply-adds: exact, and equal to the digits that the paper prints."""

import pytest
import torch

from vovnet import create_backbone, create_model
from vovnet.profiling.cost import count_multiply_adds, count_parameters

# name: (backbone parameters, with a 1000-way classifier, multiply-adds at 224 with it: stride stem, pool stem)
BACKBONES = {
    "vovnet27_slim": (3_012_736, 3_525_736, 2_176_695_296, 2_870_328_320),
    "vovnet39": (21_575_296, 22_600_296, 7_072_227_328, 7_765_860_352),
    "vovnet57": (35_615_296, 36_640_296, 8_930_144_256, 9_623_777_280),
    "vovnet75": (45_918_080, 46_943_080, 12_318_027_776, 13_011_660_800),
    "vovnet93": (56_220_864, 57_245_864, 15_705_911_296, 16_399_544_320),
}
# Table 1, by part: stem, then stages 2 to 5.
PARTS = {
    "vovnet27_slim": (112_832, 279_424, 459_040, 837_312, 1_324_128),
    "vovnet39": (112_832, 935_680, 1_833_536, 7_330_560, 11_362_688),
    "vovnet57": (112_832, 935_680, 1_833_536, 15_300_096, 17_433_152),
}
# Tables 2 and 3, 21 classes at 300²: parameters, multiply-adds, and both as printed, truncated.
DETECTORS = {
    "dsod300_vovnet27_slim": (5_971_932, 5_663_451_392, "5.9", "5.6"),
    "dsod300_vovnet27_slim_bottleneck": (4_871_612, 4_643_578_368, "4.8", "4.6"),
    "dsod300_densenet67": (5_833_372, 5_297_838_848, None, "5.2"),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_counts(name):
    features, classifier, *multiply_adds = BACKBONES[name]
    assert count_parameters(create_backbone(name, features_only=True)) == features
    for stem, expected in zip(("stride", "pool"), multiply_adds, strict=True):
        model = create_backbone(name, stem=stem)
        assert count_parameters(model) == classifier
        assert count_multiply_adds(model, (224, 224)) == expected


@pytest.mark.parametrize("name", PARTS)
def test_counts_of_each_stage(name):
    model = create_backbone(name, features_only=True)
    assert tuple(count_parameters(part) for part in (model.stem, *model.stages)) == PARTS[name]


@pytest.mark.parametrize(
    ("name", "size", "giga"),
    [
        ("vovnet27_slim", 300, 5.098),
        ("vovnet39", 320, 15.847),
        ("vovnet39", 512, 40.567),
        ("vovnet57", 320, 19.638),
        ("vovnet57", 512, 50.274),
    ],
)
def test_backbone_multiply_adds_at_detection_sizes(name, size, giga):
    count = count_multiply_adds(create_backbone(name, features_only=True), (size, size))
    # The stage sums behind these values round feature map sizes in another way, so they agree to three decimals.
    assert count / 1e9 == pytest.approx(giga, abs=5e-4)


@pytest.mark.parametrize("name", DETECTORS)
def test_detector_counts(name):
    parameters, multiply_adds, printed_parameters, printed_giga = DETECTORS[name]
    model = create_model(name, num_classes=20)
    assert count_parameters(model) == parameters
    assert count_multiply_adds(model, (300, 300)) == multiply_adds
    assert f"{multiply_adds / 1e9:.3f}".startswith(printed_giga)
    if printed_parameters:
        assert f"{parameters / 1e6:.3f}".startswith(printed_parameters)


def test_densenet67_rounds_to_the_papers_values():
    parameters, multiply_adds, *_ = DETECTORS["dsod300_densenet67"]
    assert round(multiply_adds / 1e9, 1) == 5.3
    assert parameters * 4 + 38_908 * 4 == 23_489_120  # + running statistics: the 23.5 MB of the released file


def test_batch_norm_buffers():
    for name, expected in {"vovnet27_slim": 6_592, "vovnet39": 20_416, "vovnet57": 31_616}.items():
        model = create_backbone(name, features_only=True)
        assert sum(b.numel() for b in model.buffers() if b.is_floating_point()) == expected
    densenet = create_model("dsod300_densenet67", num_classes=20)
    assert sum(b.numel() for b in densenet.buffers() if b.is_floating_point()) == 38_908


def test_parts_of_dsod300():
    model = create_model("dsod300_vovnet27_slim", num_classes=20)
    assert [count_parameters(e) for e in model.extras] == [280_832, 214_272, 214_272]
    assert [count_parameters(h.box) for h in model.heads] == [36_896, 82_992, 110_640, 55_344, 36_896, 36_896]
    assert [count_parameters(h.cls) for h in model.heads] == [193_704, 435_708, 580_860, 290_556, 193_704, 193_704]
    assert sum(count_parameters(h.l2norm) for h in model.heads) == 1_920


@pytest.mark.parametrize(
    ("size", "maps"), [(224, (56, 28, 14, 7)), (300, (75, 37, 18, 9)), (304, (76, 38, 19, 9)), (320, (80, 40, 20, 10))]
)
@pytest.mark.parametrize("stem", ["pool", "stride"])
def test_map_sizes_channels_and_strides(size, maps, stem):
    model = create_backbone("vovnet27_slim", features_only=True, stem=stem).to("meta")
    features = model(torch.empty(1, 3, size, size, device="meta"))
    assert tuple(f.shape[-1] for f in features) == maps
    assert tuple(f.shape[1] for f in features) == model.channels
    assert all(round(size / f.shape[-1] / s) == 1 for f, s in zip(features, model.strides, strict=True))


def test_number_of_default_boxes():
    def count(name, **options):
        model = create_model(name, 20, **options).to("meta")
        return model(torch.empty(1, 3, 300, 300, device="meta"))["class_logits"].shape

    assert count("dsod300_vovnet27_slim") == (1, 8108, 21)
    assert count("dsod300_vovnet27_slim", pool="k2") == (1, 8744, 21)
    assert count("dsod300_densenet67") == (1, 8744, 21)
