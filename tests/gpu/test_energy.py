"""Joules of the GPU, and that reading them does not slow it down. On a CPU a simulated sensor takes NVML's place."""

import time

import pytest
import torch

from vovnet import create_backbone
from vovnet.profiling.energy.find_sensor import find_sensor
from vovnet.profiling.energy.measured import measure_energy
from vovnet.profiling.energy.recording import Timeline
from vovnet.profiling.energy.sensors import DeviceState, NoSensor, Source
from vovnet.profiling.sampler_effect import sampler_effect

IDLE_W, BUSY_W = 40.0, 100.0


class Simulated:
    """Power of a device that works until `busy_until_s`."""

    name, driver, missing = "simulated", None, {}
    sources = {"sampled": Source("power", "as simulated")}  # noqa: RUF012

    def __init__(self):
        self.busy_until_s, self.reads = 0.0, 0

    def read(self, method):
        self.reads += 1
        return BUSY_W if time.monotonic() < self.busy_until_s else IDLE_W

    def state(self, time_s):
        return DeviceState(time_s)


@pytest.fixture
def sensor(device):
    found = find_sensor(device) if device.type == "cuda" else Simulated()
    if isinstance(found, NoSensor):
        pytest.skip(found.reason)
    if not found.sources:
        pytest.skip(f"{found.name} has no source of power: {found.missing}")
    return found


def test_joules(sensor, device):
    """Of large products of matrices, which take far more power than an idle GPU."""
    side = 8192 if device.type == "cuda" else 256
    matrix = torch.randn(side, side, device=device)

    def run():
        matrix @ matrix
        if device.type == "cuda":
            torch.cuda.synchronize()
        else:
            sensor.busy_until_s = time.monotonic() + 0.05
        return 1

    second = 1.0 if device.type == "cuda" else 0.2
    timeline = Timeline(
        trials=2, idle_s=second, warmup_s=second, warmup_limit_s=3 * second, lead_s=second / 2,
        window_s=1.5 * second, window_ticks=8, window_iterations=8, cooldown_limit_s=0.0,
    )  # fmt: skip
    result = measure_energy(run, sensor, timeline=timeline)
    figure = result.figure
    assert figure is not None, result.reason
    assert figure.method in ("counter", "sampled")
    assert len(figure.trials_j_per_image) == 2
    assert figure.power_w > 1.2 * min(figure.idle_power_w) > 1
    assert figure.power_w < figure.source.limit_w
    assert figure.energy_j_per_image == pytest.approx(figure.power_w / result.images_per_second, rel=0.1)
    if device.type == "cpu":
        assert figure.power_w == pytest.approx(BUSY_W, rel=0.05)


def test_reading_power_does_not_slow_the_gpu_down(sensor, device):
    """Not by 2 %, unless noise can explain it. On a CPU, whose time is not looked at, readings are taken at least."""
    on_gpu = device.type == "cuda"
    model = create_backbone("vovnet27_slim").eval().to(device)
    images = torch.randn(1, 3, 224 if on_gpu else 32, 224 if on_gpu else 32, device=device)

    def run():
        with torch.inference_mode():
            model(images)
        return 1

    effect = sampler_effect(run, sensor, device=device, pairs=12 if on_gpu else 2, stretch_s=0.3 if on_gpu else 0.1)
    assert effect.median > 0
    if on_gpu:
        assert effect.interval[0] < 1.02
    else:
        assert sensor.reads > 5
