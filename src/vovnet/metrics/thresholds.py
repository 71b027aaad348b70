"""For each class the score threshold with the best balance of precision and recall, from its precision-recall curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vovnet.metrics.voc import ClassResult, VocResult

_DIGITS = range(2, 18)


@dataclass(frozen=True)
class BestThreshold:
    """A score threshold, and what remains above it: F1 is the harmonic mean of precision and recall."""

    threshold: float
    f1: float
    precision: float
    recall: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "score_threshold": self.threshold,
            "f1": round(self.f1, 6),
            "precision": round(self.precision, 6),
            "recall": round(self.recall, 6),
        }


def f1_scores(result: ClassResult) -> npt.NDArray[np.float64]:
    """F1 of the best detection, the two best, and so on: 2 · true positives / (detections + objects)."""
    kept = np.arange(1, result.n_detections + 1)
    true_positives = np.rint(result.precision * kept)
    scores: npt.NDArray[np.float64] = 2 * true_positives / (kept + result.n_objects)
    return scores


def f1_at(result: ClassResult, threshold: float) -> float:
    """F1 of the detections with a score of at least the threshold; 0 without any."""
    kept = int(np.count_nonzero(result.scores >= threshold))
    return float(f1_scores(result)[kept - 1]) if kept else 0.0


def best_threshold(result: ClassResult) -> BestThreshold | None:
    """The threshold that maximises F1 by VOC's matching; None for a class without objects or true positives.

    Of several that do, the highest: it lies midway between the lowest score that it keeps and the next lower one, or 0,
    because a network in another runtime gives slightly other scores, and rounded as far as it stays between them.
    """
    f1 = f1_scores(result)
    if not result.n_objects or not f1.any():
        return None
    scores = result.scores
    lower = np.append(scores[1:], 0.0)
    f1[scores == lower] = -1.0  # no threshold comes between equal scores
    best = int(f1.argmax())
    threshold = _between(float(lower[best]), float(scores[best]))
    return BestThreshold(threshold, float(f1[best]), float(result.precision[best]), float(result.recall[best]))


def best_thresholds(result: VocResult) -> tuple[BestThreshold | None, ...]:
    """`best_threshold` of each class, in label order."""
    return tuple(map(best_threshold, result.classes))


def _between(low: float, high: float) -> float:
    """The middle, with as few decimals as keep it between the two."""
    middle = (low + high) / 2
    return next((value for digits in _DIGITS if low < (value := round(middle, digits)) < high), middle)
