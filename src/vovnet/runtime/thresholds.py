"""Score thresholds: one for all classes, or one for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

ScoreThreshold = float | Sequence[float]
"""One for all classes, or one for each, in label order; infinite for a class that is left out."""


def is_above(
    scores: npt.NDArray[np.float32], labels: npt.NDArray[Any], threshold: ScoreThreshold
) -> npt.NDArray[np.bool_]:
    """(D,): whether each score is above the threshold of its class. The comparison is that of the networks: float32."""
    thresholds = np.asarray(threshold, np.float32)
    above: npt.NDArray[np.bool_] = scores > (thresholds[labels] if thresholds.ndim else thresholds)
    return above


def lowest(threshold: ScoreThreshold) -> float:
    """The threshold for all classes together, for a network that takes only one."""
    return threshold if isinstance(threshold, float | int) else min(threshold)


def threshold_of_parts(threshold: ScoreThreshold) -> ScoreThreshold:
    """The lowest score that counts in a tile: half of that in the image.

    So a fragment with a higher score does not remain because the object's box, a little below the threshold, is gone.
    """
    return threshold / 2 if isinstance(threshold, float | int) else tuple(value / 2 for value in threshold)
