"""The clock of a measurement. Tests replace it by virtual time."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


def _running_s() -> float:
    """Seconds since an arbitrary moment, those of a suspended machine too, unlike `perf_counter` on Linux and macOS."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":
        return time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.perf_counter()


class Clock:
    """Seconds since 1970, as in the log of a meter, that never step back, as a measurement needs them."""

    _offset = time.time() - _running_s()

    def now(self) -> float:
        return self._offset + _running_s()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    @contextmanager
    def every(self, interval_s: float, function: Callable[[], object]) -> Iterator[None]:
        """Call `function` at once and then at this interval, in parallel to the body of the `with` statement."""
        stop = threading.Event()

        def repeat() -> None:
            due = time.perf_counter()
            while not stop.is_set():
                function()
                due = max(due + interval_s, time.perf_counter())  # missed calls are not made up for
                stop.wait(due - time.perf_counter())

        with ThreadPoolExecutor(1) as pool:
            repetition = pool.submit(repeat)
            try:
                yield
            finally:
                stop.set()
            repetition.result()  # raises what `function` raised in the thread
