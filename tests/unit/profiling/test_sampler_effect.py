"""Whether readings lengthen passes, on a device whose time is known."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from vovnet.profiling.energy.sensors import DeviceState, Method, Source
from vovnet.profiling.sampler_effect import sampler_effect

from .simulated import VirtualClock


class Sensor:
    """Each reading makes the pass that runs longer.

    drift: by which a pass is longer than the one before, as a fraction.
    """

    name, driver = "simulated", None
    missing: Mapping[Method, str] = {}

    def __init__(self, cost_s: float = 0.0, *, drift: float = 0.0, methods: tuple[Method, ...] = ("sampled",)) -> None:
        self.clock, self.cost_s, self.drift = VirtualClock(), cost_s, drift
        self.sources: Mapping[Method, Source] = {method: Source("power", "as simulated") for method in methods}
        self.waiting, self.pass_s, self.broken, self.reads = 0, 0.01, False, list[Method]()

    def read(self, method: Method) -> float:
        self.reads.append(method)
        self.waiting += 1
        if self.broken:
            raise OSError("broken")
        return 100.0

    def state(self, time_s: float) -> DeviceState:
        return DeviceState(time_s)

    def run(self) -> int:
        waited_s, self.waiting = self.waiting * self.cost_s, 0
        self.clock.sleep(self.pass_s + waited_s)
        self.pass_s *= 1 + self.drift
        return 1


def effect(sensor: Sensor, pairs: int = 20) -> float:
    clock: object = sensor.clock
    return sampler_effect(sensor.run, sensor, pairs=pairs, clock=clock).median  # type: ignore[arg-type]


def test_readings_that_cost_nothing_have_no_effect() -> None:
    assert effect(Sensor()) == pytest.approx(1, abs=1e-9)


def test_readings_that_take_time_are_seen() -> None:
    """50 readings a second of a millisecond each: 1 / (1 - 0.05)."""
    assert effect(Sensor(0.001)) == pytest.approx(1.05, abs=0.01)


def test_a_device_that_becomes_slower_is_not_taken_for_an_effect() -> None:
    assert effect(Sensor(drift=1e-4)) == pytest.approx(1, abs=0.003)


def test_all_that_a_measurement_reads_is_read() -> None:
    sensor = Sensor(methods=("counter", "sampled", "paper"))
    effect(sensor, pairs=1)
    assert set(sensor.reads) == {"counter", "sampled"}


@pytest.mark.parametrize("methods", [(), ("meter",)])
def test_a_sensor_without_readings_is_an_error(methods: tuple[Method, ...]) -> None:
    with pytest.raises(ValueError, match="simulated has nothing to read"):
        effect(Sensor(methods=methods))


def test_readings_that_all_fail_say_nothing() -> None:
    sensor = Sensor()
    sensor.broken = True
    with pytest.raises(OSError, match="no reading of simulated succeeded"):
        effect(sensor, pairs=1)


@pytest.mark.parametrize(("pairs", "stretch_s"), [(0, 1.0), (1, 0.0)])
def test_what_cannot_be_compared(pairs: int, stretch_s: float) -> None:
    sensor = Sensor()
    with pytest.raises(ValueError, match="pairs must be at least 1 and stretch_s above 0"):
        sampler_effect(sensor.run, sensor, pairs=pairs, stretch_s=stretch_s)
