"""Timing several things fairly: in turn, in one run, so that their ratios hold when the machine's speed drifts."""

from __future__ import annotations

import gc
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch

WARMUP_ROUNDS = 3  # at least
STEADY_CALLS = 10  # whose median is compared with that of as many before


@dataclass(frozen=True)
class Latency:
    """Seconds of each repetition of one thing, in the order they were taken."""

    seconds: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        return 1e3 * statistics.median(self.seconds)

    @property
    def interval_ms(self) -> tuple[float, float]:
        """95 % interval of the median, see `median_interval`."""
        low, high = median_interval(self.seconds)
        return 1e3 * low, 1e3 * high

    @property
    def spread(self) -> float:
        """The range of the middle half of the repetitions over their median: 0.02 is quiet, 0.2 is not."""
        return (self.percentile_ms(75) - self.percentile_ms(25)) / self.median_ms

    def percentile_ms(self, percent: int) -> float:
        return 1e3 * float(np.percentile(self.seconds, percent))


@dataclass(frozen=True)
class Ratio:
    """The median of the ratios pair by pair, and its 95 % interval."""

    median: float
    interval: tuple[float, float]


def median_ratio(numerator: Latency, denominator: Latency) -> Ratio:
    """How many times as long the numerator takes; both from one call of `time_interleaved`.

    A pair was timed in one round, so a speed of the machine that drifts over many rounds cancels. What does not cancel
    widens the interval, see `median_interval`. It speaks of this run: where memory came to lie is not redrawn in it.
    """
    pairs = zip(numerator.seconds, denominator.seconds, strict=True)
    ratios = [a / b for a, b in pairs]
    return Ratio(statistics.median(ratios), median_interval(ratios))


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the median of values in the order they were taken, whatever their distribution.

    Its ends are two of the values: independent ones lie below the true median as often as a fair coin shows heads.
    Values that follow each other are often alike, because a disturbance outlasts a pass; the variance of that count is
    then (1 + r) / (1 - r) times as large, with r the correlation of "above or below" between neighbours, and the ends
    move outwards. At most, and with fewer than 9 values always, they are the least and the greatest; with fewer than 6
    even these hold the median in less than 95 % of cases.
    """
    ordered, count = sorted(values), len(values)
    sides = np.sign(np.asarray(values) - statistics.median(values))
    alike = max(0.0, float(sides[:-1] @ sides[1:]) / max(1.0, float(sides @ sides)))  # below 1: a product fewer
    halfwidth = 1.96 * math.sqrt(count * (1 + alike) / (1 - alike))
    outside = max(0, math.floor((count - 1 - halfwidth) / 2))  # -1: the count is whole, the normal curve is not
    return ordered[outside], ordered[-1 - outside]


def is_stable(seconds: Sequence[float], calls: int) -> bool:
    """Whether the median of the last `calls` is within 2 % of that of as many before them."""
    if len(seconds) < 2 * calls:
        return False
    before, after = statistics.median(seconds[-2 * calls : -calls]), statistics.median(seconds[-calls:])
    return abs(after - before) <= 0.02 * before


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given; a CPU always has. Raises ValueError for a device whose way of
    waiting is not known: its times would be wrong."""
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
    """Call every function `repetitions` times in turn, A B C, A B C …, and wait for `device` after each call.

    Before that come rounds that do not count: at least 3, until each function's times were stable (`is_stable`, 10
    calls) or `warmup_limit_s` is over; what then still drifts shows in the intervals. during: entered after the
    warm-up and left after the last call, such as `surroundings.watch(device)`. Python's garbage collector rests.
    """
    if repetitions < 1:
        raise ValueError(f"repetitions must be at least 1, got {repetitions}")
    device = torch.device(device)
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    with _no_garbage_collection():
        _warm_up(functions, device, warmup_limit_s)
        with during or nullcontext():
            for _ in range(repetitions):
                for name, function in functions.items():
                    seconds[name].append(_time(function, device))
    return {name: Latency(tuple(values)) for name, values in seconds.items()}


def _warm_up(functions: Mapping[str, Callable[[], object]], device: torch.device, limit_s: float) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    unstable, rounds, end_s = set(functions), 0, perf_counter() + limit_s
    while unstable and (rounds < WARMUP_ROUNDS or perf_counter() < end_s):
        for name, function in functions.items():
            seconds[name].append(_time(function, device))
        unstable -= {name for name in unstable if is_stable(seconds[name], STEADY_CALLS)}
        rounds += 1


def _time(function: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    started = perf_counter()
    function()
    synchronize(device)
    return perf_counter() - started


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collect now and not again before the end: it would fall into some passes and not into others."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
