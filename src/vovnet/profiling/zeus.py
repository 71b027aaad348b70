"""Reading through zeus (https://ml.energy/zeus) what NVML does not know: AMD's GPUs, and the chips of Apple and of
NVIDIA's Jetson boards. It takes seconds to import, so it is imported only where it is needed."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping
from typing import Any

import torch

from vovnet.profiling.sensors import Conditions, Method, NoSensor, Source

NOT_INSTALLED = NoSensor(
    "zeus is not installed, through which AMD, Apple and Jetson devices are read: pip install 'vovnet[zeus]'"
)

# The parts of a chip in the fields of zeus that add up to all it tells, the first of them that are there. Apple's cores
# and clusters lie inside cpu_total; whether a GPU's SRAM lies inside the GPU is not documented, so it stays outside.
CHIP_PARTS = (
    ("total_energy_mj",),
    ("cpu_energy_mj", "gpu_energy_mj"),
    ("cpu_total_mj", "gpu_mj", "dram_mj", "ane_mj"),
)


class ZeusGpu:
    """GPU number `index` of `gpus`, a GPU manager of zeus, which must live as long as its GPUs are read. `error` is
    what zeus raises."""

    driver: str | None = None  # zeus does not tell

    def __init__(self, gpus: Any, index: int, error: type[Exception]) -> None:
        self._gpus, self._gpu, self._error = gpus, gpus.gpus[index], error
        self.name: str = self._gpu.get_name()
        now = (self._gpu.get_instant_power_usage, "the power now, over an unpublished window")
        mean = (self._gpu.get_average_power_usage, "a mean of power over an unpublished window")
        power = [(read, meaning) for read, meaning in (now, mean) if self._optional(read) is not None]
        found: dict[Method, tuple[Callable[[], float], str]] = {}
        if power:
            found |= {"sampled": power[0], "paper": power[-1]}
        if self._gpu.supports_get_total_energy_consumption():
            found["counter"] = (self._gpu.get_total_energy_consumption, "the GPU's energy counter")
        self._reads = {method: read for method, (read, _) in found.items()}
        self.sources: Mapping[Method, Source] = {
            method: Source(f"zeus {read.__name__}", meaning) for method, (read, meaning) in found.items()
        }

    def read(self, method: Method) -> float:
        return self._read(self._reads[method]) / 1e3

    def conditions(self, time_s: float) -> Conditions:
        limit_mw = self._optional(self._gpu.get_power_management_limit)
        return Conditions(
            time_s=time_s,
            temperature_c=self._optional(self._gpu.get_gpu_temperature),
            power_limit_w=None if limit_mw is None else limit_mw / 1e3,
        )

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
    """A chip that holds CPU and GPU, `soc` as zeus calls it; `error` is what zeus raises."""

    driver: str | None = None

    def __init__(self, soc: Any, error: type[Exception]) -> None:
        self._soc, self._error = soc, error
        self.name = type(soc).__name__
        there = soc.get_available_metrics()
        choices = ([part for part in parts if part in there] for parts in CHIP_PARTS)
        self._parts: list[str] = next((parts for parts in choices if parts), [])
        meaning = f"the sum of {', '.join(self._parts)}, of all processes, as the chip and zeus tell it"
        source = Source("zeus get_total_energy_consumption", meaning)
        self.sources: Mapping[Method, Source] = {"counter": source} if self._parts else {}

    def read(self, method: Method) -> float:
        try:
            now = self._soc.get_total_energy_consumption()
        except (self._error, RuntimeError, queue.Empty) as error:  # Apple's library, Jetson's process
            raise OSError(f"zeus: {_reason(error)}") from error
        return sum(getattr(now, part) for part in self._parts) / 1e3

    def conditions(self, time_s: float) -> Conditions:
        return Conditions(time_s)


def find_gpu(device: torch.device) -> ZeusGpu | NoSensor:
    """The AMD GPU that PyTorch calls `device`, or why it cannot be read."""
    try:
        from zeus.device.gpu import AMDGPUs, amdsmi_is_available
        from zeus.exception import ZeusBaseError
    except ImportError:
        return NOT_INSTALLED
    if not amdsmi_is_available():
        return NoSensor("the GPU cannot be read: AMD's library amdsmi does not load")
    index = torch.cuda.current_device() if device.index is None else device.index
    try:
        return ZeusGpu(AMDGPUs(), index, ZeusBaseError)
    except (ZeusBaseError, IndexError, ValueError) as error:  # the last: devices are hidden by names, not by numbers
        return NoSensor(f"the GPU cannot be read: {error}")


def find_chip() -> ZeusChip | NoSensor:
    """The chip of this Apple computer or Jetson board, or why it cannot be read."""
    try:
        from zeus.device.soc import get_soc
        from zeus.exception import ZeusBaseError
    except ImportError:
        return NOT_INSTALLED
    try:
        return ZeusChip(get_soc(), ZeusBaseError)
    except (ZeusBaseError, RuntimeError, queue.Empty) as error:
        return NoSensor(f"the chip cannot be read: {_reason(error)}")


def _reason(error: Exception) -> str:
    return "no answer in time" if isinstance(error, queue.Empty) else str(error)
