"""The score threshold that maximises F1, against every threshold there is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vovnet.metrics.thresholds import best_threshold, best_thresholds, f1_at
from vovnet.metrics.voc import evaluate_voc
from vovnet.structures import Detections, Target

from .made import detections_of, random_scene

A, B, C, NOWHERE = [0, 0, 10, 10], [30, 30, 40, 40], [60, 60, 70, 70], [80, 0, 90, 10]


def best_of(*items: tuple[list[int], int, float], target: Target) -> object:
    return best_threshold(evaluate_voc([detections_of(*items)], [target], 1).classes[0])


def test_threshold_by_hand() -> None:
    """Two of three objects above a false positive, the third far below it."""
    target = Target.make([A, B, C], [0, 0, 0])
    best = best_of((A, 0, 0.9), (B, 0, 0.7), (NOWHERE, 0, 0.4), (C, 0, 0.1), target=target)
    # F1 of the best 1, 2, 3, 4: 2/4, 4/5, 4/6, 6/7.
    assert (best.threshold, best.f1, best.precision, best.recall) == (0.05, 6 / 7, 0.75, 1.0)
    best = best_of((A, 0, 0.9), (B, 0, 0.7), (NOWHERE, 0, 0.4), target=target)
    assert (best.threshold, best.f1) == (0.55, 0.8)


def test_of_equal_f1_the_highest_threshold() -> None:
    """1 of 1 right and 2 of 4 right have F1 2/3 both."""
    best = best_of((A, 0, 0.9), (NOWHERE, 0, 0.6), (NOWHERE, 0, 0.5), (B, 0, 0.3), target=Target.make([A, B], [0, 0]))
    assert (best.threshold, best.f1) == (0.75, 2 / 3)


def test_difficult_objects_and_crowds_do_not_count() -> None:
    target = Target.make([A, B, C], [0, 0, 0], difficult=[False, True, False], crowd=[False, False, True])
    best = best_of((B, 0, 0.9), (C, 0, 0.8), (A, 0, 0.6), (NOWHERE, 0, 0.2), target=target)
    assert (best.threshold, best.f1) == (0.4, 1.0)


def test_no_threshold_without_objects_or_anything_right() -> None:
    detections, targets = [detections_of((A, 0, 0.9), (A, 2, 0.8))], [Target.make([A, B], [1, 2])]
    assert best_thresholds(evaluate_voc(detections, targets, 3)) == (None, None, None)


def test_as_few_decimals_as_lie_between() -> None:
    target = Target.make([A], [0])
    for low, high, digits in ((0.2, 0.8, 1), (0.3121, 0.3149, 3), (0.31234, 0.31236, 5)):
        threshold = best_of((A, 0, high), (NOWHERE, 0, low), target=target).threshold
        assert np.float32(low) < threshold < np.float32(high)
        assert len(str(threshold)) == 2 + digits
    low, high = (float(value) for value in torch.tensor([0.5, 0.5]).nextafter(torch.tensor([0.5, 1.0])))
    assert low < best_of((A, 0, high), (NOWHERE, 0, low), target=target).threshold < high


def plain_f1(detections: list[Detections], targets: list[Target], label: int, threshold: float) -> float:
    """Of the detections above the threshold, without any curve."""
    kept = [item[item.scores.double() > threshold] for item in detections]
    result = evaluate_voc(kept, targets, 3).classes[label]
    true_positives = round(result.n_detections * result.precision[-1]) if result.n_detections else 0
    return 2 * true_positives / max(1, result.n_detections + result.n_objects)


@pytest.mark.parametrize("seed", range(25))
def test_no_other_threshold_is_better(seed: int) -> None:
    """In predictions with the threshold, and of those as good none is higher."""
    detections, targets = random_scene(seed)
    voc = evaluate_voc(detections, targets, 3)
    for label, best in enumerate(best_thresholds(voc)):
        scores = np.unique(voc.classes[label].scores)
        tried = [-1.0, *((scores[1:] + scores[:-1]) / 2)]
        values = [plain_f1(detections, targets, label, threshold) for threshold in tried]
        if best is None:
            assert max(values) == 0
            continue
        assert plain_f1(detections, targets, label, best.threshold) == best.f1 == max(values)
        higher = [
            value
            for value, threshold in zip(values, tried, strict=True)
            if threshold > scores[scores > best.threshold].min()
        ]
        assert not higher or max(higher) < best.f1


def test_f1_at_any_threshold() -> None:
    detections, targets = random_scene(3)
    for label, result in enumerate(evaluate_voc(detections, targets, 3).classes):
        for threshold in (0.0, 0.33, 0.5, 0.97, 1.0):
            expected = plain_f1(detections, targets, label, np.nextafter(threshold, -1))
            assert f1_at(result, threshold) == pytest.approx(expected)
