from __future__ import annotations

import os
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from vovnet.profiling.energy.find_sensor import find_sensor
from vovnet.profiling.energy.measured import measure_energy
from vovnet.profiling.energy.nvml import Nvml
from vovnet.profiling.energy.sensors import DeviceState, NoSensor
from vovnet.profiling.own_process import OwnProcess
from vovnet.profiling.surroundings import device_warnings

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


LACKING = [1, 2, 3, 4, 6, 8, 9, 12, 13, 14, 15, 16, 17, 18, 22, 25, 26, 28]
PASSING = [7, 10, 11, 19, 20, 21, 23, 27, 29, 999]


@pytest.mark.parametrize(
    ("code", "lacking"), [*((code, True) for code in LACKING), *((code, False) for code in PASSING)]
)
def test_what_will_never_answer_is_no_source_and_says_why(code: int, lacking: bool) -> None:
    nvml = FakeNvml(Device(phases=STEADY), H100)
    nvml.refused = {"nvmlDeviceGetTotalEnergyConsumption": code}
    sensor = Nvml(nvml, "handle")
    assert ("counter" in sensor.sources) != lacking
    assert sensor.missing == ({"counter": f"NVML: error {code}"} if lacking else {})
    assert set(sensor.sources) - {"counter"} == {"sampled", "paper"}


@pytest.mark.parametrize("code", [4, 999])
def test_a_board_that_gives_nothing_says_so_at_once(code: int) -> None:
    device = Device(phases=STEADY)
    nvml = FakeNvml(device, H100)
    reads = ("nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetFieldValues")
    nvml.refused = dict.fromkeys(reads, code)
    began_s = device.clock.now()
    result = measure_energy(device.run, Nvml(nvml, "handle"), clock=device.clock)
    assert result.energy_j_per_image is None
    assert f"counter: NVML: error {code}" in (result.reason or "")
    assert f"sampled: NVML: error {code}" in (result.reason or "")
    assert device.clock.now() - began_s < 3
    assert device.worked_s == 0


def test_a_package_that_is_older_than_the_instant_field_and_the_new_names() -> None:
    nvml = FakeNvml(Device(phases=STEADY), H100)
    nvml.refused = dict.fromkeys(("nvmlDeviceGetFieldValues", "nvmlDeviceGetCurrentClocksEventReasons"), 13)
    nvml.nvmlDeviceGetCurrentClocksThrottleReasons = lambda handle: 0x44
    sensor = Nvml(nvml, "handle")
    assert sensor.sources["sampled"] == sensor.sources["paper"]
    assert sensor.state(5.0).throttle_reasons == ("software power cap", "hardware thermal slowdown")


class MismatchError(Exception):
    """As pynvml's: not an NVMLError."""


def test_a_driver_without_the_newest_list_of_processes_is_asked_for_the_one_before() -> None:
    nvml = FakeNvml(Device(phases=STEADY), H100)
    processes = [SimpleNamespace(pid=os.getpid(), usedGpuMemory=9), SimpleNamespace(pid=4242, usedGpuMemory=1)]

    def newest(handle: object) -> None:
        raise MismatchError

    nvml.NVMLLibraryMismatchError = MismatchError
    nvml.nvmlDeviceGetComputeRunningProcesses = newest
    sensor = Nvml(nvml, "handle")
    state = sensor.state(5.0)
    assert state.other_processes == ()
    assert "the driver has no nvmlDeviceGetComputeRunningProcesses" not in str(state.process_doubt)
    assert "does not list the processes" in str(state.process_doubt)
    nvml.nvmlDeviceGetComputeRunningProcesses_v2 = lambda handle: processes
    assert sensor.state(5.0).other_processes == (4242,)
    assert sensor.state(5.0).process_doubt is None
    assert sensor.process_bytes() == 9


@pytest.mark.parametrize(
    ("listed", "others", "doubted"),
    [
        ([900, 901], (901,), False),  # 900 is this process, by a number that it has elsewhere
        ([901, 902], (), True),  # one of them is this process: nobody knows which
        ([901], (), True),
        ([], (), True),
    ],
)
def test_in_a_container_this_process_is_never_another(listed: list[int], others: object, doubted: bool) -> None:
    nvml = FakeNvml(Device(phases=STEADY), H100)
    nvml.pids = listed
    state = Nvml(nvml, "handle", own=OwnProcess(frozenset({3, 900}), on_board=True)).state(5.0)
    assert state.other_processes == others
    assert (state.process_doubt is not None) == doubted
    warnings = list(device_warnings([state]))
    assert any("cannot be told" in warning for warning in warnings) == doubted
    assert any("other processes were on the device" in warning for warning in warnings) == bool(others)


def test_a_process_that_holds_nothing_on_the_board_is_not_listed() -> None:
    nvml = FakeNvml(Device(phases=STEADY), H100)
    nvml.pids = [900]
    state = Nvml(nvml, "handle", own=OwnProcess(frozenset({3}))).state(5.0)
    assert (state.other_processes, state.process_doubt) == ((900,), None)


@pytest.mark.parametrize("name", ["NVIDIA GH200 480GB", "NVIDIA GB200"])
def test_a_module_of_gpu_and_cpu_says_what_each_value_covers(name: str) -> None:
    nvml = FakeNvml(Device(phases=STEADY, idle_w=60), Chip(name, (9, 0), 0.025, 0.1, 1.0))
    nvml.module_gain = 3.0
    sensor = Nvml(nvml, "handle")
    nvml.device.clock.sleep(3)
    assert sensor.read("sampled") == pytest.approx(3 * sensor.read("paper")) == pytest.approx(180)
    assert "of the whole module, GPU and CPU with their memory" in sensor.sources["sampled"].meaning
    assert "of the GPU alone, without the CPU of its module" in sensor.sources["paper"].meaning
    assert "on a GH200 that of the whole module" in sensor.sources["counter"].meaning
    assert sensor.sources["sampled"].limit_w == sensor.sources["counter"].limit_w == 3 * 2100
    assert "INSTANT, scope module" in sensor.sources["sampled"].name


def test_a_board_without_a_cpu_does_not_speak_of_a_module() -> None:
    sources = Nvml(FakeNvml(Device(phases=STEADY), H100), "handle").sources
    assert not any("module" in source.meaning + source.name for source in sources.values())


@pytest.mark.parametrize(
    ("name", "capability", "covers"),
    [
        ("NVIDIA H100 PCIe", (9, 0), "over 25 ms;"),
        ("NVIDIA H200", (9, 0), "over 25 ms as on the H100;"),
        ("NVIDIA B200", (10, 0), "over an unpublished window;"),
    ],
)
def test_only_a_published_window_is_stated(name: str, capability: tuple[int, int], covers: str) -> None:
    sources = Nvml(FakeNvml(Device(phases=STEADY), Chip(name, capability, 0.025, 0.1, 1.0)), "handle").sources
    assert covers in sources["sampled"].meaning


def test_of_a_divided_board_only_the_processes_of_the_instance_may_be_seen() -> None:
    nvml = FakeNvml(Device(phases=STEADY), H100)
    rows = [SimpleNamespace(pid=os.getpid(), usedGpuMemory=5), SimpleNamespace(pid=77, usedGpuMemory=1)]

    def listed(handle: str) -> list[SimpleNamespace]:
        if handle != "MIG-b2":
            raise NvmlError(4)
        return rows

    nvml.nvmlDeviceGetComputeRunningProcesses = listed
    sensor = Nvml(nvml, "GPU-a1", instance="MIG-b2")
    state = sensor.state(5.0)
    assert state.other_processes == (77,)
    assert state.process_doubt == "NVML lists only the processes of this MIG instance"
    assert sensor.process_bytes() == 5


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
