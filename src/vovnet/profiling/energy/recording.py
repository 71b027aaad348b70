"""Recording power and energy of repeated work along a fixed timeline. energy.py computes joules per image from it.

    idle │ warm-up │ random delay │ lead │ tick ├── window ──┤ tick │ cool-down │ … more trials … │ idle

A tick is a refresh of the energy counter. The work runs without a break from the lead to the closing tick, so power has
risen before the window begins. Energy, time and images come from the same window. An iteration that lies only partly
in the window counts in proportion to its time inside.
"""

from __future__ import annotations

import math
import random
import statistics
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TypeVar

import numpy as np

from vovnet.profiling.clock import Clock
from vovnet.profiling.energy.meter import Meter
from vovnet.profiling.energy.sensors import CounterError, DeviceState, Method, Sample, Sensor, Source
from vovnet.profiling.speed import is_stable

COUNTERS: tuple[Method, ...] = ("counter", "rapl")
SAMPLING_S: dict[Method, float] = {"sampled": 0.020, "paper": 0.100}
POLL_S = 0.002  # between two readings of a counter while waiting for its next refresh
CHECK_S = 0.25  # between two readings of a counter at all other times
LARGEST_GAP_S = 2.0  # if power is unknown, or a counter stands still, for longer in a window, there is no result

Reading = TypeVar("Reading", Sample, DeviceState)


@dataclass(frozen=True)
class Timeline:
    """How long each part of a measurement takes. The window ends when it meets all three of its minima."""

    trials: int = 5
    idle_s: float = 5.0
    warmup_s: float = 2.0  # at least, and until the median of 20 iterations is within 2 % of the 20 before
    warmup_limit_s: float = 30.0
    delay_s: float = 0.1  # upper limit of a random delay, so that trials start at different phases of the sensor
    lead_s: float = 1.0
    window_s: float = 10.0
    window_ticks: int = 100
    window_iterations: int = 32
    cooldown_c: float = 2.0  # cool down to at most this much above the temperature before the first trial
    cooldown_limit_s: float = 60.0

    def __post_init__(self) -> None:
        finite = all(map(math.isfinite, vars(self).values()))
        if not finite or self.trials < 1 or self.idle_s <= 0 or self.window_s <= 0:
            needs = "at least one trial, idle_s and window_s above 0, and finite values"
            raise ValueError(f"a timeline needs {needs}, got {self}")


@dataclass(frozen=True)
class Window:
    """A stretch of time, the images processed in it, and the joules that the counter rose by.

    images: a fraction where an iteration lies only partly in the window.
    counter_j: None without a counter.
    counter_fault: what the counter did in the window that makes `counter_j` wrong, as a sentence.
    """

    start_s: float
    end_s: float
    images: float
    counter_j: float | None
    counter_fault: str | None = None

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s

    def select(self, readings: Iterable[Reading]) -> list[Reading]:
        """Those taken inside this window."""
        return [reading for reading in readings if self.start_s <= reading.time_s <= self.end_s]


@dataclass(frozen=True)
class Recording:
    """Everything that was read; `energy.evaluate` computes joules per image from it. Times are in seconds since 1970.

    sources: the first method gives the result, the second checks it.
    tick_s: time between two refreshes of the counter; None without a working counter.
    dropouts: readings that failed.
    """

    device: str
    driver: str | None
    timeline: Timeline
    sources: dict[Method, Source]
    tick_s: float | None
    idle: tuple[Window, ...]
    trials: tuple[Window, ...]
    samples: tuple[Sample, ...]
    dropouts: int
    conditions: tuple[DeviceState, ...]
    notes: tuple[str, ...]


class Session:
    """One pass through the timeline. It collects readings and computes nothing from them."""

    def __init__(
        self,
        run: Callable[[], int],
        sensor: Sensor | Meter,
        methods: list[Method],
        timeline: Timeline,
        clock: Clock,
        tick_s: float | None = None,
    ) -> None:
        self.run, self.sensor, self.methods, self.timeline, self.clock = run, sensor, methods, timeline, clock
        self.counter = next((method for method in methods if method in COUNTERS), None)
        self.tick_s = tick_s if self.counter else None  # known once the counter has passed its test
        self.lock = threading.Lock()
        self.last_j: tuple[float, float] | None = None  # the last reading of the counter, with its time
        self.risen_s = clock.now()  # when the counter last rose
        self.counter_faults: list[tuple[float, str]] = []
        self.times_s, self.images = [clock.now()], [0]  # number of images finished at each time
        self.iterations = self.dropouts = 0
        self.samples: list[Sample] = []
        self.states: list[DeviceState] = []
        self.notes: list[str] = []

    def record(self, on_trial: Callable[[int], object]) -> Recording:
        timeline, trials = self.timeline, list[Window]()
        with self.sampling():
            if self.counter and self.tick_s is None:
                self.test_counter()
            idle = [self.window(self.rest, timeline.idle_s)]
            first_c = self.temperature_c()
            while len(trials) < timeline.trials:
                self.warm_up()
                self.clock.sleep(random.uniform(0, timeline.delay_s))
                self.work_for(timeline.lead_s)
                ticks_s = timeline.window_ticks * (self.tick_s or 0)
                trials.append(self.window(self.work, max(timeline.window_s, ticks_s), timeline.window_iterations))
                self.cool_down(first_c)
                on_trial(len(trials))
            idle.append(self.window(self.rest, timeline.idle_s))
            self.clock.sleep(0.2)  # for one reading of power after the last window
        return Recording(
            device=self.sensor.name,
            driver=self.sensor.driver,
            timeline=timeline,
            sources={method: self.sensor.sources[method] for method in self.methods},
            tick_s=self.tick_s,
            idle=tuple(idle),
            trials=tuple(trials),
            samples=tuple(self.sensor.samples() if isinstance(self.sensor, Meter) else self.samples),
            dropouts=self.dropouts,
            conditions=tuple(self.states),
            notes=tuple(self.notes),
        )

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Inside, all that the methods need is read in parallel to what happens."""
        with ExitStack() as in_parallel:
            in_parallel.enter_context(self.clock.every(1.0, self.observe))
            for method in SAMPLING_S.keys() & set(self.methods):
                in_parallel.enter_context(self.clock.every(SAMPLING_S[method], partial(self.sample, method)))
            if self.counter:
                in_parallel.enter_context(self.clock.every(CHECK_S, partial(self.read, self.counter)))
            yield

    # In parallel to the work ----------------------------------------------------------------------------------------

    def observe(self) -> None:
        self.states.append(self.sensor.state(self.clock.now()))

    def sample(self, method: Method) -> None:
        if (power_w := self.read(method)) is not None:
            self.samples.append(Sample(self.clock.now(), power_w))

    def read(self, method: Method) -> float | None:
        assert not isinstance(self.sensor, Meter)  # its log is read at the end
        with self.lock:  # two threads read the counter, and a sensor that adds up its rises is not made for that
            try:
                value = self.sensor.read(method)
            except CounterError as fault:
                self.counter_faults.append((self.clock.now(), str(fault)))
                return None
            except OSError:
                self.dropouts += 1
                return None
            if not math.isfinite(value):
                self.dropouts += 1
                return None
            if method == self.counter:
                self.check_counter(method, value)
            return value

    def check_counter(self, method: Method, energy_j: float) -> None:
        """Note what makes the joules of a window wrong: what no device draws, and time in which nothing is known."""
        now_s, limit_w = self.clock.now(), self.sensor.sources[method].limit_w
        last_s, last_j = self.last_j or (now_s, energy_j)
        self.last_j, rise_j, seconds = (now_s, energy_j), energy_j - last_j, now_s - last_s
        if rise_j:
            self.risen_s = now_s
        fault = None
        if seconds > LARGEST_GAP_S:
            fault = f"the counter was not read for {seconds:.1f} s: reading failed, or the machine was suspended"
        elif not self.sensor.sources[method].is_believable(rise_j, seconds):
            most = f"; at most {limit_w:.0f} W are possible" if rise_j > 0 else "; it was set back"
            fault = f"the counter rose by {rise_j:.4g} J in {seconds:.1f} s{most}"
        elif now_s - self.risen_s > LARGEST_GAP_S:
            fault = f"the counter stood still for {now_s - self.risen_s:.1f} s"
        if fault:
            self.counter_faults.append((now_s, fault))

    # The parts of the timeline --------------------------------------------------------------------------------------

    @contextmanager
    def refreshes(self, poll_s: float) -> Iterator[list[tuple[float, float]]]:
        """Time and joules of the counter's first reading and, while the `with` statement runs, of each change."""
        readings: list[tuple[float, float]] = []
        counter = self.counter
        assert counter is not None

        def poll() -> None:
            energy_j = self.read(counter)
            if energy_j is not None and (not readings or energy_j != readings[-1][1]):
                readings.append((self.clock.now(), energy_j))

        with self.clock.every(poll_s, poll):
            yield readings

    def test_counter(self) -> None:
        """Sets `tick_s` if the counter never falls and is refreshed at least twice a second, else adds a note."""
        with self.refreshes(0.005) as refreshes:
            self.clock.sleep(2.0)
        times_s, energies_j = [time_s for time_s, _ in refreshes], [energy_j for _, energy_j in refreshes]
        if energies_j != sorted(energies_j):
            self.notes.append("the energy counter failed its test: it fell")
        elif len(refreshes) < 5:
            self.notes.append(f"the energy counter failed its test: {max(len(refreshes) - 1, 0)} refreshes in 2 s")
        else:
            self.tick_s = statistics.median(b - a for a, b in pairwise(times_s[1:]))

    def warm_up(self) -> None:
        timeline, durations_s = self.timeline, list[float]()
        began_s = self.clock.now()
        while (elapsed_s := self.clock.now() - began_s) < timeline.warmup_limit_s:
            durations_s.append(self.work())
            if elapsed_s >= timeline.warmup_s and is_stable(durations_s, 20):
                return
        self.notes.append(f"the time of an iteration was not stable after {timeline.warmup_limit_s:g} s of warm-up")

    def window(self, advance: Callable[[], object], minimum_s: float, iterations: int = 0) -> Window:
        """A window of at least `minimum_s` and `iterations`. advance: one step of the work, or of idling."""
        start_s, start_j = self.edge(advance)
        iterations += self.iterations
        while self.clock.now() - start_s < minimum_s or self.iterations < iterations:
            advance()
        end_s, end_j = self.edge(advance)
        images = np.diff(np.interp([start_s, end_s], self.times_s, self.images)).item()
        counter_j = None if start_j is None or end_j is None else end_j - start_j
        faults = (fault for time_s, fault in list(self.counter_faults) if start_s < time_s <= end_s)
        return Window(start_s, end_s, images, counter_j, next(faults, None))

    def edge(self, advance: Callable[[], object]) -> tuple[float, float | None]:
        """Time and joules at an end of a window: at the next refresh of the counter, until which `advance` continues.

        Without a counter it is now, and joules are None.
        """
        if self.tick_s is None:
            return self.clock.now(), None
        limit_s = self.clock.now() + 2.0
        with self.refreshes(POLL_S) as refreshes:
            while len(refreshes) < 2 and self.clock.now() < limit_s:
                advance()
        return refreshes[1] if len(refreshes) > 1 else (self.clock.now(), None)

    def cool_down(self, target_c: float | None) -> None:
        if target_c is None:
            return  # the device reports no temperature
        limit_s = self.clock.now() + self.timeline.cooldown_limit_s
        while (now_c := self.temperature_c()) is not None and now_c > target_c + self.timeline.cooldown_c:
            if self.clock.now() >= limit_s:
                self.notes.append(f"{now_c:g} °C after cool-down, but the first trial began at {target_c:g} °C")
                return
            self.clock.sleep(0.5)

    def temperature_c(self) -> float | None:
        return self.sensor.state(self.clock.now()).temperature_c

    def work_for(self, seconds: float) -> None:
        end_s = self.clock.now() + seconds
        while self.clock.now() < end_s:
            self.work()

    def work(self) -> float:
        """Run one iteration and return its seconds."""
        began_s = self.clock.now()
        images = self.run()
        ended_s = self.clock.now()
        if not isinstance(images, int) or images < 1:
            raise ValueError(f"run must return the number of images it processed, at least 1, got {images!r}")
        self.times_s += [began_s, ended_s]
        self.images += [self.images[-1], self.images[-1] + images]
        self.iterations += 1
        return ended_s - began_s

    def rest(self) -> None:
        self.clock.sleep(0.02)
