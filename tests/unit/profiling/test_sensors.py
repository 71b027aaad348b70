from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vovnet.profiling.find_sensor import find_sensor
from vovnet.profiling.nvml import Nvml
from vovnet.profiling.rapl import Rapl
from vovnet.profiling.sensors import DeviceState, NoSensor

from .simulated import CHIPS, H100, Chip, Device, FakeNvml, FakeSys, NvmlError

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


def test_a_reading_that_fails_once_is_an_os_error_and_no_missing_sensor() -> None:
    nvml = FakeNvml(Device(phases=STEADY), H100)

    def fail() -> None:
        raise NvmlError(nvml.NVML_ERROR_UNKNOWN)

    nvml.fault = fail
    sensor = Nvml(nvml, "handle")
    assert set(sensor.sources) == {"counter", "sampled", "paper"}
    with pytest.raises(OSError, match="NVML"):
        sensor.read("counter")


def test_packages_are_added_and_nothing_inside_or_around_them(tmp_path: Path) -> None:
    device = Device(phases=STEADY, idle_w=30)
    machine = FakeSys(tmp_path, device)
    sensor = Rapl(tmp_path)
    assert sensor.name == "CPU, package-0, package-1"
    assert sensor.read("rapl") == 0
    device.clock.sleep(2.0)
    machine.refresh()
    assert sensor.read("rapl") == pytest.approx(60, rel=1e-4)


@settings(deadline=None)
@given(range_uj=st.integers(10, 10**12), shares=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20))
def test_a_counter_that_wraps_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, range_uj: int, shares: list[float]
) -> None:
    root = tmp_path_factory.mktemp("sys")
    FakeSys(root, Device(phases=STEADY), packages=1, range_uj=range_uj)
    counter = root / "sys/class/powercap/intel-rapl:0/energy_uj"
    counter.write_text("0")
    sensor = Rapl(root)
    total_uj = 0
    for share in shares:
        total_uj += int(share * range_uj)
        counter.write_text(str(total_uj % range_uj))
        assert sensor.read("rapl") == total_uj / 1e6


def test_cpu_conditions(tmp_path: Path) -> None:
    FakeSys(tmp_path, Device(phases=STEADY))
    for file, text in {
        "class/thermal/thermal_zone0/type": "acpitz",
        "class/thermal/thermal_zone0/temp": "90000",
        "class/thermal/thermal_zone1/type": "x86_pkg_temp",
        "class/thermal/thermal_zone1/temp": "51000",
        "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2000000",
        "devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "3000000",
    }.items():
        (tmp_path / "sys" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys" / file).write_text(text + "\n")
    state = Rapl(tmp_path).state(1.0)
    assert (state.temperature_c, state.clock_mhz) == (51, 3000)
    assert state.other_cpu_s == pytest.approx(0, abs=0.5)
    (tmp_path / "proc/stat").unlink()
    assert Rapl(tmp_path).state(1.0).other_cpu_s is None


def test_a_machine_without_packages_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no CPU package counter"):
        Rapl(tmp_path)


def test_a_counter_for_root_only_says_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeSys(tmp_path, Device(phases=STEADY))
    read_text = Path.read_text

    def read_as_user(path: Path) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path)

    monkeypatch.setattr(Path, "read_text", read_as_user)
    with pytest.raises(PermissionError, match="energy_uj is not readable: run as root"):
        Rapl(tmp_path)


@pytest.mark.parametrize(("mig", "named"), [(None, False), (0, False), (1, True)])
def test_figures_of_a_divided_board_say_that_they_are_of_all_of_it(mig: int | None, named: bool) -> None:
    nvml = FakeNvml(Device(phases=STEADY), H100)
    nvml.mig = mig
    for source in Nvml(nvml, "handle").sources.values():
        assert ("MIG is on, and the value covers all instances" in source.meaning) == named


class FakePynvml(ModuleType):
    """A machine with the board GPU-a1, of which MIG-b2 is an instance."""

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


def test_a_board_that_fails_while_it_is_looked_at_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(Device(phases=STEADY), H100)

    def lost(handle: object) -> str:
        raise NvmlError(15)

    nvml.nvmlDeviceGetName = lost
    monkeypatch.setitem(sys.modules, "pynvml", FakePynvml(nvml))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="a1"))
    assert find_sensor("cuda:0") == NoSensor("the GPU cannot be read: NVML: error 15")


def test_devices_without_a_sensor_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_sensor("xpu")
    assert isinstance(found, NoSensor)
    assert "xpu" in found.reason
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = find_sensor("cuda")
    assert isinstance(found, NoSensor)
    assert "vovnet[energy]" in found.reason


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_no_gpu_is_a_reason() -> None:
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    found = find_sensor("cuda:0")
    assert isinstance(found, NoSensor)
    assert "cannot be read" in found.reason
