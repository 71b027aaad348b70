"""Joules per image, measured by a named method, with an interval; or the reason why they could not be measured.

The methods are never mixed:
  counter  the energy counter of the GPU, read at both ends of a window, each time at a refresh of the counter
  sampled  the integral (trapezoid rule) of power read every 20 ms; instantaneous power where the driver has it
  paper    the mean of power read every 100 ms, divided by images per second: Eq. (2) of the VoVNet paper, with idle
           power included
  rapl     the energy counter of the CPU packages, read like "counter"
  meter    the integral of power logged by an external meter
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain, pairwise
from typing import Literal, get_args

import numpy as np

from vovnet.printing import SENTENCE, line
from vovnet.profiling.clock import Clock
from vovnet.profiling.energy.meter import Meter
from vovnet.profiling.energy.recording import COUNTERS, LARGEST_GAP_S, Recording, Session, Timeline, Window
from vovnet.profiling.energy.sensors import DeviceState, Method, NoSensor, Sensor, Source
from vovnet.profiling.intervals import Interval, mean_interval
from vovnet.profiling.ranges import NonNegative
from vovnet.profiling.surroundings import OTHER_CORES, device_warnings

AnyMethod = Method | Literal["auto"]
DISPUTED_ABOVE = 1.10  # ratio of two methods in the same windows
REFUTED_ABOVE = 4.0  # the same; a board that measures a quarter of the time can be wrong by less
WORK_ABOVE_IDLE = 1.01  # ratio of power that a counter of the device that works has at least


@dataclass(frozen=True)
class MethodResult:
    """Joules per image by one method: the median over the trials, and the 95 % Student-t interval of their mean.

    The interval shows how much the trials vary, not the error of the sensor; it is None with a single trial.

    energy_j_per_image: with idle power.
    above_idle_j_per_image: without idle power; it can be negative.
    samples_per_trial: readings of power in a window; 0 for a counter.
    """

    method: Method
    source: Source
    energy_j_per_image: NonNegative
    energy_interval_j: Interval | None
    above_idle_j_per_image: float
    above_idle_interval_j: Interval | None
    power_w: NonNegative
    idle_power_w: tuple[float, ...]  # before and after
    samples_per_trial: int
    trials_j_per_image: tuple[float, ...]

    def __str__(self) -> str:
        interval, source = self.energy_interval_j, self.source
        spread = "one trial, no interval" if interval is None else f"95 %: {interval[0]:.4g} – {interval[1]:.4g}"
        count = f", {self.samples_per_trial} samples per window" if self.samples_per_trial else ""
        return (
            f"{self.energy_j_per_image:.4g} J/image ({spread}), above idle {self.above_idle_j_per_image:.4g}, "
            f"measured by {self.method}: {source.name}, {source.meaning}{count}"
        )


@dataclass(frozen=True)
class EnergyResult:
    """Joules per image, or None and the `reason`.

    figure: the result of the main method.
    check: the result of a second method in the same windows.
    disputed: the two differ by more than 10 %.
    notes: warnings, as sentences.
    """

    energy_j_per_image: NonNegative | None
    images_per_second: NonNegative | None = None
    figure: MethodResult | None = None
    check: MethodResult | None = None
    disputed: bool = False
    reason: str | None = None
    notes: tuple[str, ...] = ()
    recording: Recording | None = None

    def __str__(self) -> str:
        if self.figure is None:
            return line(f"energy not measured: {self.reason}", SENTENCE)
        lines = [str(self.figure)]
        if self.disputed:
            lines = ["disputed: two methods differ by more than 10 %", *lines, str(self.check)]
        return "\n".join(line(text, SENTENCE) for text in (*lines, *self.notes))


def measure_energy(
    run: Callable[[], int],
    sensor: Sensor | Meter | NoSensor,
    *,
    method: AnyMethod = "auto",
    timeline: Timeline | None = None,
    clock: Clock | None = None,
    tick_s: float | None = None,
    on_trial: Callable[[int], object] = lambda done: None,
) -> EnergyResult:
    """Joules per image of `run`. Nothing else may use the device, since a sensor measures the whole device.

    run: one iteration, until the device has finished; returns its number of images.
    method: "auto" reads a counter and checks it against sampled power in the same windows. Without a working counter
        it uses sampled power, then the log of a meter.
    tick_s: of an earlier recording, whose counter passed its test: it is not tested again, which takes 2 s.
    on_trial: called with the number of finished trials.

    Raises ValueError for an unknown method.
    """
    if method != "auto" and method not in get_args(Method):
        raise ValueError(f"method must be auto or one of {', '.join(get_args(Method))}, got {method!r}")
    if isinstance(sensor, NoSensor):
        return EnergyResult(None, reason=sensor.reason)
    candidates: tuple[Method, ...] = ("counter", "rapl", "sampled", "meter") if method == "auto" else (method,)
    methods = [candidate for candidate in candidates if candidate in sensor.sources]
    if not methods:
        available = ", ".join(sensor.sources) or "nothing"
        missing = {} if isinstance(sensor, Meter) else sensor.missing
        why = "".join(f"; {name}: {missing[name]}" for name in candidates if name in missing)
        return EnergyResult(
            None, reason=f"{sensor.name} has no source for the method {method!r}, only {available}{why}"
        )
    clock = clock or Clock()
    if not isinstance(sensor, Meter) and (fault := _unreadable(sensor, methods, clock)):
        return EnergyResult(None, reason=fault)
    session = Session(run, sensor, methods, timeline or Timeline(), clock, tick_s)
    return evaluate(session.record(on_trial))


def _unreadable(sensor: Sensor, methods: Sequence[Method], clock: Clock) -> str | None:
    """Why none of the methods gave a reading for as long as a sensor may fail; None as soon as one did.

    So nobody waits minutes for the reason why there is no result.
    """
    end_s, faults = clock.now() + LARGEST_GAP_S, dict[Method, str]()
    while True:
        for method in methods:
            try:
                sensor.read(method)
            except OSError as error:
                faults[method] = error.strerror or str(error)
            else:
                return None
        if clock.now() >= end_s:
            return "; ".join(f"no result from {method}: {fault}" for method, fault in faults.items())
        clock.sleep(0.1)


def evaluate(recording: Recording, meter: Meter | None = None) -> EnergyResult:
    """The result of a recording; with `meter`, of its log in the windows of the recording.

    The clocks of the meter and of this machine must agree.
    """
    if meter is not None:
        recording = replace(recording, sources=dict(meter.sources), samples=tuple(meter.samples()), dropouts=0)
    results, faults = [], list[str]()
    for method in recording.sources:
        try:
            results.append(_method_result(recording, method))
        except ValueError as error:
            faults.append(f"no result from {method}: {error}")
    if fault := _contradiction(results):
        results, faults = [], [*faults, fault]
    if not results:
        failed = [f"{recording.dropouts} readings failed"] if recording.dropouts else []
        return EnergyResult(None, reason="; ".join([*recording.notes, *faults, *failed]), recording=recording)
    result, check = results[0], results[1] if len(results) > 1 else None
    energies_j = [method_result.energy_j_per_image for method_result in results[:2]]
    return EnergyResult(
        energy_j_per_image=result.energy_j_per_image,
        images_per_second=statistics.median(window.images / window.seconds for window in recording.trials),
        figure=result,
        check=check,
        disputed=max(energies_j) > DISPUTED_ABOVE * min(energies_j),
        notes=(*recording.notes, *faults, *_warnings(recording, result)),
        recording=recording,
    )


def _method_result(recording: Recording, method: Method) -> MethodResult:
    powers_w = [_power_w(recording, method, window) for window in recording.trials]
    idle_w = [_power_w(recording, method, window) for window in recording.idle]
    seconds_per_image = [window.seconds / window.images for window in recording.trials]
    gross = [power_w * image_s for power_w, image_s in zip(powers_w, seconds_per_image, strict=True)]
    above = [j - statistics.mean(idle_w) * image_s for j, image_s in zip(gross, seconds_per_image, strict=True)]
    counts = [0 if method in COUNTERS else len(window.select(recording.samples)) for window in recording.trials]
    return MethodResult(
        method=method,
        source=recording.sources[method],
        energy_j_per_image=statistics.median(gross),
        energy_interval_j=mean_interval(gross),
        above_idle_j_per_image=statistics.median(above),
        above_idle_interval_j=mean_interval(above),
        power_w=statistics.median(powers_w),
        idle_power_w=tuple(idle_w),
        samples_per_trial=round(statistics.median(counts)),
        trials_j_per_image=tuple(gross),
    )


def _contradiction(results: Sequence[MethodResult]) -> str | None:
    """Why the results cannot be of the device that worked."""
    for result in results:
        idle_w = statistics.mean(result.idle_power_w)
        if result.method == "counter" and result.power_w <= WORK_ABOVE_IDLE * idle_w:
            power = f"{result.power_w:.1f} W during the work and {idle_w:.1f} W at idle"
            return f"the counter gives {power}: it does not see the work, as if it were of another device"
    energies_j = [result.energy_j_per_image for result in results]
    if results and max(energies_j) > REFUTED_ABOVE * min(energies_j):
        values = " and ".join(f"{result.energy_j_per_image:.4g} J/image by {result.method}" for result in results)
        return f"{values} contradict each other: one of them is not of this device, or not in its unit"
    return None


def _power_w(recording: Recording, method: Method, window: Window) -> float:
    """Mean power in a window; this is all that differs between the methods. Raises ValueError if it is unknown."""
    limit_w = recording.sources[method].limit_w
    if method in COUNTERS:
        if window.counter_fault is not None:
            raise ValueError(window.counter_fault)
        if window.counter_j is None:
            raise ValueError("the counter was not read at both ends of every window")
        if window.counter_j <= 0:
            raise ValueError(f"the counter rose by {window.counter_j:.4g} J in a window of {window.seconds:.1f} s")
        if (power_w := window.counter_j / window.seconds) > limit_w:
            raise ValueError(f"the counter gives {power_w:.4g} W, of at most {limit_w:.4g} W that are possible")
        return power_w
    edges_s = (window.start_s, window.end_s)
    inside, samples = window.select(recording.samples), recording.samples
    if not inside:
        where = f"; the readings lie {_between(samples[0].time_s, samples[-1].time_s)}" if samples else ""
        raise ValueError(f"no power reading {_between(*edges_s)}{where}")
    times_s = [window.start_s, *(sample.time_s for sample in inside), window.end_s]
    if (gap_s := max(b - a for a, b in pairwise(times_s))) > LARGEST_GAP_S:
        raise ValueError(f"power is unknown for {gap_s:.1f} s of a window of {window.seconds:.1f} s")
    near = replace(window, start_s=window.start_s - LARGEST_GAP_S, end_s=window.end_s + LARGEST_GAP_S)
    if wrong := [sample for sample in near.select(samples) if not 0 <= sample.power_w <= limit_w]:
        raise ValueError(
            f"{wrong[0].power_w:.4g} W was read at {_iso(wrong[0].time_s)}, but only 0 to {limit_w:.4g} W are possible"
        )
    if window in recording.trials and not any(sample.power_w for sample in inside):
        raise ValueError(f"power was 0 W in a whole window of {window.seconds:.1f} s of work")
    if method == "paper":
        return statistics.mean(sample.power_w for sample in inside)
    first_w, last_w = np.interp(edges_s, *np.array(samples).T)
    powers_w = [first_w, *(sample.power_w for sample in inside), last_w]
    return np.trapezoid(powers_w, times_s).item() / window.seconds


def _between(start_s: float, end_s: float) -> str:
    return f"between {_iso(start_s)} and {_iso(end_s)}"


def _iso(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="seconds")


def _warnings(recording: Recording, result: MethodResult) -> Iterator[str]:
    """Sentences on what makes the result doubtful."""
    states = [window.select(recording.conditions) for window in recording.trials]
    yield from device_warnings(list(chain(*states)))
    if (cores := max(map(_other_cores, states))) > OTHER_CORES:
        yield f"other processes kept {cores:.1f} CPU cores busy"
    if max(result.idle_power_w) > 1.1 * min(result.idle_power_w):
        yield "idle power changed: " + ", ".join(f"{power_w:.1f} W" for power_w in result.idle_power_w)
    if result.power_w <= (idle_w := statistics.mean(result.idle_power_w)):
        power = f"{result.power_w:.1f} W during the work is no more than the {idle_w:.1f} W at idle"
        yield f"{power}: what was measured may not be the device that worked, or its clock may be off"
    if recording.dropouts:
        yield f"{recording.dropouts} readings failed and were left out"
    shortest_s = min(window.seconds for window in recording.trials)
    if (result.source.window_s or 0) >= 1 and shortest_s < 5:
        yield f"a window of {shortest_s:.1f} s is short for power averaged over {result.source.window_s:g} s"


def _other_cores(states: Sequence[DeviceState]) -> float:
    """Mean number of CPU cores that other processes kept busy; 0 if unknown."""
    known = [(state.time_s, state.other_cpu_s) for state in states if state.other_cpu_s is not None]
    if len(known) < 2:
        return 0.0
    (start_s, start_cpu_s), (end_s, end_cpu_s) = known[0], known[-1]
    return (end_cpu_s - start_cpu_s) / (end_s - start_s)
