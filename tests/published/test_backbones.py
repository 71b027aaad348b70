"""The other backbones and detectors of Tables 2 and 4: exact counts, sources, map sizes, default boxes."""

import math

import pytest
import torch

from vovnet import create_backbone, create_model
from vovnet.profiling.cost import count_cost, count_multiply_adds, count_parameters

# Table 4, RefineDet320 with 81 classes: parameters, multiply-adds, batch-norm outputs; as printed: FLOPs in giga, which
# are the sum of the last two, and parameters in millions.
TABLE_4 = {
    "vovnet39": (56_283_844, 32_626_201_600, 29_280_000, "32.6", "56.28"),  # the only FLOPs value that is truncated
    "vovnet57": (70_323_844, 36_417_868_800, 30_876_800, "36.45", "70.32"),
    "resnet50": (63_459_460, 25_399_219_200, 34_688_000, "25.43", "63.46"),
    "resnet101": (82_451_588, 32_975_180_800, 45_132_800, "33.02", "82.45"),
    "densenet201": (56_127_428, 24_584_524_800, 63_500_800, "24.65", "56.13"),
    "densenet161": (66_755_204, 32_668_492_800, 73_110_400, "32.74", "66.76"),
}
# Channels of the maps of strides 8, 16, 32 that RefineDet takes.
SOURCES = {
    "vovnet39": (512, 768, 1024),
    "vovnet57": (512, 768, 1024),
    "resnet50": (512, 1024, 2048),
    "resnet101": (512, 1024, 2048),
    "densenet201": (256, 896, 1920),
    "densenet161": (384, 1056, 2208),
    "vgg16": (512, 512, 1024),
}
# Table 2, 21 classes: input, parameters, multiply-adds; both as printed, truncated; default boxes.
TABLE_2 = {
    "ssd300_mobilenet": (300, 5_796_089, 1_148_479_168, "5.7", "1.1", 1917),
    "pelee304": (304, 5_425_892, 1_204_968_960, "5.4", "1.2", 5142),
}


def refinedet_without_backbone(sources, num_logits):
    """(parameters, multiply-adds, batch-norm outputs) at 320 of RefineDet without its backbone, by convolution."""
    total = torch.zeros(3, dtype=torch.int64)

    def conv(c_in, c_out, kernel, side, norm=True, multiply_adds=None):
        weights = c_in * c_out * kernel * kernel
        parameters = weights + (2 * c_out if norm else c_out)  # scale and shift, or a bias
        total.add_(torch.tensor([parameters, multiply_adds or weights * side**2, norm * c_out * side**2]))

    def residual_block(c_in, width, c_out, side):
        for row in ((c_in, width, 1), (width, width, 3), (width, c_out, 1), (c_in, c_out, 1)):
            conv(*row, side)

    # The block that makes the fourth map has its stride in the first 1×1, so all its layers work at the smaller size.
    residual_block(sources[-1], 128, 512, 5)
    for level, (c_in, side) in enumerate(zip((*sources, 512), (40, 20, 10, 5), strict=True)):
        for start, logits in ((c_in, 2), (256, num_logits)):  # of the anchor refinement, of the detection
            residual_block(start, 256, 1024, side)
            conv(1024, 3 * 4, 3, side, norm=False)
            conv(1024, 3 * logits, 3, side, norm=False)
        for c in (c_in, 256, 256):
            conv(c, 256, 3, side)
        if level < 3:  # a 2×2 deconvolution works on each position of the coarser map, of half the side
            conv(256, 256, 2, side, multiply_adds=256 * 256 * 4 * (side // 2) ** 2)
    return total.tolist()


def maps_of(name, size):
    model = create_backbone(name, features_only=True).eval().to("meta")
    return model, model(torch.empty(1, 3, size, size, device="meta"))


@pytest.mark.parametrize("name", TABLE_4)
def test_backbone_in_table_4(name):
    *counts, printed_giga, printed_parameters = TABLE_4[name]
    cost = count_cost(create_backbone(name, features_only=True), (1, 3, 320, 320)).total
    backbone = (cost.parameters, cost.multiply_adds, cost.batch_norm_elements)
    rest = refinedet_without_backbone(SOURCES[name], 81)
    assert [a + b for a, b in zip(backbone, rest, strict=True)] == counts
    assert f"{counts[0] / 1e6:.2f}" == printed_parameters
    assert f"{(counts[1] + counts[2]) / 1e9:.2f}".startswith(printed_giga)


def test_resnets_in_the_table_of_group_norm():
    """23.508 M and 42.500 M, Mask R-CNN's totals less the rest; where the stride is does not change the counts."""
    for name, millions in {"resnet50": 23.508, "resnet101": 42.500}.items():
        for style in ("caffe", "torchvision"):
            model = create_backbone(name, features_only=True, style=style)
            assert round(count_parameters(model) / 1e6, 3) == millions


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("size", [320, 512])
def test_sources_of_refinedet(name, size):
    model, maps = maps_of(name, size)
    assert model.strides[-3:] == (8, 16, 32)
    assert model.channels[-3:] == SOURCES[name]
    expected = [(1, c, size // s, size // s) for c, s in zip(model.channels, model.strides, strict=True)]
    assert [tuple(m.shape) for m in maps] == expected
    assert len(model.feature_names) == len(maps)


def test_peleenet_with_a_classifier():
    model = create_backbone("peleenet")
    assert count_parameters(model) == 2_802_248
    assert round(count_multiply_adds(model, (224, 224)) / 1e9, 3) == 0.508


@pytest.mark.parametrize(
    ("name", "size", "channels", "sides"),
    [
        ("peleenet", 304, (128, 256, 512, 704), (76, 38, 19, 10)),
        ("mobilenet", 300, (128, 256, 512, 1024), (75, 38, 19, 10)),
    ],
)
def test_maps_of_the_small_backbones(name, size, channels, sides):
    model, maps = maps_of(name, size)
    assert tuple(m.shape[-1] for m in maps) == sides
    assert tuple(m.shape[1] for m in maps) == model.channels == channels
    assert tuple(2 ** round(math.log2(size / side)) for side in sides) == model.strides


@pytest.mark.parametrize("name", TABLE_2)
def test_detector_in_table_2(name):
    size, parameters, multiply_adds, printed_parameters, printed_giga, anchors = TABLE_2[name]
    model = create_model(name, num_classes=20)
    assert model.preprocessing.image_size == (size, size)
    cost = count_cost(model, (1, 3, size, size)).total
    assert cost.parameters == parameters
    assert cost.multiply_adds == multiply_adds
    assert f"{cost.parameters / 1e6:.3f}".startswith(printed_parameters)
    assert f"{cost.multiply_adds / 1e9:.3f}".startswith(printed_giga)
    outputs = model.eval().to("meta")(torch.empty(1, 3, size, size, device="meta"))
    assert outputs["class_logits"].shape == (1, anchors, 21)
    assert outputs["box_deltas"].shape == (1, anchors, 4)


# name: side of each head's map, boxes in a cell, (width, height) of the first and the last box of each map
HEADS = {
    "ssd300_mobilenet": (
        (19, 10, 5, 3, 2, 1),
        (3, 6, 6, 6, 6, 6),
        ((60, 60), (105, 105), (150, 150), (195, 195), (240, 240), (285, 285)),
        285 * 300,
    ),
    "pelee304": (
        (19, 19, 10, 5, 3, 1),
        (6, 6, 6, 6, 6, 6),
        ((30, 30), (60, 60), (112, 112), (164, 164), (215, 215), (267, 267)),
        267 * 319,
    ),
}


@pytest.mark.parametrize("name", HEADS)
def test_default_boxes_in_table_2(name):
    sides, per_cell, smallest, last_area = HEADS[name]
    model = create_model(name, num_classes=20).eval()
    size = model.preprocessing.image_size[0]
    with torch.no_grad():
        anchors = model(torch.zeros(1, 3, size, size))["anchors_cxcywh"]
    assert [level.per_cell for level in model.anchors.levels] == list(per_cell)
    start = 0
    for side, boxes, shape in zip(sides, per_cell, smallest, strict=True):
        level = anchors[start : start + side * side * boxes].view(side, side, boxes, 4)
        assert tuple(level[0, 0, 0, 2:].tolist()) == shape
        # Without a step, the cells divide the image evenly.
        torch.testing.assert_close(level[0, :, 0, 0], (torch.arange(side) + 0.5) * size / side)
        start += side * side * boxes
    assert start == len(anchors)
    assert anchors[-boxes + 1, 2:].prod().item() == pytest.approx(last_area)  # the square of √(min·max)


def test_preprocessing_in_table_2():
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    image[0] = 255  # red, which comes last
    mobilenet, pelee = (
        create_model(name, 1).preprocessing([image])[0, :, 0, 0] for name in ("ssd300_mobilenet", "pelee304")
    )
    torch.testing.assert_close(mobilenet, torch.tensor([-127.5, -127.5, 127.5]) * 0.007843)
    torch.testing.assert_close(pelee, torch.tensor([-103.94, -116.78, 255 - 123.68]) * 0.017)
