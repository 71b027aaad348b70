from __future__ import annotations

import os
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from vovnet.profiling.find_sensor import find_sensor
from vovnet.profiling.nvml import Nvml
from vovnet.profiling.sensors import DeviceState, NoSensor

from .simulated import CHIPS, H100, Chip, Device, FakeNvml, NvmlError

STEADY = ((200.0, 0.02),)


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.name)
def test_a_board_says_what_its_power_means(chip: Chip) -> None:
    sources = Nvml(FakeNvml(Device(phases=STEADY), chip), "handle").sources
    assert ("counter" in sources) == (chip.counter_period_s is not None)
    assert sources["paper"].name == "nvmlDeviceGetPowerUsage"
    assert sources["paper"].window_s == chip.usage_window_s
    assert ("average over 1 s" in sources["paper"].meaning) == (chip.usage_window_s == 1.0)
    assert sources["sampled"].window_s == chip.window_s
    assert ("INSTANT" in sources["sampled"].name) == chip.has_instant_field


def test_a_new_board_without_the_instant_field_has_a_one_second_average_only() -> None:
    chip = Chip("RTX 4090", (8, 9), 0.1, 0.1, 1.0, has_instant_field=False)
    sources = Nvml(FakeNvml(Device(phases=STEADY), chip), "handle").sources
    assert sources["sampled"] == sources["paper"]
    assert "average over 1 s" in sources["sampled"].meaning


def test_a_board_is_read_in_joules_and_watts() -> None:
    device = Device(phases=STEADY, idle_w=60)
    nvml = FakeNvml(device, H100)
    sensor = Nvml(nvml, "handle")
    before_j = sensor.read("counter")
    device.clock.sleep(3.0)
    assert sensor.read("counter") - before_j == pytest.approx(180, rel=1e-3)
    assert sensor.read("sampled") == sensor.read("paper") == pytest.approx(60)
    nvml.pids, nvml.graphics_pids = [os.getpid(), 4242], [77, 4242]
    state = sensor.state(5.0)
    assert state == DeviceState(5.0, state.temperature_c, 1400, 1400, 700.0, (), (77, 4242))
    assert sensor.driver == "580.1"


def test_a_reading_that_fails_once_is_an_os_error_and_not_a_missing_source() -> None:
    nvml = FakeNvml(Device(phases=STEADY), H100)

    def fail() -> None:
        raise NvmlError(nvml.NVML_ERROR_UNKNOWN)

    nvml.fault = fail
    sensor = Nvml(nvml, "handle")
    assert set(sensor.sources) == {"counter", "sampled", "paper"}
    with pytest.raises(OSError, match="NVML"):
        sensor.read("counter")


@pytest.mark.parametrize(("mig", "named"), [(None, False), (0, False), (1, True)])
def test_a_divided_board_says_that_its_values_cover_all_instances(mig: int | None, named: bool) -> None:
    nvml = FakeNvml(Device(phases=STEADY), H100)
    nvml.mig = mig
    for source in Nvml(nvml, "handle").sources.values():
        assert ("MIG is on, and the value covers all instances" in source.meaning) == named


class FakePynvml(ModuleType):
    """A machine with the board GPU-a1 and its instance MIG-b2."""

    NVMLError = NvmlError

    def __init__(self, nvml: FakeNvml) -> None:
        super().__init__("pynvml")
        self._nvml = nvml

    def __getattr__(self, name: str) -> object:
        return getattr(self._nvml, name)

    def nvmlInit(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid not in ("GPU-a1", "MIG-b2"):
            raise NvmlError(FakeNvml.NVML_ERROR_NOT_FOUND)
        return uuid

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: str) -> str:  # noqa: N802
        assert handle == "MIG-b2"
        return "GPU-a1"


@pytest.mark.parametrize(("uuid", "found"), [("a1", True), ("b2", True), ("c3", False)])
def test_the_board_is_found_by_the_uuid_of_it_or_of_an_instance(
    uuid: str, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakePynvml(FakeNvml(Device(phases=STEADY), H100)))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=uuid))
    sensor = find_sensor("cuda:0")
    if found:
        assert isinstance(sensor, Nvml)
        assert sensor._handle == "GPU-a1"
    else:
        assert sensor == NoSensor("the GPU cannot be read: error 6")


def test_a_board_that_fails_at_once_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(Device(phases=STEADY), H100)

    def lost(handle: object) -> str:
        raise NvmlError(15)

    nvml.nvmlDeviceGetName = lost
    monkeypatch.setitem(sys.modules, "pynvml", FakePynvml(nvml))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="a1"))
    assert find_sensor("cuda:0") == NoSensor("the GPU cannot be read: NVML: error 15")
