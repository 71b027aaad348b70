from __future__ import annotations

import time

import pytest

from vovnet.profiling.clock import RealClock


def test_the_real_clock_beats_beside_the_work_and_hands_errors_on() -> None:
    clock, beats = RealClock(), list[float]()
    assert abs(clock.now() - time.time()) < 1
    with clock.every(0.01, lambda: beats.append(clock.now())):
        clock.sleep(0.2)
    count = len(beats)
    assert 5 <= count <= 22
    clock.sleep(0.05)
    assert len(beats) == count
    with pytest.raises(ZeroDivisionError), clock.every(0.01, lambda: 1 / 0):
        clock.sleep(0.02)
