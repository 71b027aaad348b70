"""NMS in numpy keeps what torchvision's keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchvision.ops import nms

from vovnet.models.detectors.decoding import select_detections
from vovnet.runtime.nms import best_rows
from vovnet.runtime.session import Rows


def by_torchvision(boxes, scores, *, score_threshold, nms_threshold, candidates) -> set[tuple[int, int, int]]:
    """(image, label, anchor) of what remains, class by class."""
    kept = set()
    for image, label in np.ndindex(scores.shape[0], scores.shape[2]):
        score, box = torch.tensor(scores[image, :, label]), torch.tensor(boxes[image])
        passed = (score > np.float32(score_threshold)).nonzero().squeeze(1)
        best = passed[score[passed].sort(descending=True, stable=True).indices][:candidates]
        kept |= {(image, label, int(anchor)) for anchor in best[nms(box[best], score[best], nms_threshold)]}
    return kept


def as_set(rows: Rows, boxes) -> set[tuple[int, int, int]]:
    """Needs boxes that all differ."""
    place = {(image, boxes[image, anchor].tobytes()): anchor for image, anchor in np.ndindex(boxes.shape[:2])}
    found = [
        (int(image), int(label), place[int(image), box.tobytes()])
        for image, label, box in zip(rows.image, rows.labels, rows.boxes, strict=True)
    ]
    assert len(set(found)) == len(found)
    return set(found)


def check(boxes, scores, **options) -> int:
    options = {"side": 1e6, "score_threshold": 0.01, "nms_threshold": 0.45, "candidates": 400} | options
    rows = best_rows(boxes, scores, **options)
    assert rows.image.dtype == rows.labels.dtype == np.int64
    assert rows.boxes.dtype == rows.scores.dtype == np.float32
    assert rows.boxes.shape == (len(rows.image), 4)
    found = as_set(rows, boxes)
    options.pop("side")
    assert found == by_torchvision(boxes, scores, **options)
    for image, label, anchor in found:
        assert scores[image, anchor, label] in rows.scores[(rows.image == image) & (rows.labels == label)]
    return len(found)


def random_boxes(random, *shape):
    corner, size = random.uniform(-20, 250, (*shape, 2)), random.uniform(1, 90, (*shape, 2))
    return np.concatenate([corner, corner + size], axis=-1).astype(np.float32)


@pytest.mark.parametrize(
    ("images", "anchors", "classes", "threshold", "candidates"),
    [
        (1, 1, 1, 0.01, 400),
        (1, 500, 3, 0.3, 400),
        (3, 200, 5, 0.5, 10),
        (2, 300, 20, 0.01, 400),
        (1, 700, 2, 0.01, 400),
        (1, 1500, 2, 0.01, 1000),
        (1, 1000, 80, 0.01, 40),
        (2, 64, 2, 0.01, 64),
        (2, 65, 2, 0.01, 65),
    ],
)
def test_random_boxes(images, anchors, classes, threshold, candidates):
    random = np.random.default_rng(anchors)
    boxes = random_boxes(random, images, anchors)
    scores = random.random((images, anchors, classes), np.float32)
    count = check(boxes, scores, score_threshold=threshold, candidates=candidates)
    assert count > 0
    if min(anchors, candidates) > 100:
        assert count < min(anchors, candidates) * images * classes


@given(
    arrays(np.float32, (2, 9, 4), elements=st.integers(0, 12).map(float)),
    arrays(np.float32, (2, 9, 3), elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])),
    st.sampled_from([0.0, 0.25, 0.45, 0.5, 1.0]),
    st.integers(1, 9),
)
def test_ties_and_degenerate_boxes(boxes, scores, nms_threshold, candidates):
    """Coarse values make equal scores, empty boxes and IoU at the threshold common. Inverted boxes do not occur."""
    boxes = np.concatenate([np.minimum(boxes[..., :2], boxes[..., 2:]), np.maximum(boxes[..., :2], boxes[..., 2:])], -1)
    options = {"score_threshold": 0.1, "nms_threshold": nms_threshold, "candidates": candidates}
    rows = best_rows(boxes, scores, side=12, **options)
    expected = by_torchvision(boxes, scores, **options)
    found = sorted(
        zip(rows.image.tolist(), rows.labels.tolist(), rows.scores.tolist(), rows.boxes.tolist(), strict=True)
    )
    assert found == sorted(
        (image, label, float(scores[image, anchor, label]), boxes[image, anchor].tolist())
        for image, label, anchor in expected
    )


@pytest.mark.parametrize("length", [2, 63, 64, 65, 130, 400])
def test_chains_of_overlaps(length):
    """Each box overlaps the next only, so every second one goes, and the last depends on the first."""
    left = np.arange(length, dtype=np.float32) * 10
    boxes = np.stack([left, 0 * left, left + 30, 0 * left + 30], axis=-1)[None]
    scores = np.linspace(1, 0.5, length, dtype=np.float32)[None, :, None]
    assert check(boxes, scores, nms_threshold=0.45) == (length + 1) // 2
    assert check(boxes[:, ::-1].copy(), scores[:, ::-1].copy(), nms_threshold=0.45) == (length + 1) // 2


def test_classes_and_images_do_not_suppress_each_other():
    boxes = np.tile(np.array([0, 0, 10, 10], np.float32), (2, 1, 1))
    rows = best_rows(
        boxes, np.ones((2, 1, 3), np.float32), side=300, score_threshold=0.5, nms_threshold=0.45, candidates=5
    )
    assert sorted(zip(rows.image.tolist(), rows.labels.tolist(), strict=True)) == [
        (i, k) for i in (0, 1) for k in (0, 1, 2)
    ]


def test_one_box_remains_of_many_equal_ones():
    boxes = np.tile(np.array([0, 0, 10, 10], np.float32), (1, 900, 1))
    rows = best_rows(
        boxes, np.ones((1, 900, 1), np.float32), side=300, score_threshold=0.5, nms_threshold=0.45, candidates=400
    )
    assert len(rows.image) == 1


@pytest.mark.parametrize("shape", [(0, 5, 3), (2, 0, 3), (2, 5, 3)])
def test_nothing_above_the_threshold_is_zero_rows(shape):
    boxes, scores = np.zeros((*shape[:2], 4), np.float32), np.full(shape, 0.3, np.float32)
    rows = best_rows(boxes, scores, side=300, score_threshold=0.3, nms_threshold=0.45, candidates=4)
    assert rows.image.shape == rows.labels.shape == rows.scores.shape == (0,)
    assert rows.boxes.shape == (0, 4)


@pytest.mark.parametrize("candidates", [1, 3, 400])
def test_scores_that_are_no_numbers_are_no_detections(candidates):
    random = np.random.default_rng(0)
    boxes, scores = random_boxes(random, 1, 200), random.random((1, 200, 2), np.float32)
    scores[0, ::3] = np.nan
    assert check(boxes, scores, candidates=candidates) > 0
    scores[:] = np.nan
    assert check(boxes, scores, candidates=candidates) == 0


def test_the_input_is_not_changed():
    random = np.random.default_rng(0)
    boxes, scores = random_boxes(random, 1, 50), random.random((1, 50, 2), np.float32)
    before = boxes.copy(), scores.copy()
    boxes.setflags(write=False)
    scores.setflags(write=False)
    check(boxes, scores)
    assert (boxes == before[0]).all()
    assert (scores == before[1]).all()


def test_boxes_far_outside_are_limited_as_with_pytorch():
    """Two boxes that differ only beyond the limit are one."""
    boxes = np.array([[[10, 10, 9000, 60], [10, 10, 700, 60]]], np.float32)
    options = {"score_threshold": 0.5, "nms_threshold": 0.45, "candidates": 5}
    scores = np.array([[[0.9], [0.8]]], np.float32)
    assert len(best_rows(boxes, scores, side=300, **options).image) == 1
    assert len(best_rows(boxes, scores, side=9000, **options).image) == 2
    expected = select_detections(
        torch.tensor(scores), torch.tensor(boxes), [(300, 300)], (300, 300), top_k=9, **options
    )
    assert len(expected[0].scores) == 1


def test_boxes_that_are_no_numbers_stay_and_suppress_nothing():
    boxes = np.array([[[np.nan, 0, 10, 10], [np.inf, 0, np.inf, 10], [0, 0, 10, 10], [0, 0, 10, 11]]], np.float32)
    scores = np.array([[[0.9], [0.8], [0.7], [0.6]]], np.float32)
    rows = best_rows(boxes, scores, side=300, score_threshold=0.5, nms_threshold=0.45, candidates=9)
    assert rows.scores.tolist() == scores[0, :3, 0].tolist()
