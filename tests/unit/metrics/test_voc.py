"""Every rule of the VOC devkit on cases that can be checked by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vovnet.metrics.voc import ClassResult, evaluate_voc
from vovnet.structures import Detections, Target

A, B = [0, 0, 10, 10], [50, 50, 60, 60]
NOWHERE = [80, 80, 90, 90]


def detections_of(*items: tuple[Sequence[float], float], label: int = 0) -> Detections:
    """Detections of one image from (box, score)."""
    boxes = torch.tensor([box for box, _ in items], dtype=torch.float32).reshape(-1, 4)
    scores = torch.tensor([score for _, score in items], dtype=torch.float32)
    return Detections(boxes, torch.full((len(items),), label), scores, (100, 100))


def objects(*boxes: Sequence[float], label: int = 0, **flags: list[bool]) -> Target:
    return Target.make(list(boxes), [label] * len(boxes), **flags)


def evaluate(detections: Detections, target: Target) -> ClassResult:
    return evaluate_voc([detections], [target], 1).classes[0]


def test_values_by_hand() -> None:
    # right, wrong, right of 4 objects: precision 1, 1/2, 2/3 at recall 1/4, 1/4, 2/4
    result = evaluate(
        detections_of((A, 0.9), (NOWHERE, 0.8), (B, 0.7)), objects(A, B, [0, 50, 10, 60], [50, 0, 60, 10])
    )
    np.testing.assert_allclose(result.recall, [0.25, 0.25, 0.5])
    np.testing.assert_allclose(result.precision, [1, 1 / 2, 2 / 3])
    assert result.ap11 == pytest.approx((3 * 1 + 3 * 2 / 3) / 11)  # recall 0, .1, .2 | .3, .4, .5
    assert result.ap_area == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)
    assert (result.n_objects, result.n_detections) == (4, 3)


def test_recall_level_that_is_met_exactly_counts() -> None:
    boxes = [[10 * i, 0, 10 * i + 9, 9] for i in range(10)]
    result = evaluate(detections_of(*[(box, 0.9) for box in boxes[:3]]), objects(*boxes))
    assert result.ap11 == pytest.approx(4 / 11)  # recall levels 0, .1, .2 and .3


def test_perfect_and_empty() -> None:
    perfect = evaluate(detections_of((A, 0.2), (B, 0.1)), objects(A, B))
    assert (perfect.ap11, perfect.ap_area) == pytest.approx((1.0, 1.0))
    nothing_found = evaluate(detections_of(), objects(A))
    assert (nothing_found.ap11, nothing_found.ap_area) == (0.0, 0.0)


@pytest.mark.parametrize(("width", "right"), [(20, True), (20.1, False)])
def test_iou_of_exactly_the_threshold_is_enough(width: float, right: bool) -> None:
    assert evaluate(detections_of(([0, 0, width, 10], 0.9)), objects(A)).ap_area == float(right)


def test_exclusive_boxes_give_the_devkit_iou_of_inclusive_ones() -> None:
    # Inclusive 1-based 1–10 and 1–5: 50/100 with the devkit's +1, but 36/81 without.
    assert evaluate(detections_of(([0, 0, 10, 5], 0.9)), objects(A)).ap_area == 1.0


def test_second_hit_is_wrong() -> None:
    result = evaluate(detections_of((A, 0.9), (A, 0.8), (B, 0.7)), objects(A, B))
    np.testing.assert_allclose(result.precision, [1, 1 / 2, 2 / 3])


def test_best_object_already_found_is_wrong_though_another_overlaps_enough() -> None:
    left, right = [0, 0, 10, 10], [2, 0, 12, 10]
    second = [0.5, 0, 10.5, 10]  # IoU 0.90 with left, 0.74 with right
    result = evaluate(detections_of((left, 0.9), (second, 0.8)), objects(left, right))
    np.testing.assert_allclose(result.precision, [1, 1 / 2])
    assert result.recall[-1] == 0.5


def test_the_better_score_finds_the_object_whatever_the_order() -> None:
    poor_fit, good_fit = [0, 0, 10, 8], A
    result = evaluate(detections_of((good_fit, 0.3), (poor_fit, 0.6)), objects(A))
    np.testing.assert_allclose(result.precision, [1, 1 / 2])
    np.testing.assert_allclose(result.scores, [0.6, 0.3], rtol=1e-6)


def test_equal_scores_keep_their_order_over_images() -> None:
    first, second = detections_of((NOWHERE, 0.5)), detections_of((A, 0.5))
    result = evaluate_voc([first, second], [objects(), objects(A)], 1).classes[0]
    np.testing.assert_allclose(result.precision, [0, 1 / 2])
    swapped = evaluate_voc([second, first], [objects(A), objects()], 1).classes[0]
    np.testing.assert_allclose(swapped.precision, [1, 1 / 2])


@pytest.mark.parametrize("flag", ["difficult", "crowd"])
def test_difficult_objects_and_crowds_are_neither_right_nor_wrong(flag: str) -> None:
    target = Target.make([A, B], [0, 0], **{flag: [True, False]})
    result = evaluate(detections_of((A, 0.9), (A, 0.8), (B, 0.7)), target)
    assert (result.n_objects, result.n_detections) == (1, 1)
    assert (result.ap11, result.ap_area) == pytest.approx((1.0, 1.0))
    assert evaluate(detections_of(), target).ap_area == 0.0


def test_detection_nearest_to_a_difficult_object_is_ignored_though_a_plain_one_overlaps_enough() -> None:
    target = objects([0, 0, 10, 10], [2, 0, 12, 10], difficult=[True, False])
    result = evaluate(detections_of(([0.5, 0, 10.5, 10], 0.9)), target)
    assert (result.n_detections, result.ap_area) == (0, 0.0)


def test_classes_and_images_are_kept_apart() -> None:
    assert evaluate_voc([detections_of((A, 0.9), label=1)], [objects(A, label=0)], 2).classes[0].ap_area == 0.0
    result = evaluate_voc([detections_of((A, 0.9)), detections_of()], [objects(), objects(A)], 1).classes[0]
    np.testing.assert_allclose(result.precision, [0])


def test_object_of_another_class_does_not_hide_the_nearest() -> None:
    target = Target.make([[0, 0, 10, 10], [2, 0, 12, 10]], [1, 0])
    assert evaluate_voc([detections_of(([0, 0, 10, 10], 0.9))], [target], 2).classes[0].ap_area == 1.0


def test_mean_leaves_out_classes_without_objects() -> None:
    result = evaluate_voc([detections_of((A, 0.9), (B, 0.8))], [objects(A, B)], 3)
    assert [c.ap11 for c in result.classes] == [pytest.approx(1.0), None, None]
    assert (result.mean_ap11, result.mean_ap_area) == pytest.approx((1.0, 1.0))
    only_difficult = evaluate_voc([detections_of((A, 0.9))], [objects(A, difficult=[True])], 1)
    assert only_difficult.mean_ap11 is None
    assert evaluate_voc([], [], 2).mean_ap_area is None


def test_wrong_detections_where_no_image_has_the_class() -> None:
    result = evaluate(detections_of((A, 0.9)), objects())
    assert (result.ap11, result.n_detections) == (None, 1)
    np.testing.assert_allclose(result.precision, [0])


def test_inputs_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="1 detections, 2 targets"):
        evaluate_voc([detections_of()], [objects(), objects()], 1)
    with pytest.raises(ValueError, match=r"\[0, 2\), got \[2\] in the target of image 1"):
        evaluate_voc([detections_of(), detections_of()], [objects(), objects(A, label=2)], 2)


def random_images(generator: np.random.Generator) -> tuple[list[Detections], list[Target]]:
    detections, targets = [], []
    for _ in range(8):
        n_objects, n_false = generator.integers(0, 7, 2)
        corner = generator.integers(0, 40, (n_objects + n_false, 2))
        boxes = np.concatenate([corner, corner + generator.integers(5, 30, corner.shape)], 1).astype(np.float32)
        labels = generator.integers(0, 3, len(boxes))
        targets.append(Target.make(boxes[:n_objects], labels[:n_objects], generator.random(n_objects) < 0.2))
        repeated = np.concatenate([boxes, boxes[: n_objects // 2]])
        boxes_t = torch.from_numpy(repeated + generator.integers(-3, 4, repeated.shape).astype(np.float32))
        labels_t = torch.from_numpy(np.concatenate([labels, labels[: n_objects // 2]]))
        scores = torch.from_numpy((generator.integers(1, 30, len(repeated)) / 32).astype(np.float32))
        detections.append(Detections(boxes_t, labels_t, scores, (80, 80)))
    return detections, targets


def by_the_book(detections: list[Detections], targets: list[Target], label: int) -> tuple[float, float] | None:
    """The devkit's procedure, one detection after the other, in inclusive coordinates."""
    everything = [
        (float(score), image, [float(v) for v in box])
        for image, d in enumerate(detections)
        for box, lab, score in zip(d.boxes, d.labels, d.scores, strict=True)
        if int(lab) == label
    ]
    everything.sort(key=lambda item: -item[0])
    taken: set[tuple[int, int]] = set()
    n_objects = sum(int(((t.labels == label) & ~t.difficult).sum()) for t in targets)
    if n_objects == 0:
        return None
    curve, right, wrong = [], 0, 0
    for _, image, (x1, y1, x2, y2) in everything:
        target, best, best_iou = targets[image], -1, -np.inf
        for index in range(len(target)):
            if int(target.labels[index]) != label:
                continue
            gx1, gy1, gx2, gy2 = target.boxes[index].tolist()
            width = min(x2 - 1, gx2 - 1) - max(x1, gx1) + 1
            height = min(y2 - 1, gy2 - 1) - max(y1, gy1) + 1
            if width > 0 and height > 0:
                both = width * height
                iou = both / ((x2 - x1) * (y2 - y1) + (gx2 - gx1) * (gy2 - gy1) - both)
                if iou > best_iou:
                    best, best_iou = index, iou
        if best_iou >= 0.5:
            if target.difficult[best]:
                continue
            if (image, best) in taken:
                wrong += 1
            else:
                right += 1
                taken.add((image, best))
        else:
            wrong += 1
        curve.append((right, right / (right + wrong)))
    ap11 = sum(max((p for r, p in curve if 10 * r >= level * n_objects), default=0.0) for level in range(11)) / 11
    steps = sorted({r for r, _ in curve} - {0})
    return ap11, sum(max(p for r, p in curve if r >= step) for step in steps) / n_objects


@pytest.mark.parametrize("seed", range(20))
def test_equals_the_procedure_one_detection_after_the_other(seed: int) -> None:
    detections, targets = random_images(np.random.default_rng(seed))
    for label, result in enumerate(evaluate_voc(detections, targets, 3).classes):
        expected = by_the_book(detections, targets, label)
        if expected is None:
            assert result.ap11 is None
        else:
            assert (result.ap11, result.ap_area) == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), power=st.floats(0.2, 4), scale=st.floats(0.1, 1))
def test_monotone_change_of_scores_changes_nothing(seed: int, power: float, scale: float) -> None:
    detections, targets = random_images(np.random.default_rng(seed))
    changed = [Detections(d.boxes, d.labels, scale * d.scores**power, d.image_size) for d in detections]
    before, after = evaluate_voc(detections, targets, 3), evaluate_voc(changed, targets, 3)
    assert [(c.ap11, c.ap_area) for c in before.classes] == [(c.ap11, c.ap_area) for c in after.classes]
