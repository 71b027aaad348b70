"""Whether truncating or rounding gives the printed digits, and the milliseconds behind printed FPS."""

from __future__ import annotations

from decimal import Decimal

import pytest

from vovnet.paper.rounding import how_equal, whole_ms


@pytest.mark.parametrize(
    ("value", "printed", "how"),
    [
        ("5.971932", "5.9", "truncated"),
        ("5.833372", "5.9", None),
        ("63.459460", "63.46", "rounded"),
        ("1.204969", "1.2", ""),
        ("32.6555", "32.6", "truncated"),
        ("42.536", "42", "truncated"),
        ("2.5", "3", "rounded"),
        ("6.0", "5.9", None),
    ],
)
def test_truncated_or_rounded(value, printed, how):
    assert how_equal(Decimal(value), printed) == how


@pytest.mark.parametrize(
    ("fps", "ms"), [("37", 27), ("35", 28), ("71", 14), ("23.2", 43), ("12.0", 83), ("25.0", 40), ("12.7", 79)]
)
def test_whole_milliseconds_behind_fps(fps, ms):
    assert whole_ms(fps) == ms
