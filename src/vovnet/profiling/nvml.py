"""Reading power, energy and state of an NVIDIA GPU through NVML (package nvidia-ml-py, module pynvml)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from vovnet.errors import install_extra
from vovnet.profiling.sensors import LIMIT_W, DeviceState, Method, NoSensor, Source

# Compute capability → seconds that an instantaneous value covers ("Part-time power measurements", arXiv 2312.02741).
# A100 and H100 publish a value every 100 ms that covers 25 ms, so three quarters of the time are not seen.
INSTANT_WINDOW_S = {(6, 0): 0.01, (6, 1): 0.01, (7, 0): 0.01, (7, 5): 0.1, (8, 0): 0.025, (8, 6): 0.1, (9, 0): 0.025}
LIMIT_TIMES = 3  # boards exceed their power limit for milliseconds, by up to a factor of two
THROTTLE_REASONS = {
    0x002: "application clocks setting",
    0x004: "software power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "software thermal slowdown",
    0x040: "hardware thermal slowdown",
    0x080: "hardware power brake",
    0x100: "display clock setting",
    0x200: "board limit",
    0x400: "reliability limit",
}  # 0x001 means idle, which is not throttling


class Nvml:
    """An NVIDIA board, through the module pynvml, which must be initialised.

    Raises OSError if the board does not give its name or compute capability.
    """

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle
        self.name: str = self._read(nvml.nvmlDeviceGetName, handle)
        self.driver: str | None = self._optional(nvml.nvmlSystemGetDriverVersion)
        self.sources: Mapping[Method, Source] = self._find_sources()

    def _find_sources(self) -> dict[Method, Source]:
        capability = tuple(self._read(self._nvml.nvmlDeviceGetCudaComputeCapability, self._handle))
        window_s = INSTANT_WINDOW_S.get(capability)
        mig = self._optional(self._nvml.nvmlDeviceGetMigMode, self._handle)
        caveats = "; MIG is on, and the value covers all instances" if mig and mig[0] else ""
        caveats += "; the board itself is accurate to about ±5 %"
        covers = "over an unpublished window" if window_s is None else f"over {1e3 * window_s:.0f} ms"
        instantaneous = f"instantaneous on this board, {covers}{caveats}"
        usage = Source("nvmlDeviceGetPowerUsage", instantaneous, window_s)
        if capability > (8, 0):  # documented as averaged on Ampere (except GA100, which is 8.0) and newer
            usage = Source("nvmlDeviceGetPowerUsage", f"an average over 1 s on this board{caveats}", 1.0)
        limit_mw = self._optional(self._nvml.nvmlDeviceGetEnforcedPowerLimit, self._handle)
        limit_w = LIMIT_TIMES * limit_mw / 1e3 if limit_mw else LIMIT_W
        sources: dict[Method, Source] = {}
        if self._supported(self._energy_j):
            meaning = f"the energy of the board since its driver was loaded{caveats}"
            sources["counter"] = Source("nvmlDeviceGetTotalEnergyConsumption", meaning)
        if self._supported(self._usage_power_w):
            sources["sampled"] = sources["paper"] = usage
        if self._supported(self._instant_power_w):
            sources["sampled"] = Source("NVML_FI_DEV_POWER_INSTANT", instantaneous, window_s)
        return {method: replace(source, limit_w=limit_w) for method, source in sources.items()}

    def read(self, method: Method) -> float:
        if method == "counter":
            return self._energy_j()
        if self.sources[method].name == "NVML_FI_DEV_POWER_INSTANT":
            return self._instant_power_w()
        return self._usage_power_w()

    def state(self, time_s: float) -> DeviceState:
        nvml, handle, optional = self._nvml, self._handle, self._optional
        reasons = optional(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle) or 0
        limit_mw = optional(nvml.nvmlDeviceGetEnforcedPowerLimit, handle)
        lists = (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses)
        pids = {process.pid for get_processes in lists for process in optional(get_processes, handle) or ()}
        return DeviceState(
            time_s=time_s,
            temperature_c=optional(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
            clock_mhz=optional(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
            memory_clock_mhz=optional(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_MEM),
            power_limit_w=None if limit_mw is None else limit_mw / 1e3,
            throttle_reasons=tuple(name for bit, name in THROTTLE_REASONS.items() if reasons & bit),
            other_processes=tuple(sorted(pids - {os.getpid()})),
        )

    def process_bytes(self) -> int | None:
        """Memory that this process holds on the board, with its CUDA context.

        None where NVML does not report it, as in a container that numbers processes differently.
        """
        processes = self._optional(self._nvml.nvmlDeviceGetComputeRunningProcesses, self._handle) or ()
        return next((process.usedGpuMemory for process in processes if process.pid == os.getpid()), None)

    def _energy_j(self) -> float:
        return self._read(self._nvml.nvmlDeviceGetTotalEnergyConsumption, self._handle) / 1e3

    def _instant_power_w(self) -> float:
        nvml = self._nvml

        def read() -> float:
            (field,) = nvml.nvmlDeviceGetFieldValues(self._handle, [nvml.NVML_FI_DEV_POWER_INSTANT])
            if field.nvmlReturn != nvml.NVML_SUCCESS:
                raise nvml.NVMLError(field.nvmlReturn)
            return field.value.uiVal / 1e3

        return self._read(read)

    def _usage_power_w(self) -> float:
        return self._read(self._nvml.nvmlDeviceGetPowerUsage, self._handle) / 1e3

    def _read(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except self._nvml.NVMLError as error:
            raise OSError(error.value, f"NVML: {error}") from error

    def _optional(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return self._read(function, *arguments)
        except OSError:
            return None

    def _supported(self, read: Callable[[], float]) -> bool:
        """False if the board or its driver lacks the value; True if it only failed to read this time."""
        nvml = self._nvml
        lacking = (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND, nvml.NVML_ERROR_INVALID_ARGUMENT)
        try:
            read()
        except OSError as error:
            return error.errno not in lacking
        return True


def find_nvml(device: torch.device) -> Nvml | NoSensor:
    """The board that PyTorch calls `device`, or the reason why it cannot be read."""
    try:
        import pynvml
    except ImportError:
        return NoSensor(f"nvidia-ml-py is not installed: {install_extra('energy')}")
    try:
        pynvml.nvmlInit()
        index = torch.cuda.current_device() if device.index is None else device.index
        # By UUID, since CUDA's numbers follow CUDA_VISIBLE_DEVICES and NVML's follow the slots.
        return Nvml(pynvml, _board(pynvml, str(torch.cuda.get_device_properties(index).uuid)))
    except OSError as error:
        return NoSensor(f"the GPU cannot be read: {error.strerror}")
    except (pynvml.NVMLError, RuntimeError, AssertionError) as error:  # torch without CUDA raises the latter two
        return NoSensor(f"the GPU cannot be read: {error}")


def _board(nvml: Any, uuid: str) -> Any:
    """The handle of the whole board, also if CUDA sees a MIG instance of it: an instance has no power reading."""
    try:
        return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except nvml.NVMLError:
        return nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}"))
