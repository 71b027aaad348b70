"""Timing functions fairly, and the statistics of their times.

The functions are called in turn in one run, so that the ratios of their times hold even if the machine's speed drifts.
All medians, percentiles, intervals and throughputs of times are computed by `Latency` and `median_ratio`.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from vovnet.profiling.intervals import Interval, median_interval
from vovnet.profiling.ranges import Positive

MIN_WARMUP_ROUNDS = 3
STABLE_CALLS = 10  # their median is compared with that of the 10 calls before


@dataclass(frozen=True)
class MeasuredValue:
    """A median and its 95 % interval, see `median_interval`."""

    median: Positive
    interval: tuple[Positive, Positive]


@dataclass(frozen=True)
class Latency:
    """Seconds of each timed pass, in the order in which they were taken."""

    seconds: Annotated[tuple[Positive, ...], Field(min_length=1)]

    @property
    def median_ms(self) -> float:
        return 1e3 * statistics.median(self.seconds)

    @property
    def interval_ms(self) -> Interval:
        """95 % interval of the median, see `median_interval`."""
        low, high = median_interval(self.seconds)
        return 1e3 * low, 1e3 * high

    @property
    def spread(self) -> float:
        """Interquartile range over the median: 0.02 is quiet, 0.2 is not."""
        return (self.percentile_ms(75) - self.percentile_ms(25)) / self.median_ms

    def percentile_ms(self, percent: int) -> float:
        return 1e3 * float(np.percentile(self.seconds, percent))

    def resolves(self, percent: int) -> bool:
        """Whether enough passes were timed that a high percentile is not just the longest of them."""
        return len(self.seconds) * (100 - percent) >= 100

    def throughput(self, amount: float) -> MeasuredValue:
        """What one pass does (a number of images or multiply-adds), per second."""
        fast_ms, slow_ms = self.interval_ms
        return MeasuredValue(amount / self.median_ms * 1e3, (amount / slow_ms * 1e3, amount / fast_ms * 1e3))

    def to_dict(self) -> dict[str, Any]:
        """The times with their statistics, ready for JSON."""
        return {
            **{f"p{percent}_ms": self.percentile_ms(percent) for percent in (10, 90, 99)},
            "median_ms": self.median_ms,
            "spread": self.spread,
            "interval_ms": self.interval_ms,
            "seconds": self.seconds,
        }


def median_ratio(numerator: Latency, denominator: Latency) -> MeasuredValue:
    """How many times as long the numerator takes: the median of the ratios of pairs of passes.

    Both must come from one call of `time_interleaved`: the two passes of a pair belong to one round, so a slow drift of
    the machine's speed cancels, and what does not cancel widens the interval. The interval is valid for this run only:
    another run can place memory differently.
    """
    ratios = [above / below for above, below in zip(numerator.seconds, denominator.seconds, strict=True)]
    return MeasuredValue(statistics.median(ratios), median_interval(ratios))


def is_stable(seconds: Sequence[float], calls: int) -> bool:
    """Whether the median of the last `calls` times is within 2 % of the median of as many times before them."""
    if len(seconds) < 2 * calls:
        return False
    before, after = statistics.median(seconds[-2 * calls : -calls]), statistics.median(seconds[-calls:])
    return abs(after - before) <= 0.02 * before


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work; a CPU always has.

    Raises ValueError for a type of device that this function cannot wait for, since its times would be wrong.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    elif device.type != "cpu":
        raise ValueError(f"the device to time must be cpu, cuda or mps, got {device}")


def time_interleaved(
    functions: Mapping[str, Callable[[], object]],
    *,
    repetitions: int,
    device: str | torch.device = "cpu",
    warmup_limit_s: float = 10.0,
    during: AbstractContextManager[object] | None = None,
) -> dict[str, Latency]:
    """The times of every function, called in turn: A B C, A B C …

    The clock stops when `device` has finished a call. Warm-up rounds come first and do not count: at least 3, until the
    times of each function are stable (`is_stable` over 10 calls) or `warmup_limit_s` has passed. Drift that remains
    shows in the intervals. Python's garbage collector is off meanwhile.

    during: a context entered after the warm-up and left after the last call, such as `surroundings.watch(device)`.
    """
    if repetitions < 1:
        raise ValueError(f"repetitions must be at least 1, got {repetitions}")
    device = torch.device(device)
    warm_up, timed = ({name: list[float]() for name in functions} for _ in range(2))
    with _no_garbage_collection():
        unstable, rounds, end_s = set(functions), 0, perf_counter() + warmup_limit_s
        while unstable and (rounds < MIN_WARMUP_ROUNDS or perf_counter() < end_s):
            _time_round(functions, device, warm_up)
            unstable -= {name for name in unstable if is_stable(warm_up[name], STABLE_CALLS)}
            rounds += 1
        with during or nullcontext():
            for _ in range(repetitions):
                _time_round(functions, device, timed)
    return {name: Latency(tuple(seconds)) for name, seconds in timed.items()}


def _time_round(
    functions: Mapping[str, Callable[[], object]], device: torch.device, seconds: dict[str, list[float]]
) -> None:
    """Call each function once, and append its time to `seconds`."""
    for name, function in functions.items():
        synchronize(device)
        started = perf_counter()
        function()
        synchronize(device)
        seconds[name].append(perf_counter() - started)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collect garbage now and not again inside: otherwise a collection would fall into some passes only."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
