"""How much reading a sensor slows down what is measured with it."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import nullcontext

import torch

from vovnet.profiling.clock import Clock
from vovnet.profiling.energy.recording import Session, Timeline
from vovnet.profiling.energy.sensors import Method, Sensor
from vovnet.profiling.intervals import median_interval
from vovnet.profiling.speed import MeasuredValue, synchronize

METHODS: tuple[Method, ...] = ("counter", "rapl", "sampled")  # those that "auto" reads together


def sampler_effect(
    run: Callable[[], int],
    sensor: Sensor,
    *,
    device: str | torch.device = "cpu",
    pairs: int = 20,
    stretch_s: float = 0.5,
    clock: Clock | None = None,
) -> MeasuredValue:
    """How many times as long a pass takes while the sensor is read as during a measurement of energy: 1 is no effect.

    Stretches of passes with and without the readings follow one another, each pair in the other order than the one
    before, so that a drift of the device's speed cancels. Of a stretch the mean pass counts, since readings may
    lengthen few passes by much.

    run: one pass, which may still be running when it returns; returns its number of images.
    stretch_s: length of a stretch. Power is read every 20 ms and the counter every 250 ms.

    Returns the median of the ratios of the pairs, with its 95 % interval. Raises ValueError for a sensor without any
    value to read, and OSError if no reading succeeded, since the ratio then says nothing.
    """
    methods = [method for method in METHODS if method in sensor.sources]
    if not methods:
        raise ValueError(f"{sensor.name} has nothing to read while a model runs")
    if pairs < 1 or not stretch_s > 0:
        raise ValueError(f"pairs must be at least 1 and stretch_s above 0, got {pairs} and {stretch_s:g}")
    clock, device = clock or Clock(), torch.device(device)
    session = Session(run, sensor, methods, Timeline(), clock)

    def mean_s(sampled: bool) -> float:
        with session.sampling() if sampled else nullcontext():
            began_s, passes = clock.now(), 0
            while (elapsed_s := clock.now() - began_s) < stretch_s:
                run()
                synchronize(device)
                passes += 1
        return elapsed_s / passes

    mean_s(sampled=False)  # the warm-up of the device
    mean_s(sampled=True)
    ratios = []
    for pair in range(pairs):
        means_s = {sampled: mean_s(sampled) for sampled in ((False, True) if pair % 2 else (True, False))}
        ratios.append(means_s[True] / means_s[False])
    if not session.samples and session.last_j is None:
        raise OSError(f"no reading of {sensor.name} succeeded")
    return MeasuredValue(statistics.median(ratios), median_interval(ratios))
