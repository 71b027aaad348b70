"""Matching at a score threshold, checked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from vovnet.metrics.confusion import FALSE_POSITIVE, IGNORED, confusion_matrix, image_errors, match_objects
from vovnet.structures import Detections, Target

A, B, C, NOWHERE = [0, 0, 10, 10], [30, 30, 40, 40], [60, 60, 70, 70], [80, 0, 90, 10]


def detections_of(*items: tuple[Sequence[float], int, float]) -> Detections:
    boxes = torch.tensor([box for box, _, _ in items], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([label for _, label, _ in items], dtype=torch.int64)
    return Detections(boxes, labels, torch.tensor([score for _, _, score in items], dtype=torch.float32), (100, 100))


def test_matrix_and_image_errors_by_hand() -> None:
    first = detections_of((A, 0, 0.9), (A, 0, 0.8), (B, 1, 0.7), (NOWHERE, 1, 0.6), (C, 0, 0.2))
    images = [first, detections_of(), detections_of((A, 1, 0.9))]
    targets = [Target.make([A, B, C], [0, 0, 0]), Target.make([A], [1]), Target.make()]
    matrix = confusion_matrix(images, targets, 2, score_threshold=0.5)
    # Image 0: A right, its second hit false, B taken for class 1, C below the threshold and missed, NOWHERE false.
    np.testing.assert_array_equal(matrix, [[1, 1, 1], [0, 0, 1], [1, 2, 0]])
    errors = image_errors(images, targets, score_threshold=0.5)
    np.testing.assert_array_equal(errors, [[1, 2, 1], [1, 0, 0], [0, 1, 0]])


def test_threshold_itself_counts() -> None:
    matrix = confusion_matrix([detections_of((A, 0, 0.5))], [Target.make([A], [0])], 1, score_threshold=0.5)
    np.testing.assert_array_equal(matrix, [[1, 0], [0, 0]])


def test_right_class_wins_over_larger_overlap() -> None:
    detections = detections_of((A, 1, 0.9), ([0, 0, 10, 8], 0, 0.3))
    np.testing.assert_array_equal(match_objects(detections, Target.make([A], [0])), [FALSE_POSITIVE, 0])


def test_more_right_classes_win_over_any_overlap() -> None:
    """Each detection lies exactly on an object, but one place further on three of them are of the right class."""
    boxes = [(0, 0, 3, 1), (1, 0, 4, 1), (2, 0, 5, 1), (3, 0, 6, 1)]  # neighbours have IoU 0.5
    detections = detections_of(*((box, label, 0.9) for box, label in zip(boxes, (0, 0, 0, 2), strict=True)))
    target = Target.make(torch.tensor(boxes), torch.tensor([1, 0, 0, 0]))
    assert match_objects(detections, target).tolist() == [1, 2, 3, FALSE_POSITIVE]


@pytest.mark.parametrize("seed", range(40))
def test_assignment_is_the_best_of_all(seed: int) -> None:
    """Against every assignment there is: most right classes, then most overlap; crowded boxes of two classes."""
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(0, 5, (8, 2), generator=generator)
    boxes = torch.cat([starts, starts + torch.randint(3, 6, (8, 2), generator=generator)], dim=1).float()
    labels = torch.randint(0, 2, (8,), generator=generator)
    detections = detections_of(*((boxes[i].tolist(), int(labels[i]), 0.9) for i in range(4)))
    target = Target.make(boxes[4:], labels[4:])
    overlap = box_iou(boxes[:4], boxes[4:]).double()

    def quality(matched: Sequence[int]) -> tuple[int, float]:
        pairs = [(i, j) for i, j in enumerate(matched) if j >= 0]
        right = sum(bool(labels[i] == labels[4 + j]) for i, j in pairs)
        return right, round(sum(float(overlap[i, j]) for i, j in pairs), 6)

    possible = [
        matched
        for matched in product(range(-1, 4), repeat=4)
        if len({j for j in matched if j >= 0}) == sum(j >= 0 for j in matched)
        and all(j < 0 or overlap[i, j] >= 0.5 for i, j in enumerate(matched))
    ]
    assert quality(match_objects(detections, target).tolist()) == max(map(quality, possible))


def test_assignment_finds_as_much_as_possible() -> None:
    # Both detections overlap the left object; only the first overlaps the right one, and it prefers the left.
    left, right = [0, 0, 10, 10], [4, 0, 14, 10]
    detections = detections_of(([1.5, 0, 11.5, 10], 0, 0.9), ([-3, 0, 7, 10], 0, 0.8))
    np.testing.assert_array_equal(match_objects(detections, Target.make([left, right], [0, 0])), [1, 0])


def test_difficult_objects_and_crowds_are_ignored() -> None:
    target = Target.make([A, [20, 20, 90, 90]], [0, 1], difficult=[True, False], crowd=[False, True])
    detections = detections_of((A, 0, 0.9), (B, 1, 0.8), (C, 1, 0.7), (B, 0, 0.6), (A, 1, 0.5))
    # A detection inside the crowd is ignored however small, but only with the class of what it hits.
    expected = [IGNORED, IGNORED, IGNORED, FALSE_POSITIVE, FALSE_POSITIVE]
    np.testing.assert_array_equal(match_objects(detections, target), expected)
    matrix = confusion_matrix([detections_of()], [target], 2, score_threshold=0.5)
    assert matrix.sum() == 0


def test_real_object_is_preferred_to_a_crowd_around_it() -> None:
    target = Target.make([B, [20, 20, 90, 90]], [0, 0], crowd=[False, True])
    np.testing.assert_array_equal(match_objects(detections_of((B, 0, 0.9), (B, 0, 0.8)), target).tolist(), [0, IGNORED])


def test_matrix_counts_every_object_and_detection_once() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        n_objects, n_detections = generator.integers(0, 10, 2)
        corner = torch.from_numpy(generator.integers(0, 30, (n_objects + n_detections, 2))).float()
        boxes = torch.cat([corner, corner + 15], dim=1)
        labels = torch.from_numpy(generator.integers(0, 3, len(boxes)))
        target = Target.make(boxes[:n_objects], labels[:n_objects])
        detections = Detections(boxes[n_objects:], labels[n_objects:], torch.ones(int(n_detections)), (50, 50))
        matrix = confusion_matrix([detections], [target], 3, score_threshold=0.5)
        counts = np.bincount(target.labels, minlength=3), np.bincount(detections.labels, minlength=3)
        np.testing.assert_array_equal(matrix.sum(axis=1)[:3], counts[0])
        np.testing.assert_array_equal(matrix.sum(axis=0)[:3], counts[1])


def test_wrong_labels_are_named() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\), got \[4\] in the detections of image 0"):
        confusion_matrix([detections_of((A, 4, 0.9))], [Target.make()], 1, score_threshold=0.5)
