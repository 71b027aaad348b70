"""Timing several things fairly: in turn, in one run, so that their ratios hold when the machine's speed drifts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Latency:
    """Seconds of each repetition of one thing."""

    seconds: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        return 1e3 * statistics.median(self.seconds)

    def percentile_ms(self, percent: int) -> float:
        return 1e3 * statistics.quantiles(self.seconds, n=100, method="inclusive")[percent - 1]


def time_interleaved(
    functions: Mapping[str, Callable[[], object]], *, repetitions: int, warmup: int = 3
) -> dict[str, Latency]:
    """Call every function `repetitions` times in turn, A B A B …, after `warmup` rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for repetition in range(-warmup, repetitions):
        for name, function in functions.items():
            _synchronize()
            started = time.perf_counter()
            function()
            _synchronize()
            if repetition >= 0:
                seconds[name].append(time.perf_counter() - started)
    return {name: Latency(tuple(values)) for name, values in seconds.items()}


def median_ratio(numerator: Latency, denominator: Latency) -> float:
    """The median of the ratios pair by pair."""
    pairs = zip(numerator.seconds, denominator.seconds, strict=True)
    return statistics.median(a / b for a, b in pairs)


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
