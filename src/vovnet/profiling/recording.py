"""Recording the energy of repeated work along a fixed timeline; what it means is computed afterwards, in energy.py.

    idle │ warm-up │ random delay │ lead │ tick ├── window ──┤ tick │ cool-down │ … more trials … │ idle

The work runs without a break from the lead to the closing tick, so the rise of power lies before the window. Energy,
time and images come from the same window; an iteration that a tick cuts counts by the share of its time inside.
"""

from __future__ import annotations

import math
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Protocol

import numpy as np

from vovnet.profiling.sensors import Conditions, Meter, Method, Sample, Sensor, Source
from vovnet.profiling.speed import is_stable

COUNTERS: tuple[Method, ...] = ("counter", "rapl")
SAMPLING_S: dict[Method, float] = {"sampled": 0.020, "paper": 0.100}
POLL_S = 0.002  # how closely a refresh of a counter is caught


@dataclass(frozen=True)
class Timeline:
    """How long each part of a measurement takes. The window ends when all three of its minima are met."""

    trials: int = 5
    idle_s: float = 5.0
    warmup_s: float = 2.0  # at least; until the median of 20 iterations is within 2 % of the 20 before
    warmup_limit_s: float = 30.0
    delay_s: float = 0.1  # a random share of it, so that trials meet the sensor at different phases
    lead_s: float = 1.0
    window_s: float = 10.0
    window_ticks: int = 100
    window_iterations: int = 32
    cooldown_c: float = 2.0  # until at most this above the temperature at which the first trial began
    cooldown_limit_s: float = 60.0

    def __post_init__(self) -> None:
        finite = all(map(math.isfinite, vars(self).values()))
        if not finite or self.trials < 1 or self.idle_s <= 0 or self.window_s <= 0:
            raise ValueError(f"a timeline needs a trial, idle and window longer than 0 s, and an end, got {self}")


@dataclass(frozen=True)
class Window:
    """A stretch of time, the images done in it (not whole at a tick) and the joules counted, if by a counter."""

    start_s: float
    end_s: float
    images: float
    counter_j: float | None

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True)
class Recording:
    """All that was read, from which `evaluate` makes the figures. Times in seconds since 1970."""

    device: str
    driver: str | None
    timeline: Timeline
    sources: dict[Method, Source]  # the first gives the figure, the second checks it
    tick_s: float | None  # between two refreshes of the counter
    idle: tuple[Window, ...]
    trials: tuple[Window, ...]
    samples: tuple[Sample, ...]
    dropouts: int
    conditions: tuple[Conditions, ...]
    notes: tuple[str, ...]


class Clock(Protocol):
    """Time as a measurement sees it."""

    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...

    def every(self, interval_s: float, function: Callable[[], object]) -> AbstractContextManager[None]:
        """Call the function at once and then at this interval, beside the body of the `with`."""


class RealClock:
    """Seconds since 1970 that never step back, as a meter's log needs them and a measurement too."""

    _offset = time.time() - time.perf_counter()

    def now(self) -> float:
        return self._offset + time.perf_counter()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    @contextmanager
    def every(self, interval_s: float, function: Callable[[], object]) -> Iterator[None]:
        stop = threading.Event()

        def beat() -> None:
            due = time.perf_counter()
            while not stop.is_set():
                function()
                due = max(due + interval_s, time.perf_counter())  # beats that were missed are not made up for
                stop.wait(due - time.perf_counter())

        with ThreadPoolExecutor(1) as pool:
            beating = pool.submit(beat)
            try:
                yield
            finally:
                stop.set()
            beating.result()  # an error over there is an error here


class Session:
    """One pass along the timeline. What it reads goes into lists; nothing is computed here."""

    def __init__(
        self, run: Callable[[], int], sensor: Sensor | Meter, methods: list[Method], timeline: Timeline, clock: Clock
    ) -> None:
        self.run, self.sensor, self.methods, self.timeline, self.clock = run, sensor, methods, timeline, clock
        self.counter = next((method for method in methods if method in COUNTERS), None)
        self.tick_s: float | None = None  # set when the counter has passed its test
        self.times_s, self.images = [clock.now()], [0]  # images done by the time beside them
        self.iterations = self.dropouts = 0
        self.samples: list[Sample] = []
        self.conditions: list[Conditions] = []
        self.notes: list[str] = []

    def record(self, on_trial: Callable[[int], object]) -> Recording:
        timeline, trials = self.timeline, list[Window]()
        with ExitStack() as beside:
            beside.enter_context(self.clock.every(1.0, self.observe))
            for method in SAMPLING_S.keys() & set(self.methods):
                beside.enter_context(self.clock.every(SAMPLING_S[method], partial(self.sample, method)))
            if self.counter:
                self.test_counter(self.counter)
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
            self.clock.sleep(0.2)  # so that one reading of power lies behind the last window
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
            conditions=tuple(self.conditions),
            notes=tuple(self.notes),
        )

    # Beside the work ------------------------------------------------------------------------------------------------

    def observe(self) -> None:
        self.conditions.append(self.sensor.conditions(self.clock.now()))

    def sample(self, method: Method) -> None:
        if (power_w := self.read(method)) is not None:
            self.samples.append(Sample(self.clock.now(), power_w))

    def read(self, method: Method) -> float | None:
        assert not isinstance(self.sensor, Meter)  # which is read when all is over
        try:
            return self.sensor.read(method)
        except OSError:
            self.dropouts += 1
            return None

    # The parts of the timeline --------------------------------------------------------------------------------------

    def test_counter(self, counter: Method) -> None:
        """A counter must rise, never fall, and be refreshed at least twice a second: then its tick is known."""
        seen: list[tuple[float, float]] = []

        def poll() -> None:
            energy_j = self.read(counter)
            if energy_j is not None and (not seen or energy_j != seen[-1][1]):
                seen.append((self.clock.now(), energy_j))

        with self.clock.every(0.005, poll):
            self.clock.sleep(2.0)
        times_s, energies_j = [time_s for time_s, _ in seen], [energy_j for _, energy_j in seen]
        if energies_j != sorted(energies_j):
            self.notes.append("the energy counter failed its test: it fell")
        elif len(seen) < 5:
            self.notes.append(f"the energy counter failed its test: {max(len(seen) - 1, 0)} refreshes in 2 s")
        else:
            self.tick_s = statistics.median(b - a for a, b in pairwise(times_s[1:]))

    def warm_up(self) -> None:
        timeline, durations_s = self.timeline, list[float]()
        began_s = self.clock.now()
        while (elapsed_s := self.clock.now() - began_s) < timeline.warmup_limit_s:
            durations_s.append(self.work())
            if elapsed_s >= timeline.warmup_s and is_stable(durations_s, 20):
                return
        self.notes.append(f"iterations were not steady after {timeline.warmup_limit_s:g} s of warm-up")

    def window(self, advance: Callable[[], object], minimum_s: float, iterations: int = 0) -> Window:
        start_s, start_j = self.mark(advance)
        iterations += self.iterations
        while self.clock.now() - start_s < minimum_s or self.iterations < iterations:
            advance()
        end_s, end_j = self.mark(advance)
        images = np.diff(np.interp([start_s, end_s], self.times_s, self.images)).item()
        return Window(start_s, end_s, images, None if start_j is None or end_j is None else end_j - start_j)

    def mark(self, advance: Callable[[], object]) -> tuple[float, float | None]:
        """The time, or that of the counter's next refresh and its value; `advance` goes on with the work until then."""
        if self.counter is None or self.tick_s is None:
            return self.clock.now(), None
        counter, seen = self.counter, list[tuple[float, float]]()

        def poll() -> None:
            energy_j = self.read(counter) if len(seen) < 2 else None
            if energy_j is not None and (not seen or energy_j > seen[0][1]):
                seen.append((self.clock.now(), energy_j))

        limit_s = self.clock.now() + 2.0
        with self.clock.every(POLL_S, poll):
            while len(seen) < 2 and self.clock.now() < limit_s:
                advance()
        return seen[1] if len(seen) == 2 else (self.clock.now(), None)

    def cool_down(self, target_c: float | None) -> None:
        if target_c is None:
            return  # no thermometer
        limit_s = self.clock.now() + self.timeline.cooldown_limit_s
        while (now_c := self.temperature_c()) is not None and now_c > target_c + self.timeline.cooldown_c:
            if self.clock.now() >= limit_s:
                self.notes.append(f"{now_c:g} °C after cool-down, the first trial began at {target_c:g} °C")
                return
            self.clock.sleep(0.5)

    def temperature_c(self) -> float | None:
        return self.sensor.conditions(self.clock.now()).temperature_c

    def work_for(self, seconds: float) -> None:
        end_s = self.clock.now() + seconds
        while self.clock.now() < end_s:
            self.work()

    def work(self) -> float:
        """Seconds of one iteration."""
        began_s = self.clock.now()
        images = self.run()
        ended_s = self.clock.now()
        if not isinstance(images, int) or images < 1:
            raise ValueError(f"run must return the number of images it has done, at least 1, got {images!r}")
        self.times_s += [began_s, ended_s]
        self.images += [self.images[-1], self.images[-1] + images]
        self.iterations += 1
        return ended_s - began_s

    def rest(self) -> None:
        self.clock.sleep(0.02)
