"""Readings that no device gives: there is a reason and no result, never a number."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from vovnet.profiling.clock import Clock
from vovnet.profiling.energy.measured import EnergyResult, evaluate, measure_energy
from vovnet.profiling.energy.nvml import Nvml
from vovnet.profiling.energy.rapl import Rapl
from vovnet.profiling.energy.recording import Recording, Timeline, Window
from vovnet.profiling.energy.sensors import CounterError, Method, NoSensor, Sample, Source
from vovnet.profiling.energy.zeus import ZeusChip, find_zeus_gpu
from vovnet.profiling.measurement import read_measurements, write_measurements

from .complete import MEASUREMENT
from .protocol import SHORTER
from .simulated import H100, Device, FakeNvml, FakeSys

Change = Callable[[float, float], float]  # seconds since the start and the true value → the value that is read


def measured(change: Change, method: str = "counter", device: Device | None = None) -> EnergyResult:
    """A measurement on an H100 whose readings of `method` are changed.

    The first window is at about 5.3 to 8.4 s with a counter, which is tested first, and at 3.2 to 6.2 s without.
    """
    device = device or Device()
    sensor = Nvml(FakeNvml(device, H100), "handle")
    start_s, read = device.clock.now(), sensor.read

    def changed(asked: str) -> float:
        value = read(asked)
        return change(device.clock.now() - start_s, value) if asked == method else value

    sensor.read = changed
    return measure_energy(device.run, sensor, method=method, timeline=SHORTER, clock=device.clock)


def test_the_readings_as_they_are_have_a_result() -> None:
    for method in ("counter", "sampled"):
        result = measured(lambda seconds, value: value, method)
        assert result.energy_j_per_image == pytest.approx(Device().true_j_per_image, rel=0.02)


FROZEN = {}


def frozen(seconds: float, value: float) -> float:
    return FROZEN.setdefault("value", value) if 5.5 < seconds < 8.2 else value


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        # Set back in the window, after which it rises to more than at its start: 740 J short, but above 0.
        (lambda s, j: j - 60e6 + 100 if s < 7 else j - 60e6 - 400, "it was set back"),
        (lambda s, j: j if s < 7 else j - 1e5, "it was set back"),
        (lambda s, j: j if s < 8 else j + 1e5, r"at most 2100 W are possible"),
        (frozen, "the counter stood still for 2"),
        (lambda s, j: j if s < 7 else 5.0, "the counter"),
        (lambda s, j: 1e3 * j, "at most 2100 W are possible"),  # millijoules
        (lambda s, j: -j, "it fell"),
        (lambda s, j: 0.0, "0 refreshes in 2 s"),
        (lambda s, j: 60.0 * math.floor(10 * s) / 10, "does not see the work, as if it were of another device"),
    ],
)
def test_a_counter_that_cannot_be_has_no_result(change: Change, reason: str) -> None:
    FROZEN.clear()
    result = measured(change)
    assert (result.energy_j_per_image, result.figure) == (None, None)
    assert reason in str(result)


@pytest.mark.parametrize("method", ["sampled", "paper"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s, w: -w, "only 0 to 2100 W are possible"),
        (lambda s, w: 1e3 * w, "only 0 to 2100 W are possible"),
        (lambda s, w: 1e9 if 4 < s < 4.2 else w, "1e+09 W was read at 1970-01-12T13:46:44+00:00"),
        (lambda s, w: -1.0 if 4 < s < 4.2 else w, "-1 W was read"),
        (lambda s, w: math.nan, "readings failed"),
        (lambda s, w: math.inf if s > 4 else w, "power is unknown for"),
        (lambda s, w: 0.0, "power was 0 W in a whole window"),
    ],
)
def test_power_that_cannot_be_has_no_result(method: str, change: Change, reason: str) -> None:
    result = measured(change, method)
    assert (result.energy_j_per_image, result.figure) == (None, None)
    assert reason in str(result)


def test_two_methods_that_contradict_each_other_have_no_result() -> None:
    device = Device()
    sensor = Nvml(FakeNvml(device, H100, counter_gain=0.2), "handle")
    result = measure_energy(device.run, sensor, timeline=SHORTER, clock=device.clock)
    assert result.energy_j_per_image is None
    assert "by counter and" in str(result)
    assert "contradict each other" in str(result)


@pytest.mark.parametrize("set_back", [False, True])
def test_cpu_packages_whose_counter_is_set_back(tmp_path: Path, set_back: bool) -> None:
    device = Device(idle_w=20)
    machine = FakeSys(tmp_path, device, packages=1, range_uj=262_143_328_850)
    counter, start_s = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj", device.clock.now()
    started_j = device.joules(start_s)

    def refresh() -> None:
        machine.refresh()
        since_j = device.joules(device.clock.now()) - started_j
        since_j += 900 if device.clock.now() - start_s < 8 or not set_back else 0
        counter.write_text(f"{since_j * 1e6:.0f}")

    with device.clock.every(0.020, refresh):
        sensor = Rapl(tmp_path, device.clock)
        result = measure_energy(device.run, sensor, timeline=SHORTER, clock=device.clock)
    if set_back:
        assert result.energy_j_per_image is None
        assert "it was set back, since a wrap would mean 26" in str(result)
    else:
        assert result.energy_j_per_image == pytest.approx(device.true_j_per_image, rel=0.02)


@pytest.mark.parametrize(
    ("energy_j", "reason"),
    [
        (0, "it was set back, since a wrap would mean 261"),
        (9000, "it was set forward, since such a rise would mean 8000 J"),
        (1100, "it was set forward, since such a rise would mean 100 J"),
    ],
)
def test_which_way_a_counter_was_set(tmp_path: Path, energy_j: int, reason: str) -> None:
    FakeSys(tmp_path, device := Device(), packages=1, range_uj=262_143_328_850)
    package = tmp_path / "sys/class/powercap/intel-rapl:0"
    (package / "constraint_0_power_limit_uw").write_text("20000000")
    (package / "energy_uj").write_text("1000000000")
    sensor = Rapl(tmp_path, device.clock)
    (package / "energy_uj").write_text(str(energy_j * 1_000_000))
    with pytest.raises(CounterError, match=reason):
        sensor.read("rapl")


class Chip:
    """A chip of zeus whose energy is `change` of the true one."""

    def __init__(self, device: Device, change: Change) -> None:
        self.device, self.change, self.start_s = device, change, device.clock.now()

    def get_available_metrics(self) -> set[str]:
        return {"total_energy_mj"}

    def get_total_energy_consumption(self) -> SimpleNamespace:
        now_s = self.device.clock.now()
        energy_j = self.change(now_s - self.start_s, self.device.joules(now_s))
        return SimpleNamespace(total_energy_mj=None if math.isnan(energy_j) else 1e3 * energy_j)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s, j: -j, "it fell"),
        (lambda s, j: 0.0, "0 refreshes"),
        (lambda s, j: j if s < 7 else j - 700, "it was set back"),
        (lambda s, j: math.nan, "no value of total_energy_mj"),
    ],
)
def test_a_chip_of_zeus_with_energy_that_cannot_be(change: Change, reason: str) -> None:
    device = Device()
    sensor = ZeusChip(Chip(device, change), RuntimeError)
    result = measure_energy(device.run, sensor, timeline=SHORTER, clock=device.clock)
    assert result.energy_j_per_image is None
    assert reason in str(result)


def test_an_amd_gpu_that_pytorch_numbers_otherwise_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """zeus would read the counter of another GPU."""
    pytest.importorskip("zeus.device.gpu", reason="zeus is not installed")
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "2")
    sensor = find_zeus_gpu(SimpleNamespace(index=0))
    assert isinstance(sensor, NoSensor)
    assert "ROCR_VISIBLE_DEVICES" in sensor.reason


def test_a_machine_that_was_suspended_in_a_window_has_no_result() -> None:
    """Its counters go on, and so does the clock: 5 s in which nothing was read."""
    device, slept = Device(), []
    sensor = Nvml(FakeNvml(device, H100), "handle")
    start_s = device.clock.now()

    def run() -> int:
        if device.clock.now() - start_s > 8 and not slept:
            slept.append(True)
            device.clock._now_s += 5
            for beat in device.clock._beats:
                beat.due_s += 5
        return device.run()

    result = measure_energy(run, sensor, timeline=SHORTER, clock=device.clock)
    assert slept
    assert result.energy_j_per_image is None
    assert "no result from counter: the counter was not read for 5." in str(result)
    assert "no result from sampled: power is unknown for 5." in str(result)


def test_the_clock_counts_the_time_of_a_suspended_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, now = Clock(), {7: 100.0, 1: 100.0}  # CLOCK_BOOTTIME of Linux, and the clock that stops
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("time.CLOCK_BOOTTIME", 7, raising=False)
    monkeypatch.setattr("time.clock_gettime", lambda which: now[which])
    before_s = clock.now()
    now[7] += 60
    assert clock.now() - before_s == 60


def test_a_meters_log_is_not_used_where_it_cannot_be(tmp_path: Path) -> None:
    window, idle = Window(0.0, 10.0, images=20, counter_j=None), Window(20.0, 30.0, images=0, counter_j=None)
    sources = {"sampled": Source("watts", "")}
    samples = tuple(Sample(second, 50.0) for second in range(31))
    recording = Recording("", None, Timeline(), sources, None, (idle,), (window,), samples, 0, (), ())
    assert evaluate(recording).energy_j_per_image == 25
    for wrong in (-50.0, 50_000.0):
        changed = tuple(Sample(time_s, wrong if time_s == 11 else power_w) for time_s, power_w in samples)
        result = evaluate(replace(recording, samples=changed))  # beside the window, where its edge is interpolated
        assert result.energy_j_per_image is None
        assert f"{wrong:.4g} W was read" in str(result)


@pytest.mark.parametrize("method", ["sampled", "paper", "meter"])
@pytest.mark.parametrize(("idle_w", "doubtful"), [(60.0, True), (50.0, True), (20.0, False)])
def test_power_that_is_no_higher_during_the_work_is_doubtful(method: Method, idle_w: float, doubtful: bool) -> None:
    window, idle = Window(0.0, 10.0, images=20, counter_j=None), Window(20.0, 30.0, images=0, counter_j=None)
    samples = tuple(Sample(second, 50.0 if second < 15 else idle_w) for second in range(31))
    sources = {method: Source("watts", "")}
    result = evaluate(Recording("", None, Timeline(), sources, None, (idle,), (window,), samples, 0, (), ()))
    assert result.energy_j_per_image == 25
    assert any("no more than the" in note for note in result.notes) == doubtful


def test_what_a_counter_did_is_in_the_record(tmp_path: Path) -> None:
    result = measured(lambda s, j: j if s < 7 else j - 1e5)
    write_measurements([replace(MEASUREMENT, energy=result)], tmp_path / "record.json")
    (read,) = read_measurements(tmp_path / "record.json")
    assert read.energy == result
    assert evaluate(read.energy.recording) == result
