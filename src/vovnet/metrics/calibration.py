"""Calibration of scores: whether of the detections with a score near 0.7, seven in ten are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vovnet.metrics.voc import ClassResult, VocResult

BINS = 10


@dataclass(frozen=True)
class CalibrationBin:
    """The detections whose scores lie in [low, high), in the last bin up to and with 1.

    score, precision: their mean score, and the share of true positives; None without detections.
    """

    low: float
    high: float
    detections: int
    score: float | None
    precision: float | None


@dataclass(frozen=True)
class Calibration:
    """The reliability curve of one class or of all.

    error: expected calibration error: the mean over all detections of |score − precision| of their bin; None without
        detections.
    bias: mean score less precision of all detections: above 0, scores promise too much.
    """

    bins: tuple[CalibrationBin, ...]
    error: float | None
    bias: float | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "bins": [vars(item) for item in self.bins],
            "expected_calibration_error": self.error,
            "bias": self.bias,
        }


def calibrate(scores: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_]) -> Calibration:
    """The reliability curve of detections with these scores, in ten bins of equal width."""
    place = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    counts, score_sums, correct_sums = (
        np.bincount(place, weights, minlength=BINS) for weights in (None, scores, correct.astype(np.float64))
    )
    bins = tuple(
        CalibrationBin(
            number / BINS,
            (number + 1) / BINS,
            int(count),
            float(score_sum / count) if count else None,
            float(correct_sum / count) if count else None,
        )
        for number, (count, score_sum, correct_sum) in enumerate(zip(counts, score_sums, correct_sums, strict=True))
    )
    if not len(scores):
        return Calibration(bins, None, None)
    gaps = np.abs(score_sums - correct_sums).sum() / len(scores)
    return Calibration(bins, float(gaps), float((score_sums.sum() - correct_sums.sum()) / len(scores)))


def calibrate_class(result: ClassResult) -> Calibration:
    """Of the detections of one class, matched as for VOC's average precision; ignored ones do not count."""
    return calibrate(result.scores, _correct(result))


def calibrate_all(result: VocResult) -> Calibration:
    """Of the detections of all classes together."""
    classes: Sequence[ClassResult] = result.classes
    return calibrate(
        np.concatenate([np.empty(0), *(c.scores for c in classes)]),
        np.concatenate([np.empty(0, np.bool_), *(_correct(c) for c in classes)]),
    )


def _correct(result: ClassResult) -> npt.NDArray[np.bool_]:
    """Whether each detection is a true positive."""
    true_positives = np.rint(result.precision * np.arange(1, result.n_detections + 1))
    return np.diff(true_positives, prepend=0.0) > 0
