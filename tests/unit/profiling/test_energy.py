"""The whole protocol on simulated devices of known energy. `pytest -s` prints the error of each method."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vovnet.profiling.energy.measured import EnergyResult, evaluate, measure_energy
from vovnet.profiling.energy.meter import Meter
from vovnet.profiling.energy.nvml import Nvml
from vovnet.profiling.energy.rapl import Rapl
from vovnet.profiling.energy.recording import Recording, Timeline, Window
from vovnet.profiling.energy.sensors import NoSensor, Sample, Source

from .protocol import SHORT, measured
from .simulated import CHIPS, H100, Chip, Device, FakeNvml, FakeSys, NvmlError


def error(energy_j: float | None, device: Device) -> float:
    assert energy_j is not None
    return energy_j / device.true_j_per_image - 1


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.name)
def test_each_method_on_each_chip(chip: Chip) -> None:
    device = Device()
    result = measured(device, chip)
    assert result.figure is not None
    figures = [result.figure] if result.check is None else [result.figure, result.check]
    assert [figure.method for figure in figures] == (["counter", "sampled"] if chip.counter_period_s else ["sampled"])
    assert not result.disputed
    for figure in figures:
        print(f"\n{chip.name}: {figure.method} errs by {error(figure.energy_j_per_image, device):+.2%}", end="")
        assert abs(error(figure.energy_j_per_image, device)) < 0.02
        idle_j = figure.energy_j_per_image - figure.above_idle_j_per_image
        assert idle_j == pytest.approx(60 * 0.025 / device.images, rel=0.02)
    paper = measured(Device(), chip, method="paper")
    assert paper.figure is not None
    print(f"\n{chip.name}: paper errs by {error(paper.energy_j_per_image, device):+.2%}", end="")
    assert (
        abs(error(paper.energy_j_per_image, device)) < 0.25
    )  # if 100 ms are a multiple of an iteration, all samples see the same part of it
    assert paper.figure.samples_per_trial == pytest.approx(100, abs=3)
    assert f"{paper.figure.samples_per_trial} samples per window" in str(paper)
    assert "nvmlDeviceGetPowerUsage" in str(paper)


def test_the_papers_method_on_a_short_evaluation_shows_the_boards_average() -> None:
    device = Device()
    timeline = replace(SHORT, warmup_s=0.0, lead_s=0.0, window_s=1.5)
    result = measured(device, method="paper", timeline=timeline)
    print(f"\nH100, 1.5 s: paper errs by {error(result.energy_j_per_image, device):+.2%}", end="")
    assert error(result.energy_j_per_image, device) < -0.02  # the averages include idle time before the window
    assert any("short for power averaged over 1 s" in note for note in result.notes)


def test_a_counter_that_disagrees_is_disputed_and_both_are_printed() -> None:
    device = Device()
    result = measured(device, gain=0.57)
    assert result.disputed
    assert result.check is not None
    assert result.check.energy_j_per_image == pytest.approx(device.true_j_per_image, rel=0.02)
    assert result.energy_j_per_image == pytest.approx(0.57 * device.true_j_per_image, rel=0.02)
    assert str(result).startswith("disputed")
    assert "measured by counter" in str(result)
    assert "measured by sampled" in str(result)


def test_a_load_with_the_period_of_a_board_that_measures_part_of_the_time_is_disputed() -> None:
    device = Device(phases=((400.0, 0.025), (100.0, 0.075)), jitter=0)  # an iteration is one period of the sensor
    result = measured(device, H100)
    assert abs(error(result.energy_j_per_image, device)) < 0.02  # the counter sees it all
    assert result.disputed


def test_readings_that_fail_are_left_out_and_counted() -> None:
    device = Device()
    nvml = FakeNvml(device, H100)

    def sometimes() -> None:
        if random.random() < 0.2:
            raise NvmlError(nvml.NVML_ERROR_UNKNOWN)

    sensor = Nvml(nvml, "handle")
    nvml.fault = sometimes
    result = measure_energy(device.run, sensor, timeline=SHORT, clock=device.clock)
    assert result.recording is not None
    assert result.recording.dropouts > 100
    assert any("readings failed" in note for note in result.notes)
    assert abs(error(result.energy_j_per_image, device)) < 0.02
    assert not result.disputed


def measured_with_failing_counter(device: Device, fails: Callable[[float], bool]) -> EnergyResult:
    """A measurement with a counter that fails. fails: seconds since the start → whether a reading fails."""
    sensor = Nvml(FakeNvml(device, H100), "handle")
    start_s, read = device.clock.now(), sensor.read

    def faulty(method: str) -> float:
        if method == "counter" and fails(device.clock.now() - start_s):
            raise OSError("gone")
        return read(method)

    sensor.read = faulty
    return measure_energy(device.run, sensor, timeline=SHORT, clock=device.clock)


@pytest.mark.parametrize("fails", [lambda _: True, lambda seconds: seconds > 30], ids=["never works", "stops working"])
def test_without_a_working_counter_power_is_sampled(fails: Callable[[float], bool]) -> None:
    device = Device()
    result = measured_with_failing_counter(device, fails)
    assert result.figure is not None
    assert result.figure.method == "sampled"
    assert any("no result from counter" in note for note in result.notes)
    assert abs(error(result.energy_j_per_image, device)) < 0.02


def test_a_counter_that_stands_still_fails_its_test() -> None:
    result = measured(Device(), gain=0.0, method="counter")
    assert result.energy_j_per_image is None
    assert result.reason is not None
    assert "0 refreshes in 2 s" in result.reason


def test_a_gpu_that_throttles_is_named() -> None:
    device = Device()
    assert measured(device).notes == ()
    device = Device()
    device.slow_after_s = 20
    notes = "; ".join(measured(device).notes)
    assert "hardware thermal slowdown" in notes
    assert "the clock ranged from 1000 to 1400 MHz" in notes


@pytest.mark.parametrize("dies_after_s", [0, 20])
def test_a_gpu_that_is_lost_has_a_reason_and_no_result(dies_after_s: float) -> None:
    device = Device()
    nvml = FakeNvml(device, H100)
    sensor, dies_s = Nvml(nvml, "handle"), device.clock.now() + dies_after_s

    def lost() -> None:
        if device.clock.now() >= dies_s:
            raise NvmlError(15)

    nvml.fault = lost
    result = measure_energy(device.run, sensor, timeline=SHORT, clock=device.clock)
    assert (result.energy_j_per_image, result.figure) == (None, None)
    assert result.reason is not None
    assert "no result from counter" in result.reason
    assert "no result from sampled" in result.reason


@pytest.mark.parametrize("resets_after_s", [1, 15])
def test_a_counter_that_falls_has_no_result(resets_after_s: float) -> None:
    """The counter starts at zero when the driver is reloaded, during the test of the counter or in a window."""
    device = Device()
    sensor = Nvml(FakeNvml(device, H100), "handle")
    start_s, read = device.clock.now(), sensor.read

    def reset(method: str) -> float:
        return read(method) - (1e6 if method == "counter" and device.clock.now() - start_s > resets_after_s else 0)

    sensor.read = reset
    result = measure_energy(device.run, sensor, timeline=SHORT, clock=device.clock)
    assert result.figure is not None
    assert result.figure.method == "sampled"
    notes = "; ".join(result.notes)
    assert (
        "failed its test: it fell" if resets_after_s == 1 else "no result from counter: the counter rose by -"
    ) in notes


def test_other_processes_are_named() -> None:
    device = Device()
    nvml = FakeNvml(device, H100)
    nvml.pids = [4242]
    result = measure_energy(device.run, Nvml(nvml, "handle"), timeline=SHORT, clock=device.clock)
    assert "other processes were on the device: 4242" in result.notes


@pytest.mark.parametrize("other_cores", [0.0, 1.5])
def test_cpu_packages(tmp_path: Path, other_cores: float) -> None:
    device = Device(idle_w=20)
    machine = FakeSys(tmp_path, device, range_uj=500_000_000, other_cores=other_cores)  # 500 J: wraps after 4 s of work
    timeline = Timeline(trials=3, idle_s=1, warmup_s=0.5, lead_s=0.5, window_s=3, window_ticks=10)
    with device.clock.every(0.020, machine.refresh):
        result = measure_energy(device.run, Rapl(tmp_path), timeline=timeline, clock=device.clock)
    assert result.figure is not None
    assert result.figure.method == "rapl"
    print(f"\nrapl errs by {error(result.energy_j_per_image, device):+.2%}", end="")
    assert abs(error(result.energy_j_per_image, device)) < 0.02
    assert result.figure.idle_power_w == pytest.approx((20, 20), rel=0.02)
    assert result.notes == (("other processes kept 1.5 CPU cores busy",) if other_cores else ())


@pytest.mark.parametrize("silence_s", [1.0, 5.0])
def test_an_external_meter(tmp_path: Path, silence_s: float) -> None:
    """A meter that logs four times a second; with 5 s missing in a window there is no result."""
    device = Device()
    log = tmp_path / "meter.csv"
    log.write_text("timestamp,watts\n")
    start_s = device.clock.now()

    def write() -> None:
        now_s = device.clock.now()
        if not 0 < now_s - start_s - 15 < silence_s:
            with log.open("a") as file:
                file.write(f"{now_s},{device.mean_w(now_s, 0.25)}\n")

    with device.clock.every(0.25, write):
        result = measure_energy(device.run, Meter(log), timeline=SHORT, clock=device.clock)
    if silence_s > 2:
        assert result.energy_j_per_image is None
        assert "power is unknown for" in str(result)
    else:
        print(f"\nmeter errs by {error(result.energy_j_per_image, device):+.2%}", end="")
        assert abs(error(result.energy_j_per_image, device)) < 0.02


@pytest.mark.parametrize("off_s", [0, 7200])
def test_a_meters_log_that_comes_when_all_is_over(tmp_path: Path, off_s: float) -> None:
    """From a logger that writes its file when it is stopped, in a zone of its own; `evaluate` takes it with what was
    recorded. A log from another time has no result, and the reason says which time it covers."""
    device = Device()
    log, zone = tmp_path / "meter.csv", timezone(timedelta(hours=-5))
    log.write_text("timestamp,watts\n")
    lines = []

    def write() -> None:
        now_s = device.clock.now()
        time_text = datetime.fromtimestamp(now_s + off_s, zone).isoformat()
        lines.append(f"{time_text},{device.mean_w(now_s, 0.25)}\n")

    with device.clock.every(0.25, write):
        empty = measure_energy(device.run, Meter(log), timeline=SHORT, clock=device.clock)
    assert empty.energy_j_per_image is None
    assert empty.recording is not None
    log.write_text("timestamp,watts\n" + "".join(lines))
    result = evaluate(empty.recording, Meter(log))
    if off_s:
        assert result.energy_j_per_image is None
        assert "no power reading between 1970-01-12T13:" in str(result)
        assert "the readings lie between 1970-01-12T15:46:40+00:00" in str(result)
    else:
        assert abs(error(result.energy_j_per_image, device)) < 0.02
        assert result.figure.method == "meter"


def test_without_a_sensor_there_is_a_reason_and_no_result() -> None:
    result = measure_energy(lambda: 1 / 0, NoSensor("a container hides it"))  # and the work is not run
    assert (result.energy_j_per_image, result.reason, result.figure) == (None, "a container hides it", None)
    assert str(result) == "energy not measured: a container hides it"


def test_a_method_that_the_device_lacks_is_not_replaced() -> None:
    result = measured(Device(), CHIPS[0], method="counter")
    assert result.energy_j_per_image is None
    has_none = "TITAN X (Pascal) has no source for the method 'counter', only sampled, paper"
    assert result.reason == f"{has_none}; counter: NVML: error 3"


def test_a_wrong_method_is_an_error() -> None:
    with pytest.raises(ValueError, match="counter, sampled, paper, rapl, meter, got 'guess'"):
        measure_energy(lambda: 1, NoSensor(""), method="guess")


def recorded(samples: list[Sample], **options: object) -> Recording:
    window = Window(0.0, 10.0, images=20, counter_j=None)
    idle = (window, window)
    source = Source("watts", "")
    parts = {"sources": {"sampled": source}, "trials": (window,), "samples": tuple(samples)} | options
    return Recording("", None, Timeline(), tick_s=None, idle=idle, dropouts=0, conditions=(), notes=(), **parts)


@given(st.lists(st.tuples(st.floats(0.05, 2.5), st.floats(0, 1000)), min_size=8, max_size=60))
def test_the_integral_is_that_of_straight_lines_between_samples(gaps_and_watts: list[tuple[float, float]]) -> None:
    gaps_s, watts = np.array(gaps_and_watts).T
    times_s = np.cumsum(gaps_s) - 0.1  # from about 0 to before or after the end of the window
    result = evaluate(recorded(list(map(Sample, times_s.tolist(), watts.tolist()))))
    inside = times_s[(times_s >= 0) & (times_s <= 10)]
    if max(np.diff([0.0, *inside, 10.0])) > 2:
        assert result.energy_j_per_image is None
        return
    fine_s = np.linspace(0, 10, 20_001)
    expected_j = np.trapezoid(np.interp(fine_s, times_s, watts), fine_s)
    if not any(watts[(times_s >= 0) & (times_s <= 10)]):
        assert result.energy_j_per_image is None
        return
    assert result.energy_j_per_image == pytest.approx(expected_j / 20, rel=1e-3, abs=1e-3)


def test_the_papers_mean_is_arithmetic_over_the_samples() -> None:
    samples = list(map(Sample, (1, 1.5, 3, 5, 7, 9), (10, 20, 30, 40, 50, 60)))
    result = evaluate(recorded(samples, sources={"paper": Source("watts", "")}))
    assert result.images_per_second == 2
    assert result.energy_j_per_image == pytest.approx(35 / 2)  # Eq. (2): W ÷ images/s
