"""Calibration: by hand, and of scores that mean what they say."""

from __future__ import annotations

import numpy as np
import pytest

from vovnet.metrics.calibration import calibrate, calibrate_all, calibrate_class
from vovnet.metrics.voc import evaluate_voc

from .made import random_scene


def test_by_hand() -> None:
    calibration = calibrate(np.array([0.95, 0.85, 0.85, 0.1, 1.0]), np.array([True, True, False, False, False]))
    counts = [item.detections for item in calibration.bins]
    assert counts == [0, 1, 0, 0, 0, 0, 0, 0, 2, 2]  # 0.1 begins its bin, 1 belongs to the last
    last = calibration.bins[-1]
    assert (last.low, last.high, last.precision) == (0.9, 1.0, 0.5)
    assert last.score == pytest.approx(0.975)
    assert calibration.bins[0].score is None
    assert calibration.error == pytest.approx((2 * 0.475 + 2 * 0.35 + 0.1) / 5)
    assert calibration.bias == pytest.approx(3.75 / 5 - 2 / 5)


def test_scores_that_mean_what_they_say() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(200_000)
    assert calibrate(scores, rng.random(200_000) < scores).error < 0.005
    flattering = calibrate(scores, rng.random(200_000) < scores**2)
    assert flattering.error == pytest.approx(1 / 6, abs=0.01) == flattering.bias


def test_no_detections() -> None:
    calibration = calibrate(np.empty(0), np.empty(0, np.bool_))
    assert (calibration.error, calibration.bias, sum(item.detections for item in calibration.bins)) == (None, None, 0)


@pytest.mark.parametrize("seed", range(5))
def test_all_classes_add_up(seed: int) -> None:
    detections, targets = random_scene(seed)
    voc = evaluate_voc(detections, targets, 3)
    together, parts = calibrate_all(voc), [calibrate_class(result) for result in voc.classes]
    for number, item in enumerate(together.bins):
        own = [part.bins[number] for part in parts]
        assert item.detections == sum(part.detections for part in own)
        right = sum(part.detections * (part.precision or 0) for part in own)
        assert item.detections * (item.precision or 0) == pytest.approx(right)
    true_positives = sum(round(result.recall[-1] * result.n_objects) for result in voc.classes if result.n_detections)
    assert sum(item.detections * (item.precision or 0) for item in together.bins) == pytest.approx(true_positives)
