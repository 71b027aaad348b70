"""The masks of targets and detections stay with their boxes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vovnet.masks import RleMasks, encode
from vovnet.structures import Detections, Target

BOXES = [[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 4.0], [2.0, 2.0, 5.0, 5.0]]
BITMAPS = torch.stack([torch.full((5, 6), value, dtype=torch.uint8) for value in (0, 1, 0)])
BITMAPS[2, 3, 3] = 1


def detections(masks: RleMasks | None) -> Detections:
    return Detections(torch.tensor(BOXES), torch.tensor([0, 1, 2]), torch.tensor([0.9, 0.8, 0.7]), (5, 6), masks)


@pytest.mark.parametrize("index", [torch.tensor([2, 0]), torch.tensor([True, False, True])])
def test_masks_are_selected_with_their_boxes(index: torch.Tensor) -> None:
    codes = encode(BITMAPS)
    assert detections(codes)[index].masks == codes[index]
    assert Target.make(BOXES, [0, 1, 2], masks=codes)[index].masks == codes[index]
    chosen = Target.make(BOXES, [0, 1, 2], masks=BITMAPS)[index]
    assert torch.equal(chosen.masks, BITMAPS[index])
    assert torch.equal(chosen.boxes, torch.tensor(BOXES)[index])


def test_without_masks_there_are_none() -> None:
    assert detections(None)[torch.tensor([1])].masks is None
    assert Target.make(BOXES, [0, 1, 2])[torch.tensor([1])].masks is None
    assert Target.make().masks is None


@pytest.mark.parametrize("masks", [BITMAPS[:2], encode(BITMAPS[:2]), encode(BITMAPS[:0])])
def test_every_box_has_a_mask(masks: torch.Tensor | RleMasks) -> None:
    with pytest.raises(ValueError, match=f"got {len(masks)} masks and 3 boxes"):
        Target.make(BOXES, [0, 1, 2], masks=masks)
    if isinstance(masks, RleMasks):
        with pytest.raises(ValueError, match="one mask per box"):
            detections(masks)


def test_cat_leaves_masks_behind() -> None:
    with_masks = Target.make(BOXES, [0, 1, 2], masks=BITMAPS)
    joined = Target.cat([with_masks, with_masks[torch.tensor([1])]])
    assert joined.masks is None
    assert joined.labels.tolist() == [0, 1, 2, 1]
    assert joined.boxes.tolist() == [*BOXES, BOXES[1]]


def test_moving_to_the_cpu_keeps_masks() -> None:
    codes = encode(BITMAPS)
    assert detections(codes).cpu().masks is codes


def test_the_size_in_a_batch_is_kept() -> None:
    padded = replace(Target.make(BOXES, [0, 1, 2]), image_size=(4, 5))
    assert padded[torch.tensor([0])].image_size == (4, 5)
