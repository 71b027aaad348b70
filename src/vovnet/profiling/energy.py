"""Joules per image, measured by a named method, with an interval; or the reason why there is no figure.

Methods, which are never mixed:
  counter  NVML's energy counter, read at the two ends of a window, each at a refresh of the counter
  sampled  the integral (trapezoid) of power read every 20 ms, instantaneous power where the driver has it
  paper    the mean of power read every 100 ms, over images per second: Eq. (2) of the VoVNet paper, idle included
  rapl     the counter of the CPU packages, read like "counter"
  meter    the integral of power logged by an external meter
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Literal, get_args

import numpy as np

from vovnet.profiling.recording import COUNTERS, Clock, RealClock, Recording, Session, Timeline, Window
from vovnet.profiling.sensors import Meter, Method, NoSensor, Sample, Sensor, Source
from vovnet.profiling.surroundings import OTHER_CORES

LARGEST_GAP_S = 2.0  # a window in which power is unknown for longer has no figure
DISPUTED_ABOVE = 1.10  # ratio of two methods in the same windows


@dataclass(frozen=True)
class Figure:
    """Joules per image by one method: the median over trials, and the 95 % Student-t interval of their mean.

    Gross includes what the device draws when idle. The interval shows how trials scatter, not the sensor's own error.
    None with a single trial.
    """

    method: Method
    source: Source
    energy_j_per_image: float
    energy_interval_j: tuple[float, float] | None
    above_idle_j_per_image: float
    above_idle_interval_j: tuple[float, float] | None
    power_w: float
    idle_power_w: tuple[float, ...]  # before and after
    samples_per_trial: int  # readings of power in a window; 0 for a counter
    trials_j_per_image: tuple[float, ...]


@dataclass(frozen=True)
class EnergyResult:
    """What was measured. `figure` is the answer; `check` is a second method in the same windows; they are disputed
    when more than 10 % apart. Without a figure, `reason` says why and `energy_j_per_image` is None."""

    energy_j_per_image: float | None
    images_per_second: float | None = None
    figure: Figure | None = None
    check: Figure | None = None
    disputed: bool = False
    reason: str | None = None
    notes: tuple[str, ...] = ()
    recording: Recording | None = None

    def __str__(self) -> str:
        if self.figure is None:
            return f"energy not measured: {self.reason}"
        lines = ["disputed: two methods differ by more than 10 %"] if self.disputed else []
        for one in (self.figure, self.check) if self.disputed else (self.figure,):
            assert one is not None
            interval = one.energy_interval_j
            spread = "one trial, no interval" if interval is None else f"95 %: {interval[0]:.4g} – {interval[1]:.4g}"
            count = f", {one.samples_per_trial} samples a window" if one.samples_per_trial else ""
            lines.append(
                f"{one.energy_j_per_image:.4g} J/image ({spread}), above idle {one.above_idle_j_per_image:.4g}, "
                f"measured by {one.method}: {one.source.name}, {one.source.meaning}{count}"
            )
        return "\n".join([*lines, *self.notes])


def measure_energy(
    run: Callable[[], int],
    sensor: Sensor | Meter | NoSensor,
    *,
    method: Method | Literal["auto"] = "auto",
    timeline: Timeline | None = None,
    clock: Clock | None = None,
    on_trial: Callable[[int], object] = lambda done: None,
) -> EnergyResult:
    """Joules per image of `run`, which does one iteration and returns how many images that were.

    `run` must wait for its device: its work is over when it returns. "auto" takes a counter and checks it against
    sampled power in the same windows; without a working counter it takes sampled power, then a meter's log.
    `on_trial` is told the number of trials done. Needs nobody else on the device: figures are of the whole of it.
    """
    if method != "auto" and method not in get_args(Method):
        raise ValueError(f"method must be auto or one of {', '.join(get_args(Method))}, got {method!r}")
    if isinstance(sensor, NoSensor):
        return EnergyResult(None, reason=sensor.reason)
    wanted: tuple[Method, ...] = ("counter", "rapl", "sampled", "meter") if method == "auto" else (method,)
    methods = [one for one in wanted if one in sensor.sources]
    if not methods:
        has = ", ".join(sensor.sources) or "nothing"
        return EnergyResult(None, reason=f"{sensor.name} has nothing to read for {method!r}; it has {has}")
    session = Session(run, sensor, methods, timeline or Timeline(), clock or RealClock())
    return evaluate(session.record(on_trial))


def evaluate(recording: Recording, meter: Meter | None = None) -> EnergyResult:
    """The figures of a recording, or those of a meter's log in the windows of it; the two clocks must agree."""
    if meter is not None:
        recording = replace(recording, sources=dict(meter.sources), samples=tuple(meter.samples()), dropouts=0)
    figures, faults = [], list[str]()
    for method in recording.sources:
        try:
            figures.append(_figure(recording, method))
        except ValueError as error:
            faults.append(f"no figure by {method}: {error}")
    if not figures:
        return EnergyResult(None, reason="; ".join([*recording.notes, *faults]), recording=recording)
    figure, check = figures[0], figures[1] if len(figures) > 1 else None
    disputed = False
    if check is not None:
        low, high = sorted((figure.energy_j_per_image, check.energy_j_per_image))
        disputed = high > DISPUTED_ABOVE * low
    return EnergyResult(
        energy_j_per_image=figure.energy_j_per_image,
        images_per_second=statistics.median(window.images / window.seconds for window in recording.trials),
        figure=figure,
        check=check,
        disputed=disputed,
        notes=(*recording.notes, *faults, *_doubts(recording, figure)),
        recording=recording,
    )


def _figure(recording: Recording, method: Method) -> Figure:
    powers_w = [_power_w(recording, method, window) for window in recording.trials]
    idle_w = [_power_w(recording, method, window) for window in recording.idle]
    seconds_per_image = [window.seconds / window.images for window in recording.trials]
    gross = [power_w * each_s for power_w, each_s in zip(powers_w, seconds_per_image, strict=True)]
    above = [j - statistics.mean(idle_w) * each_s for j, each_s in zip(gross, seconds_per_image, strict=True)]
    counts = [0 if method in COUNTERS else len(_inside(recording.samples, window)) for window in recording.trials]
    return Figure(
        method=method,
        source=recording.sources[method],
        energy_j_per_image=statistics.median(gross),
        energy_interval_j=_interval(gross),
        above_idle_j_per_image=statistics.median(above),
        above_idle_interval_j=_interval(above),
        power_w=statistics.median(powers_w),
        idle_power_w=tuple(idle_w),
        samples_per_trial=round(statistics.median(counts)),
        trials_j_per_image=tuple(gross),
    )


def _power_w(recording: Recording, method: Method, window: Window) -> float:
    """Mean power in a window: the only thing in which the methods differ."""
    if method in COUNTERS:
        if window.counter_j is None:
            raise ValueError("the counter was not read at both ends of every window")
        if window.counter_j <= 0:
            raise ValueError(f"the counter rose by {window.counter_j:.4g} J in a window of {window.seconds:.1f} s")
        return window.counter_j / window.seconds
    inside = _inside(recording.samples, window)
    if not inside:
        where = (
            f"; they lie {_between(recording.samples[0].time_s, recording.samples[-1].time_s)}"
            if recording.samples
            else ""
        )
        raise ValueError(f"no reading of power {_between(window.start_s, window.end_s)}{where}")
    edges_s = (window.start_s, window.end_s)
    times_s = [edges_s[0], *(sample.time_s for sample in inside), edges_s[1]]
    if (gap_s := max(b - a for a, b in pairwise(times_s))) > LARGEST_GAP_S:
        raise ValueError(f"power is unknown for {gap_s:.1f} s of a window of {window.seconds:.1f} s")
    if method == "paper":
        return statistics.mean(sample.power_w for sample in inside)
    first_w, last_w = np.interp(edges_s, *np.array(recording.samples).T)
    powers_w = [first_w, *(sample.power_w for sample in inside), last_w]
    return np.trapezoid(powers_w, times_s).item() / window.seconds


def _between(*times_s: float) -> str:
    start, end = (datetime.fromtimestamp(time_s, UTC).isoformat(timespec="seconds") for time_s in times_s)
    return f"between {start} and {end}"


def _inside(samples: Sequence[Sample], window: Window) -> list[Sample]:
    return [sample for sample in samples if window.start_s <= sample.time_s <= window.end_s]


def _interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % for the mean by Student's t; its quantile by the series in 1/df, which is good from df = 5 on."""
    if len(values) < 2:
        return None
    df, z = len(values) - 1, 1.959964
    series = z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)
    series += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * df**3)
    quantile = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764}.get(df, series)
    half = quantile * statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values) - half, statistics.mean(values) + half


def _doubts(recording: Recording, figure: Figure) -> Iterator[str]:
    """What was not as it should be."""
    seen = [one for one in recording.conditions if any(w.start_s <= one.time_s <= w.end_s for w in recording.trials)]
    if reasons := sorted({reason for one in seen for reason in one.throttle_reasons}):
        yield f"the device throttled: {', '.join(reasons)}"
    if others := sorted({process for one in seen for process in one.other_processes}):
        yield f"other processes were on the device: {', '.join(map(str, others))}"
    if (cores := max((_other_cores(recording, window) for window in recording.trials), default=0)) > OTHER_CORES:
        yield f"other processes kept {cores:.1f} CPU cores busy"
    clocks = [one.clock_mhz for one in seen if one.clock_mhz]
    if clocks and max(clocks) > 1.05 * min(clocks):
        yield f"the clock moved between {min(clocks):.0f} and {max(clocks):.0f} MHz"
    if max(figure.idle_power_w) > 1.1 * min(figure.idle_power_w):
        yield "idle power differed: " + ", ".join(f"{power_w:.1f} W" for power_w in figure.idle_power_w)
    if recording.dropouts:
        yield f"{recording.dropouts} readings failed and were left out"
    shortest_s = min(window.seconds for window in recording.trials)
    if (figure.source.window_s or 0) >= 1 and shortest_s < 5:
        yield f"a window of {shortest_s:.1f} s is short for power averaged over {figure.source.window_s:g} s"


def _other_cores(recording: Recording, window: Window) -> float:
    """How many CPU cores others kept busy in a window, as far as is known."""
    inside = [one for one in recording.conditions if window.start_s <= one.time_s <= window.end_s]
    known = [(one.time_s, one.other_cpu_s) for one in inside if one.other_cpu_s is not None]
    if len(known) < 2:
        return 0.0
    (start_s, start_cpu_s), (end_s, end_cpu_s) = known[0], known[-1]
    return (end_cpu_s - start_cpu_s) / (end_s - start_s)
