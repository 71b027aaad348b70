"""Masks without PyTorch against `vovnet.masks`, which pastes with torchvision's functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vovnet import run_lengths
from vovnet.masks import RleMasks, decode, paste
from vovnet.runtime.masks import paste_codes

SIZE = (240, 321)
BOXES = {
    "inside": [40.3, 50.7, 200.2, 160.9],
    "whole image": [0.0, 0.0, 321.0, 240.0],
    "beyond it": [-30.0, -20.5, 400.0, 300.0],
    "narrow": [100.2, 3.0, 100.9, 230.0],
    "a point": [100.0, 100.0, 100.0, 100.0],
    "at the corner": [310.5, 230.5, 321.0, 240.0],
    "outside": [500.0, 500.0, 600.0, 600.0],
    "above": [10.0, -100.0, 60.0, -50.0],
}


def smooth_maps(number: int) -> torch.Tensor:
    noise = torch.randn(number, 1, 28, 28, generator=torch.Generator().manual_seed(number))
    return torch.nn.functional.avg_pool2d(noise, 5, 1, 2)[:, 0].mul(20).sigmoid()


def differing_pixels(codes: tuple[bytes, ...], expected: RleMasks) -> int:
    bitmaps = decode(expected).numpy().astype(np.bool_)
    return sum((run_lengths.decode(code, SIZE) != bitmap).sum() for code, bitmap in zip(codes, bitmaps, strict=True))


@pytest.mark.parametrize("kind", BOXES)
def test_masks_equal_those_of_pytorch(kind: str) -> None:
    maps, boxes = smooth_maps(3), torch.tensor([BOXES[kind]] * 3)
    expected = paste(maps, boxes, SIZE)
    codes = paste_codes(maps.numpy(), boxes.numpy(), SIZE)
    assert differing_pixels(codes, expected) <= 1  # a pixel within a rounding error of the threshold


def test_many_random_masks_equal_those_of_pytorch() -> None:
    random = torch.Generator().manual_seed(0)
    corner = torch.rand(200, 2, generator=random) * 300 - 40
    boxes = torch.cat([corner, corner + torch.rand(200, 2, generator=random) * 150], dim=1)
    maps = torch.rand(200, 28, 28, generator=random)
    expected = paste(maps, boxes, SIZE)
    assert differing_pixels(paste_codes(maps.numpy(), boxes.numpy(), SIZE), expected) <= 2


def test_a_box_of_several_bands_equals_pytorch() -> None:
    """Boxes are pasted some columns at a time: this one has more than fit at once."""
    maps, boxes, size = smooth_maps(1), torch.tensor([[-50.0, 10.0, 1500.0, 1190.0]]), (1200, 1400)
    expected = decode(paste(maps, boxes, size))[0].numpy().astype(np.bool_)
    code = paste_codes(maps.numpy(), boxes.numpy(), size)[0]
    assert (run_lengths.decode(code, size) != expected).sum() <= 1
    assert expected.any()
    assert not expected.all()


def test_the_code_is_the_same_if_the_pixels_are() -> None:
    maps = (smooth_maps(4) > 0.5).float() * 0.8 + 0.1  # far from the threshold
    boxes = torch.tensor([BOXES["inside"]] * 4)
    assert paste_codes(maps.numpy(), boxes.numpy(), SIZE) == paste(maps, boxes, SIZE).counts


def test_no_detections() -> None:
    assert paste_codes(np.zeros((0, 28, 28), np.float32), np.zeros((0, 4), np.float32), SIZE) == ()


def test_boxes_without_number_give_masks_without_harm() -> None:
    boxes = np.array([[np.nan] * 4, [-np.inf, 0, np.inf, 10], [-1e30, -1e30, 1e30, 1e30]], np.float32)
    for code in paste_codes(np.ones((3, 28, 28), np.float32), boxes, SIZE):
        assert run_lengths.decode(code, SIZE).shape == SIZE


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="must have shape"):
        paste_codes(np.zeros((2, 28, 28), np.float32), np.zeros((3, 4), np.float32), SIZE)
