from __future__ import annotations

import time

import pytest

from vovnet.profiling.clock import Clock


def test_the_real_clock_calls_in_parallel_and_raises_errors() -> None:
    clock, beats = Clock(), list[float]()
    assert abs(clock.now() - time.time()) < 1
    with clock.every(0.01, lambda: beats.append(clock.now())):
        clock.sleep(0.2)
    count = len(beats)
    assert 5 <= count <= 22
    clock.sleep(0.05)
    assert len(beats) == count
    with pytest.raises(ZeroDivisionError), clock.every(0.01, lambda: 1 / 0):
        clock.sleep(0.02)
