"""Detections become labels of FiftyOne: class names, boxes relative to the image, masks of the boxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vovnet.structures import Detections

from ..fiftyone_here import import_or_skip
from .both_kinds import BITMAPS, BOXES, LABELS, NAMES, SCORES, SIZE, make

fo = import_or_skip()
KINDS = pytest.mark.parametrize("kind", ["tensors", "arrays"])


@KINDS
def test_what_fiftyone_gets(kind: str) -> None:
    labels = make(kind).to_fiftyone()
    assert isinstance(labels, fo.Detections)
    assert [one.label for one in labels.detections] == [NAMES[label] for label in LABELS]
    assert [one.confidence for one in labels.detections] == pytest.approx(SCORES)
    for one, (x1, y1, x2, y2) in zip(labels.detections, BOXES, strict=True):
        assert one.bounding_box == pytest.approx([x1 / 8, y1 / 6, (x2 - x1) / 8, (y2 - y1) / 6])


@KINDS
def test_fiftyone_draws_the_same_masks(kind: str) -> None:
    """Where the box has whole pixels, and the mask is in it."""
    labels = make(kind).to_fiftyone()
    for one, expected in list(zip(labels.detections, BITMAPS, strict=True))[1:]:
        drawn = one.to_segmentation(frame_size=(8, 6), target=1).mask
        np.testing.assert_array_equal(drawn > 0, expected)


@KINDS
def test_a_mask_is_cut_to_the_rounded_box(kind: str) -> None:
    (first, *_) = make(kind).to_fiftyone().detections
    np.testing.assert_array_equal(first.mask, BITMAPS[0][1:5, 0:4])  # of the box 0.5 1 4 5.25


@KINDS
def test_boxes_beyond_the_image_have_masks_too(kind: str) -> None:
    outside = make(kind, count=1)
    outside.boxes[0] = outside.boxes.dtype.type(0) if kind == "arrays" else 0.0
    outside.boxes[0, 2:] = 20
    np.testing.assert_array_equal(outside.to_fiftyone().detections[0].mask, BITMAPS[0])
    outside.boxes[0] = 9
    assert outside.to_fiftyone().detections[0].mask.shape == (1, 1)


@KINDS
def test_without_masks_and_without_detections(kind: str) -> None:
    assert all(one.mask is None for one in make(kind, masks=False).to_fiftyone().detections)
    assert make(kind, count=0).to_fiftyone().detections == []


def test_detections_without_class_names_are_refused() -> None:
    plain = Detections(torch.tensor(BOXES), torch.tensor(LABELS), torch.tensor(SCORES), SIZE)
    with pytest.raises(ValueError, match="FiftyOne's labels are class names, and these detections have none"):
        plain.to_fiftyone()
