"""Reading AMD GPUs and the chips of Apple computers and NVIDIA Jetson boards through zeus (https://ml.energy/zeus).

zeus is an optional dependency and is imported only when such a device is to be read.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Mapping
from typing import Any

import torch

from vovnet.errors import install_extra, typed
from vovnet.libraries import explain_import
from vovnet.profiling.energy.sensors import LIMIT_W, DeviceState, Method, NoSensor, Source

NOT_INSTALLED = NoSensor(
    f"AMD, Apple and Jetson devices are read through zeus, which is not installed: {install_extra('zeus')}"
)

# Fields of zeus's measurements that together cover a chip without counting a part twice. The first group of which the
# chip has a field is used. Apple's cores and clusters are part of cpu_total. Whether the GPU includes its SRAM is not
# documented, so the SRAM is not added.
CHIP_PARTS = (
    ("total_energy_mj",),
    ("cpu_energy_mj", "gpu_energy_mj"),
    ("cpu_total_mj", "gpu_mj", "dram_mj", "ane_mj"),
)
CHIP_LIMIT_W = 2_000.0  # the largest of these chips draw less than 400 W
GPU_LIMIT_TIMES = 3  # GPUs exceed their power limit for milliseconds
CHIP_ERRORS = (RuntimeError, queue.Empty)  # of Apple's library; of Jetson's process


class ZeusGpu:
    """A GPU as zeus sees it.

    gpus: a GPU manager of zeus; it must live as long as its GPUs are read.
    error: the base class of zeus's exceptions.
    """

    driver: str | None = None  # zeus does not report it
    missing: Mapping[Method, str] = {}

    def __init__(self, gpus: Any, index: int, error: type[Exception]) -> None:
        self._gpus, self._gpu, self._error = gpus, gpus.gpus[index], error
        self.name: str = self._gpu.get_name()
        instant = (self._gpu.get_instant_power_usage, "instantaneous power over an unpublished window")
        average = (self._gpu.get_average_power_usage, "mean power over an unpublished window")
        power = [(read, meaning) for read, meaning in (instant, average) if self._optional(read) is not None]
        readings: dict[Method, tuple[Callable[[], float], str]] = {}
        if power:
            readings |= {"sampled": power[0], "paper": power[-1]}
        if self._gpu.supports_get_total_energy_consumption():
            readings["counter"] = (self._gpu.get_total_energy_consumption, "the energy counter of the GPU")
        self._reads = {method: read for method, (read, _) in readings.items()}
        limit_mw = self._optional(self._gpu.get_power_management_limit)
        limit_w = GPU_LIMIT_TIMES * limit_mw / 1e3 if limit_mw else LIMIT_W
        self.sources: Mapping[Method, Source] = {
            method: Source(f"zeus {read.__name__}", meaning, limit_w=limit_w)
            for method, (read, meaning) in readings.items()
        }

    def read(self, method: Method) -> float:
        return self._read(self._reads[method]) / 1e3

    def state(self, time_s: float) -> DeviceState:
        limit_mw = self._optional(self._gpu.get_power_management_limit)
        limit_w = None if limit_mw is None else limit_mw / 1e3
        return DeviceState(time_s, self._optional(self._gpu.get_gpu_temperature), power_limit_w=limit_w)

    def _read(self, function: Callable[[], float]) -> float:
        try:
            return function()
        except self._error as error:
            raise OSError(f"zeus: {error}") from error

    def _optional(self, function: Callable[[], float]) -> float | None:
        try:
            return self._read(function)
        except OSError:
            return None


class ZeusChip:
    """A chip with CPU and GPU, which zeus calls an SoC."""

    driver: str | None = None
    missing: Mapping[Method, str] = {}

    def __init__(self, soc: Any, error: type[Exception]) -> None:
        self._soc, self._error = soc, error
        self.name = type(soc).__name__
        available = soc.get_available_metrics()
        groups = ([part for part in parts if part in available] for parts in CHIP_PARTS)
        self._parts: list[str] = next((parts for parts in groups if parts), [])
        meaning = f"the sum of {', '.join(self._parts)} as zeus reports it, with all processes"
        source = Source("zeus get_total_energy_consumption", meaning, limit_w=CHIP_LIMIT_W)
        self.sources: Mapping[Method, Source] = {"counter": source} if self._parts else {}

    def read(self, method: Method) -> float:
        try:
            measurement = self._soc.get_total_energy_consumption()
        except (self._error, *CHIP_ERRORS) as error:
            raise OSError(f"zeus: {_reason(error)}") from error
        energies_mj = {part: getattr(measurement, part) for part in self._parts}
        if lost := [part for part, energy_mj in energies_mj.items() if energy_mj is None]:
            raise OSError(f"zeus: no value of {', '.join(lost)}")
        return float(sum(energies_mj.values())) / 1e3

    def state(self, time_s: float) -> DeviceState:
        return DeviceState(time_s)


def find_zeus_gpu(device: torch.device) -> ZeusGpu | NoSensor:
    """The AMD GPU that PyTorch calls `device`, or the reason why it cannot be read."""
    try:
        from zeus.device.gpu import AMDGPUs, amdsmi_is_available
        from zeus.exception import ZeusBaseError
    except ModuleNotFoundError:
        return NOT_INSTALLED
    except Exception as error:  # a broken one raises anything
        return NoSensor(explain_import(error) or typed(error))
    if os.environ.get("ROCR_VISIBLE_DEVICES"):
        return NoSensor(
            "the GPU cannot be told apart from others: ROCR_VISIBLE_DEVICES renumbers the GPUs for PyTorch only; "
            "choose it by HIP_VISIBLE_DEVICES"
        )
    if not amdsmi_is_available():
        return NoSensor("the GPU cannot be read: AMD's library amdsmi does not load")
    index = torch.cuda.current_device() if device.index is None else device.index
    try:
        return ZeusGpu(AMDGPUs(), index, ZeusBaseError)
    except (ZeusBaseError, IndexError, ValueError) as error:  # ValueError: HIP_VISIBLE_DEVICES has names, not numbers
        return NoSensor(f"the GPU cannot be read: {error}")


def find_zeus_chip() -> ZeusChip | NoSensor:
    """The chip of this Apple computer or Jetson board, or the reason why it cannot be read."""
    try:
        from zeus.device.soc import get_soc
        from zeus.exception import ZeusBaseError
    except ModuleNotFoundError:
        return NOT_INSTALLED
    except Exception as error:  # a broken one raises anything
        return NoSensor(explain_import(error) or typed(error))
    try:
        return ZeusChip(get_soc(), ZeusBaseError)
    except (ZeusBaseError, *CHIP_ERRORS) as error:
        return NoSensor(f"the chip cannot be read: {_reason(error)}")


def _reason(error: Exception) -> str:
    return "no answer in time" if isinstance(error, queue.Empty) else str(error)
