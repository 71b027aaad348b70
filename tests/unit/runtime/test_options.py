"""Which detections a prediction keeps: one threshold for all, those of the detector, chosen classes, the best."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from vovnet.runtime.options import Selection, check_options, select_by, shown_thresholds

NAMES = ("a", "b", "c")


def select(
    score_threshold: float | None = None,
    stored: Sequence[float] | None = None,
    classes: str | None = None,
    top_k: int = 100,
) -> Selection:
    return select_by(score_threshold=score_threshold, stored=stored, top_k=top_k, classes=classes, class_names=NAMES)


def test_which_thresholds_hold() -> None:
    assert select() == Selection(0.3, 100)
    assert select(0.6, top_k=7) == select(0.6, [0.1, 0.2, 0.9], top_k=7) == Selection(0.6, 7)
    assert select(0.0, [0.1, 0.2, 0.9]).score_threshold == 0
    assert select(stored=[0.1, 0.2, 0.9]) == Selection((0.1, 0.2, 0.9), 100)
    assert select(stored=[0.5] * 3) == Selection(0.5, 100)
    assert select(stored=[0.1, 0.2, 0.9], classes="b") == Selection((math.inf, 0.2, math.inf), 100)


@pytest.mark.parametrize("options", [{"score_threshold": 1.1}, {"score_threshold": float("nan")}, {"top_k": 0}])
def test_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        check_options(**{"score_threshold": None, "top_k": 100, "batch_size": 8, **options})


def test_shown() -> None:
    assert shown_thresholds((0.35, 0.5), ("a", "b")) == (
        "score thresholds, stored with the detector: a 0.35, b 0.5; --score-threshold gives one for all"
    )
