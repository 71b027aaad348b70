"""One score threshold for all classes, or one for each."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vovnet.runtime.selection import select_images
from vovnet.runtime.session import Rows
from vovnet.runtime.thresholds import ScoreThreshold, is_above, lowest, threshold_of_parts

LABELS, SCORES = np.array([2, 0, 1, 1, 0]), np.array([0.95, 0.8, 0.3, 0.15, 0.05], np.float32)


@pytest.mark.parametrize(
    ("threshold", "above"),
    [
        (0.2, [0, 1, 2]),
        (0.3, [0, 1]),  # 0.3 is not above 0.3, in float32 as in the networks
        ((0.1, 0.2, 0.9), [0, 1, 2]),
        ((0.1, 0.1, 0.96), [1, 2, 3]),
        ((math.inf, 0.2, math.inf), [2]),
    ],
)
def test_which_scores_count(threshold: ScoreThreshold, above: list[int]) -> None:
    assert np.flatnonzero(is_above(SCORES, LABELS, threshold)).tolist() == above
    assert is_above(SCORES[:0], LABELS[:0], threshold).shape == (0,)


def test_the_lowest_is_what_a_network_gets_that_takes_one() -> None:
    assert (lowest(0.4), lowest(0), lowest((0.4, 0.2, 0.9)), lowest((math.inf, math.inf, 0.9))) == (0.4, 0, 0.2, 0.9)


def test_half_of_it_counts_in_a_tile() -> None:
    assert threshold_of_parts(0.3) == 0.15
    assert threshold_of_parts((0.3, math.inf)) == (0.15, math.inf)


@pytest.mark.parametrize(("top_k", "kept"), [(9, [0.95, 0.8, 0.3]), (2, [0.95, 0.8])])
def test_the_best_are_those_of_what_passed(top_k: int, kept: list[float]) -> None:
    """What its class's threshold drops takes no place among the best, in any order of the rows."""
    order = np.array([3, 1, 4, 0, 2])
    boxes, image = np.zeros((5, 4), np.float32), np.zeros(5, np.int64)
    rows = Rows(image, boxes, LABELS[order], SCORES[order])
    (found,) = select_images(rows, [(9, 9)], (9, 9), score_threshold=(0.1, 0.2, 0.9), top_k=top_k)
    assert found.scores.tolist() == np.array(kept, np.float32).tolist()
