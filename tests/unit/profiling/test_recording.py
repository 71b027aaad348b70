"""The timeline of a measurement, on simulated devices and in real time."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest

from vovnet.profiling.energy.measured import evaluate, measure_energy
from vovnet.profiling.energy.nvml import Nvml
from vovnet.profiling.energy.recording import Timeline
from vovnet.profiling.measurement import read_measurements, write_measurements

from .complete import MEASUREMENT
from .protocol import SHORT, measured
from .simulated import H100, Device, FakeNvml


def test_trials_start_equally_warm() -> None:
    result = measured(Device(phases=((500.0, 0.02),)))
    assert result.recording is not None
    states = result.recording.conditions
    at_start = []
    for window in result.recording.trials:
        nearest = min(states, key=lambda state: abs(state.time_s - window.start_s))
        at_start.append(nearest.temperature_c)
    pauses = [b.start_s - a.end_s for a, b in zip(result.recording.trials, result.recording.trials[1:], strict=False)]
    assert min(pauses) > 5  # waiting for the device to cool down
    assert max(at_start) - min(at_start) <= 3
    hurried = measured(Device(phases=((500.0, 0.02),)), timeline=replace(SHORT, cooldown_limit_s=1))
    assert any("after cool-down, but the first trial began at" in note for note in hurried.notes)


def test_windows_follow_the_timeline() -> None:
    device = Device(phases=((300.0, 0.9),))  # slow: 32 iterations take longer than 10 s
    result = measured(device, timeline=replace(SHORT, trials=1))
    assert result.recording is not None
    (window,) = result.recording.trials
    assert window.seconds > 32 * 0.9 * 0.97
    assert [round(idle.seconds) for idle in result.recording.idle] == [5, 5]
    assert window.seconds / result.recording.tick_s == pytest.approx(round(window.seconds / 0.1), rel=0.01)
    assert result.figure is not None
    assert result.figure.energy_interval_j is None  # one trial


def test_the_protocol_in_real_time() -> None:
    """With threads, on a sensor that always reads 100 W."""

    def run() -> int:
        time.sleep(0.005)
        return 2

    sensor = Nvml(FakeNvml(Device(), H100), "handle")
    sensor.read = lambda method: 100.0
    timeline = Timeline(trials=2, idle_s=0.1, warmup_s=0.05, warmup_limit_s=0.3, lead_s=0.05, window_s=0.3)
    result = measure_energy(run, sensor, method="sampled", timeline=timeline)
    assert result.figure is not None
    assert result.figure.samples_per_trial > 8
    assert result.figure.power_w == pytest.approx(100)
    for window, each_j in zip(result.recording.trials, result.figure.trials_j_per_image, strict=True):
        assert each_j == pytest.approx(100 * window.seconds / window.images)
    assert 100 < result.images_per_second <= 400


@pytest.mark.parametrize("images", [0, None])
def test_work_that_does_not_say_how_many_images_is_an_error(images: int | None) -> None:
    device = Device()
    with pytest.raises(ValueError, match=f"number of images it processed, at least 1, got {images}"):
        measure_energy(lambda: images, Nvml(FakeNvml(device, H100), "handle"), clock=device.clock, timeline=SHORT)


@pytest.mark.parametrize("part", [{"trials": 0}, {"window_s": 0}, {"cooldown_limit_s": math.inf}])
def test_a_timeline_that_cannot_be_is_an_error(part: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="needs at least one trial"):
        Timeline(**part)


def test_a_result_survives_its_record(tmp_path: Path) -> None:
    """As part of a measurement, in JSON and back: samples, windows and conditions too; no NaN, no infinity."""
    result = measured(Device(), timeline=replace(SHORT, trials=1, window_s=2, window_ticks=10))
    measurement = replace(MEASUREMENT, energy=result)
    path = tmp_path / "record.json"
    write_measurements([measurement], path)
    (read,) = read_measurements(path)
    assert read == measurement
    assert evaluate(read.energy.recording) == result  # the recording is enough to compute the result again
    text = path.read_text()
    stored = json.loads(text, parse_constant=pytest.fail)["measurements"][0]["energy"]
    assert len(stored["recording"]["samples"]) > 500
    assert stored["recording"]["conditions"][0]["power_limit_w"] == 700
    assert stored["recording"]["driver"] == "580.1"
    assert stored["figure"]["source"]["name"] == "nvmlDeviceGetTotalEnergyConsumption"
    broken = replace(measurement, energy=replace(result, energy_j_per_image=math.nan))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_measurements([broken], path)
    assert path.read_text() == text
