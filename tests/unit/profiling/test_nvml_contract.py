"""The adapter to NVML against the real pynvml, and the simulated pynvml of the other tests against the real one.

What is simulated here lies below pynvml: the functions of the driver's C library.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vovnet.profiling.energy.find_sensor import find_sensor
from vovnet.profiling.energy.nvml import MODULE, POWER_INSTANT, POWER_LIMIT, THROTTLE_REASONS, Nvml
from vovnet.profiling.energy.nvml_calls import FUNCTION_NOT_FOUND, PASSING, is_lacking
from vovnet.profiling.energy.sensors import DeviceState, NoSensor

from .simulated import H100, Device, FakeNvml, NvmlError

pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
MIB = 2**20


class Driver:
    """Functions of libnvidia-ml.so for one H100. Each writes to the places that it is given and returns an error code.

    lacks: names of functions for which the driver returns "not supported".
    unknown: names of functions that it does not have at all.
    """

    def __init__(self) -> None:
        self.unknown: set[str] = set()
        self.lacks: set[str] = set()
        self.calls: list[str] = []
        self.values = {
            "nvmlDeviceGetTotalEnergyConsumption": (12_345_678,),  # mJ
            "nvmlDeviceGetPowerUsage": (250_500,),  # mW
            "nvmlDeviceGetEnforcedPowerLimit": (700_000,),  # mW
            "nvmlDeviceGetCudaComputeCapability": (9, 0),
            "nvmlDeviceGetMigMode": (0, 0),
            "nvmlDeviceGetCurrentClocksEventReasons": (0x1 | 0x4 | 0x40,),
        }

    def function(self, name: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name in self.unknown:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)  # as if the library had no such symbol
            if name in self.lacks:
                return pynvml.NVML_ERROR_NOT_SUPPORTED
            if name in self.values:
                for place, value in zip(arguments[-len(self.values[name]) :], self.values[name], strict=True):
                    place._obj.value = value
                return pynvml.NVML_SUCCESS
            return getattr(self, name)(*arguments)

        return call

    def nvmlInitWithFlags(self, flags: int) -> int:  # noqa: N802
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetHandleByUUID(self, uuid: Any, handle: Any) -> int:  # noqa: N802
        return pynvml.NVML_SUCCESS if uuid.value == b"GPU-a1" else pynvml.NVML_ERROR_NOT_FOUND

    def nvmlDeviceGetName(self, handle: Any, name: Any, size: Any) -> int:  # noqa: N802
        name.value = b"NVIDIA H100"
        return pynvml.NVML_SUCCESS

    def nvmlSystemGetDriverVersion(self, version: Any, size: Any) -> int:  # noqa: N802
        version.value = b"580.1"
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetFieldValues(self, handle: Any, count: Any, values: Any) -> int:  # noqa: N802
        (field,) = values._obj
        assert field.fieldId == pynvml.NVML_FI_DEV_POWER_INSTANT
        lacking = "instant" in self.lacks or field.scopeId != pynvml.NVML_POWER_SCOPE_GPU
        field.nvmlReturn = pynvml.NVML_ERROR_NOT_SUPPORTED if lacking else pynvml.NVML_SUCCESS
        field.value.uiVal = 260_250  # mW
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: Any, celsius: Any) -> int:  # noqa: N802
        assert sensor.value == 0
        celsius._obj.value = 61
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetClockInfo(self, handle: Any, clock: Any, mhz: Any) -> int:  # noqa: N802
        mhz._obj.value = {1: 1980, 2: 2619}[clock.value]  # SM, memory
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle: Any, count: Any, processes: Any) -> int:  # noqa: N802
        return self._processes(count, processes, {os.getpid(): 500 * MIB, 4242: MIB})

    def nvmlDeviceGetGraphicsRunningProcesses_v3(self, handle: Any, count: Any, processes: Any) -> int:  # noqa: N802
        return self._processes(count, processes, {77: MIB})

    def _processes(self, count: Any, processes: Any, used_bytes: dict[int, int]) -> int:
        count._obj.value = len(used_bytes)
        if processes is None:
            return pynvml.NVML_ERROR_INSUFFICIENT_SIZE
        for process, (pid, size) in zip(processes, used_bytes.items(), strict=False):
            process.pid, process.usedGpuMemory = pid, size
        return pynvml.NVML_SUCCESS


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    driver = Driver()
    monkeypatch.setattr(pynvml, "_LoadNvmlLibrary", lambda: None)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer", driver.function)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="a1"))
    return driver


def test_a_board_through_the_real_pynvml(driver: Driver) -> None:
    sensor = find_sensor("cuda:0")
    assert isinstance(sensor, Nvml)
    assert (sensor.name, sensor.driver) == ("NVIDIA H100", "580.1")
    assert sensor.sources["counter"].name in driver.calls
    assert sensor.sources["paper"].window_s == 1.0
    assert sensor.sources["sampled"].name == "NVML_FI_DEV_POWER_INSTANT"
    assert (sensor.read("counter"), sensor.read("paper"), sensor.read("sampled")) == (12_345.678, 250.5, 260.25)
    assert sensor.state(5.0) == DeviceState(
        time_s=5.0,
        temperature_c=61,
        clock_mhz=1980,
        memory_clock_mhz=2619,
        power_limit_w=700,
        throttle_reasons=("software power cap", "hardware thermal slowdown"),
        other_processes=(77, 4242),
    )
    assert sensor.process_bytes() == 500 * MIB


def test_what_the_driver_lacks_is_unknown_and_not_a_source(driver: Driver) -> None:
    driver.lacks = {
        "instant",
        "nvmlDeviceGetTotalEnergyConsumption",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetComputeRunningProcesses_v3",
    }
    sensor = find_sensor("cuda:0")
    assert isinstance(sensor, Nvml)
    assert {source.name for source in sensor.sources.values()} == {"nvmlDeviceGetPowerUsage"}
    state = sensor.state(5.0)
    assert (state.temperature_c, state.other_processes) == (None, (77,))
    assert state.process_doubt == "NVML does not list the processes (Not Supported)"
    assert sensor.process_bytes() is None


def test_a_driver_that_is_older_than_the_package(driver: Driver) -> None:
    lists = {f"nvmlDeviceGet{kind}RunningProcesses_v{n}" for kind in ("Compute", "Graphics") for n in (2, 3)}
    driver.unknown = {*lists, "nvmlDeviceGetCurrentClocksEventReasons"}
    driver.values["nvmlDeviceGetCurrentClocksThrottleReasons"] = (0x20,)
    sensor = find_sensor("cuda:0")
    assert isinstance(sensor, Nvml)
    state = sensor.state(5.0)
    assert state.throttle_reasons == ("software thermal slowdown",)
    assert state.other_processes == ()
    assert "NVML does not list the processes" in (state.process_doubt or "")
    assert sensor.process_bytes() is None


def test_a_user_without_permission_has_no_source(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "NVML_ERROR_NOT_SUPPORTED", pynvml.NVML_ERROR_NO_PERMISSION)
    driver.lacks = {"nvmlDeviceGetTotalEnergyConsumption"}
    sensor = find_sensor("cuda:0")
    assert isinstance(sensor, Nvml)
    assert sensor.missing == {"counter": "NVML: Insufficient Permissions"}


def test_the_numbers_of_nvml_are_those_of_the_package() -> None:
    assert pynvml.NVML_FI_DEV_POWER_INSTANT == POWER_INSTANT
    assert pynvml.NVML_FI_DEV_POWER_CURRENT_LIMIT == POWER_LIMIT
    assert pynvml.NVML_POWER_SCOPE_MODULE == MODULE
    assert pynvml.NVML_ERROR_FUNCTION_NOT_FOUND == FUNCTION_NOT_FOUND


def test_every_error_of_nvml_is_either_lacking_or_passing() -> None:
    codes = {value for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_")}
    newer = set(PASSING) - codes  # than the installed package
    assert not newer or min(newer) > max(codes - {pynvml.NVML_ERROR_UNKNOWN})
    for code in codes:
        assert is_lacking(OSError(code, "")) != (code in PASSING)


def test_a_board_that_the_driver_does_not_know_is_a_reason(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="c3"))
    assert find_sensor("cuda:0") == NoSensor("the GPU cannot be read: Not Found")


def test_the_simulated_pynvml_is_like_the_real_one() -> None:
    fake = FakeNvml(Device(phases=((200.0, 0.02),)), H100)
    for name, member in inspect.getmembers(fake):
        if name.startswith("nvml"):
            count = len(inspect.signature(member).parameters)
            assert len(inspect.signature(getattr(pynvml, name)).parameters) == count, name
        elif name.startswith("NVML_"):
            assert getattr(pynvml, name) == member, name
    assert pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN).value == NvmlError(fake.NVML_ERROR_UNKNOWN).value


def test_the_throttle_reasons_are_those_of_nvml() -> None:
    values = {
        value
        for name, value in vars(pynvml).items()
        if name.startswith("nvmlClocksThrottleReason") and isinstance(value, int) and value & (value - 1) == 0
    }
    values -= {0, pynvml.nvmlClocksThrottleReasonGpuIdle}
    newer = set(THROTTLE_REASONS) - values  # than the installed package
    assert values <= set(THROTTLE_REASONS)
    assert not newer or min(newer) > max(values)
