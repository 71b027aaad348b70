"""Detections become those of supervision, and come back unchanged."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vovnet.metrics.coco import to_coco_results
from vovnet.structures import Detections

from .both_kinds import BITMAPS, BOXES, LABELS, NAMES, SCORES, SIZE, make

sv = pytest.importorskip("supervision", reason="supervision is not installed (the extra of that name)")
KINDS = pytest.mark.parametrize("kind", ["tensors", "arrays"])


@KINDS
def test_what_supervision_gets(kind: str) -> None:
    found = make(kind).to_supervision()
    assert isinstance(found, sv.Detections)
    np.testing.assert_array_equal(found.xyxy, BOXES)
    np.testing.assert_array_equal(found.class_id, LABELS)
    np.testing.assert_allclose(found.confidence, SCORES)
    np.testing.assert_array_equal(found.mask, BITMAPS)
    assert list(found["class_name"]) == [NAMES[label] for label in LABELS]
    np.testing.assert_array_equal(found.area, BITMAPS.sum(axis=(1, 2)))  # supervision measures the masks


@KINDS
@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("count", [0, 3])
def test_there_and_back(kind: str, masks: bool, count: int) -> None:
    original = make(kind, masks=masks, count=count)
    back = Detections.from_supervision(original.to_supervision(), SIZE)
    assert type(back) is Detections
    assert to_coco_results([back], [1], [7, 3]) == original.to_coco(1)


def test_detections_without_class_names() -> None:
    plain = Detections(torch.tensor(BOXES), torch.tensor(LABELS), torch.tensor(SCORES), SIZE)
    found = plain.to_supervision()
    assert dict(found.data) == {}
    assert found.mask is None
    np.testing.assert_array_equal(found.class_id, LABELS)


def test_what_supervision_selects_comes_back_best_first() -> None:
    found = make("arrays").to_supervision()[np.array([2, 0])]
    back = Detections.from_supervision(found, SIZE)
    assert back.scores.tolist() == pytest.approx([0.9, 0.25])
    assert back.labels.tolist() == [1, 1]
    assert back.boxes.tolist() == [BOXES[0], BOXES[2]]
    np.testing.assert_array_equal([mask.sum() for mask in back.to_supervision().mask], [12, 1])


def test_compact_masks_are_read_too() -> None:
    found = make("arrays").to_supervision()
    whole = np.tile(np.array([0, 0, *SIZE[::-1]], dtype=np.float32), (3, 1))
    compact = sv.CompactMask.from_dense(found.mask, whole, SIZE)
    back = Detections.from_supervision(sv.Detections(**{**vars(found), "mask": compact}), SIZE)
    np.testing.assert_array_equal(back.to_supervision().mask, BITMAPS)


@KINDS
def test_supervision_draws_them(kind: str) -> None:
    image = np.zeros((60, 80, 3), dtype=np.uint8)
    big = make(kind, masks=False, image_size=(60, 80)).to_supervision()
    assert sv.BoxAnnotator(thickness=1).annotate(image.copy(), big).any()


def test_missing_columns_are_named() -> None:
    boxes = np.array(BOXES, dtype=np.float32)
    with pytest.raises(ValueError, match="got None for class_id and confidence"):
        Detections.from_supervision(sv.Detections(xyxy=boxes), SIZE)
    with pytest.raises(ValueError, match="got None for confidence"):
        Detections.from_supervision(sv.Detections(xyxy=boxes, class_id=np.array(LABELS)), SIZE)
    assert len(Detections.from_supervision(sv.Detections.empty(), SIZE)) == 0


@pytest.mark.parametrize("labels", [[-1, 0, 1], [0.5, 0, 1], [float("nan"), 0, 1], [1e30, 0, 1]])
def test_class_ids_that_are_no_labels_are_refused(labels: list[float]) -> None:
    found = sv.Detections(xyxy=np.array(BOXES), class_id=np.array(labels), confidence=np.array(SCORES))
    with pytest.raises(ValueError, match="class_id must be whole numbers from 0, which become labels, got"):
        Detections.from_supervision(found, SIZE)


def test_scores_that_are_no_numbers_are_refused() -> None:
    found = sv.Detections(xyxy=np.array(BOXES), class_id=np.array(LABELS), confidence=np.array([0.5, np.nan, 0.1]))
    with pytest.raises(ValueError, match="confidence must be finite numbers, got nan"):
        Detections.from_supervision(found, SIZE)


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must have the image's size \(9, 8\) \(height, width\), got \(6, 8\)"):
        Detections.from_supervision(make("arrays").to_supervision(), (9, 8))
