"""The light SSD: its counts by hand, its default boxes, its top-down path."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate

from vovnet import create_backbone, create_model
from vovnet.models.detectors.light_ssd import TopDown
from vovnet.profiling.cost import count_multiply_adds, count_parameters

NAME = "ssdfpn320_vovnet19_tiny"
CLASSES = 3
SIDES = (40, 20, 10, 5)
# Of the backbone: input channels, output channels, kernel, side of the output.
STEM = [(3, 16, 3, 160), (16, 16, 3, 160), (16, 32, 3, 80)]
STAGES = [(32, 32, 48, 80), (48, 48, 96, 40), (96, 80, 192, 20), (192, 112, 256, 10)]  # in, width, out, side
LAYERS = 3
EXTRA, NECK, PER_CELL = 128, 64, 4


def convolutions() -> tuple[list[tuple[int, int, int, int]], list[tuple[int, int, int, int]]]:
    """(with batch norm, with a bias): input channels, output channels, kernel and side of each."""
    normed = list(STEM)
    for c_in, width, c_out, side in STAGES:
        normed += [(c_in, width, 3, side), *[(width, width, 3, side)] * (LAYERS - 1)]
        normed.append((c_in + LAYERS * width, c_out, 1, side))
    normed.append((STAGES[-1][2], EXTRA, 3, SIDES[-1]))
    biased = []
    for channels, side in zip((*(stage[2] for stage in STAGES[1:]), EXTRA), SIDES, strict=True):
        normed += [(channels, NECK, 1, side), (NECK, NECK, 3, side)]
        biased += [(NECK, 4 * PER_CELL, 1, side), (NECK, (CLASSES + 1) * PER_CELL, 1, side)]
    return normed, biased


def test_counts_by_hand() -> None:
    normed, biased = convolutions()
    parameters = sum(c_in * c_out * kernel**2 + 2 * c_out for c_in, c_out, kernel, _ in normed)
    parameters += sum(c_in * c_out * kernel**2 + c_out for c_in, c_out, kernel, _ in biased)
    multiply_adds = sum(c_in * c_out * kernel**2 * side**2 for c_in, c_out, kernel, side in normed + biased)
    model = create_model(NAME, CLASSES)
    assert count_parameters(model) == parameters == 1_423_024
    assert count_multiply_adds(model, (320, 320)) == multiply_adds == 706_457_600
    assert multiply_adds <= 0.8e9


def test_default_boxes_cover_the_image() -> None:
    model = create_model(NAME, CLASSES).eval()
    with torch.no_grad():
        outputs = model(torch.zeros(1, 3, 320, 320))
    anchors = outputs["anchors_cxcywh"]
    assert len(anchors) == PER_CELL * sum(side**2 for side in SIDES)
    start = 0
    for side, smallest in zip(SIDES, (24, 48, 96, 176), strict=True):
        level = anchors[start : start + PER_CELL * side**2].view(side, side, PER_CELL, 4)
        assert level[0, 0, 0, 2:].tolist() == [smallest, smallest]
        torch.testing.assert_close(level[0, :, 0, 0], (torch.arange(side) + 0.5) * 320 / side)
        torch.testing.assert_close(level[:, 0, 0, 1], (torch.arange(side) + 0.5) * 320 / side)
        start += PER_CELL * side**2


def test_the_top_down_path_by_hand() -> None:
    torch.manual_seed(0)
    neck = TopDown((6, 8), 4).eval()
    fine, coarse = torch.randn(1, 6, 7, 7), torch.randn(1, 8, 4, 4)  # a side that is odd
    with torch.no_grad():
        merged = neck([fine, coarse])
        below = neck.lateral[1](coarse).relu()
        expected = (neck.lateral[0](fine) + interpolate(below, size=(7, 7))).relu()
    assert torch.equal(merged[1], below)
    assert torch.equal(merged[0], expected)


@pytest.mark.parametrize("side", [224, 320])
def test_backbone_maps(side: int) -> None:
    with torch.device("meta"):
        backbone = create_backbone("vovnet19_tiny", features_only=True)
        maps = backbone(torch.empty(1, 3, side, side))
    assert [(m.shape[1], side // m.shape[2]) for m in maps] == list(
        zip(backbone.channels, backbone.strides, strict=True)
    )


def test_a_family_takes_the_backbone() -> None:
    with torch.device("meta"):
        model = create_model("refinedet320_vovnet19_tiny", CLASSES, width=64)
        assert model(torch.empty(1, 3, 320, 320))["class_logits"].shape[2] == CLASSES + 1
