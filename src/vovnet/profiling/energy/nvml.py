"""Reading power, energy and state of an NVIDIA GPU through NVML (package nvidia-ml-py, module pynvml)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from vovnet.errors import install_extra, typed
from vovnet.libraries import explain_import
from vovnet.profiling.energy.nvml_calls import NvmlCalls, is_lacking
from vovnet.profiling.energy.sensors import LIMIT_W, DeviceState, Method, NoSensor, Source
from vovnet.profiling.own_process import OwnProcess, find_own_process, holding, own_numbers

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
POWER_INSTANT, POWER_LIMIT = 186, 190  # NVML_FI_DEV_POWER_INSTANT and …_CURRENT_LIMIT, which old packages do not name
GPU, MODULE = 0, 1  # NVML_POWER_SCOPE_…: a module has a GPU and a CPU (GH200, GB200); other boards have no such scope
_EVENTS = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")  # new and old name
_COMPUTE = tuple(f"nvmlDeviceGetComputeRunningProcesses{version}" for version in ("", "_v3", "_v2"))
_GRAPHICS = tuple(f"nvmlDeviceGetGraphicsRunningProcesses{version}" for version in ("", "_v3", "_v2"))


class Nvml:
    """An NVIDIA board, through the module pynvml, which must be initialised.

    instance: the handle of the MIG instance on which PyTorch works, if it is one.
    own: this process among those that NVML lists.
    missing: method → why the board does not have it.

    Raises OSError if the board does not give its name or compute capability.
    """

    def __init__(self, nvml: Any, handle: Any, instance: Any = None, own: OwnProcess | None = None) -> None:
        self._calls, self._handle, self._instance = NvmlCalls(nvml), handle, instance
        self.own = own or OwnProcess(own_numbers())
        self.name: str = self._read("nvmlDeviceGetName")
        self.driver: str | None = self._calls.optional("nvmlSystemGetDriverVersion")
        self._reads: dict[Method, Callable[[], float]] = {}
        self.sources: Mapping[Method, Source]
        self.missing: Mapping[Method, str]
        self.sources, self.missing = self._find_sources()

    def _find_sources(self) -> tuple[dict[Method, Source], dict[Method, str]]:
        mig = self._optional("nvmlDeviceGetMigMode")
        caveats = "; MIG is on, and the value covers all instances" if mig and mig[0] else ""
        caveats += "; the board itself is accurate to about ±5 %"
        capability = tuple(self._read("nvmlDeviceGetCudaComputeCapability"))
        limit_mw = self._optional("nvmlDeviceGetEnforcedPowerLimit")
        limit_w = LIMIT_TIMES * limit_mw / 1e3 if limit_mw else LIMIT_W
        window_s = INSTANT_WINDOW_S.get(capability)
        covers = "over an unpublished window" if window_s is None else f"over {1e3 * window_s:.0f} ms"
        if capability == (9, 0) and "H100" not in self.name:
            covers += " as on the H100"
        instantaneous = f"instantaneous on this board, {covers}{caveats}"
        usage = Source("nvmlDeviceGetPowerUsage", instantaneous, window_s, limit_w)
        if capability > (8, 0):  # documented as averaged on Ampere (except GA100, which is 8.0) and newer
            usage = replace(usage, meaning=f"an average over 1 s on this board{caveats}", window_s=1.0)
        instant = Source("NVML_FI_DEV_POWER_INSTANT", instantaneous, window_s, limit_w)
        counted = f"the energy of the board since its driver was loaded{caveats}"
        counter = Source("nvmlDeviceGetTotalEnergyConsumption", counted, limit_w=limit_w)
        scope = GPU
        with suppress(OSError):
            if self._instant_power_w(MODULE) > 0:
                scope = MODULE
        if scope == MODULE:
            usage, instant, counter = self._of_module(usage, instant, counter, caveats)

        sources: dict[Method, Source] = {}
        missing: dict[Method, str] = {}
        candidates: tuple[tuple[tuple[Method, ...], Source, Callable[[], float]], ...] = (
            (("counter",), counter, self._energy_j),
            (("sampled", "paper"), usage, self._usage_power_w),
            (("sampled",), instant, partial(self._instant_power_w, scope)),
        )
        for methods, source, read in candidates:
            reason = _why_lacking(read)
            for method in methods:
                if reason is None:
                    sources[method], self._reads[method] = source, read
                else:
                    missing[method] = reason
        return sources, {method: reason for method, reason in missing.items() if method not in sources}

    def _of_module(self, usage: Source, instant: Source, counter: Source, caveats: str) -> tuple[Source, ...]:
        """The sources of a board whose GPU shares a module with a CPU, with what each of them covers."""
        limit_w = LIMIT_W
        with suppress(OSError):
            limit_w = LIMIT_TIMES * self._calls.field(self._handle, POWER_LIMIT, MODULE) / 1e3 or LIMIT_W
        module = "of the whole module, GPU and CPU with their memory"
        meaning = f"instantaneous power {module}, over an unpublished window{caveats}"
        counted = f"the energy since the driver was loaded, on a GH200 that {module}; on others NVML does not say"
        return (
            replace(usage, meaning=f"{usage.meaning}; of the GPU alone, without the CPU of its module"),
            Source(f"{instant.name}, scope module", meaning, None, limit_w),
            replace(counter, meaning=counted + caveats, limit_w=limit_w),
        )

    def read(self, method: Method) -> float:
        return self._reads[method]()

    def state(self, time_s: float) -> DeviceState:
        reasons = self._calls.optional(*_EVENTS, arguments=(self._handle,)) or 0
        limit_mw = self._optional("nvmlDeviceGetEnforcedPowerLimit")
        others, doubt = self._others()
        return DeviceState(
            time_s=time_s,
            temperature_c=self._optional("nvmlDeviceGetTemperature", self._calls.nvml.NVML_TEMPERATURE_GPU),
            clock_mhz=self._optional("nvmlDeviceGetClockInfo", self._calls.nvml.NVML_CLOCK_SM),
            memory_clock_mhz=self._optional("nvmlDeviceGetClockInfo", self._calls.nvml.NVML_CLOCK_MEM),
            power_limit_w=None if limit_mw is None else limit_mw / 1e3,
            throttle_reasons=tuple(name for bit, name in THROTTLE_REASONS.items() if reasons & bit),
            other_processes=others,
            process_doubt=doubt,
        )

    def process_bytes(self) -> int | None:
        """Memory that this process holds on the board, with its CUDA context; None where NVML does not report it."""
        listed = self.list_processes()
        return None if listed is None else self.own.bytes_of(listed)

    def list_processes(self) -> dict[int, int | None] | None:
        """Number of each process that computes on the board → its bytes; None if there is no list."""
        try:
            return self._listed(_COMPUTE)[0]
        except OSError:
            return None

    def _listed(self, functions: tuple[str, ...]) -> tuple[dict[int, int | None], bool]:
        """Number of each process → its bytes, and whether those of all MIG instances are in it. Raises OSError."""
        complete = True
        try:
            processes = self._read(*functions)
        except OSError:
            if self._instance is None:
                raise
            # Of a divided board, only an administrator may see all processes.
            processes, complete = self._calls.read(*functions, arguments=(self._instance,)), False
        return {process.pid: getattr(process, "usedGpuMemory", None) for process in processes}, complete

    def _others(self) -> tuple[tuple[int, ...], str | None]:
        """The other processes on the board, and why they may not be all."""
        listed: dict[int, int | None] = {}
        doubt = None
        with suppress(OSError):  # which boards without a display may not have
            listed |= self._listed(_GRAPHICS)[0]
        try:
            computing, complete = self._listed(_COMPUTE)
            listed |= computing
            if not complete:
                doubt = "NVML lists only the processes of this MIG instance"
        except OSError as error:
            others = self.own.others(listed)
            return others or (), f"NVML does not list the processes ({str(error.strerror).removeprefix('NVML: ')})"
        others = self.own.others(listed)
        if others is None:
            return (), "NVML lists processes by numbers among which this one is not, as in a container"
        return others, doubt

    def _energy_j(self) -> float:
        return float(self._read("nvmlDeviceGetTotalEnergyConsumption")) / 1e3

    def _instant_power_w(self, scope: int) -> float:
        return self._calls.field(self._handle, POWER_INSTANT, scope) / 1e3

    def _usage_power_w(self) -> float:
        return float(self._read("nvmlDeviceGetPowerUsage")) / 1e3

    def _read(self, *names: str) -> Any:
        return self._calls.read(*names, arguments=(self._handle,))

    def _optional(self, name: str, *arguments: Any) -> Any:
        return self._calls.optional(name, arguments=(self._handle, *arguments))


def _why_lacking(read: Callable[[], float]) -> str | None:
    """Why a value is lacking; None if there is one, or if it only failed to be read this time."""
    try:
        read()
    except OSError as error:
        return error.strerror if is_lacking(error) else None
    return None


def find_nvml(device: torch.device) -> Nvml | NoSensor:
    """The board that PyTorch calls `device`, or the reason why it cannot be read."""
    try:
        import pynvml
    except ModuleNotFoundError:
        return NoSensor(f"nvidia-ml-py is not installed: {install_extra('energy')}")
    except Exception as error:  # a broken one raises anything
        return NoSensor(explain_import(error) or typed(error))
    try:
        pynvml.nvmlInit()
        index = torch.cuda.current_device() if device.index is None else device.index
        # By UUID, since CUDA's numbers follow CUDA_VISIBLE_DEVICES and NVML's follow the slots.
        uuid = str(torch.cuda.get_device_properties(index).uuid)
        board, instance = _handles(pynvml, uuid)
        found = Nvml(pynvml, board, instance)
    except OSError as error:
        return NoSensor(f"the GPU cannot be read: {error.strerror}")
    except (pynvml.NVMLError, RuntimeError, AssertionError) as error:  # torch without CUDA raises the latter two
        return NoSensor(f"the GPU cannot be read: {error}")
    found.own = _own_process(uuid, index, found)
    return found


_known: dict[str, OwnProcess] = {}  # by board; asked once, since it takes memory of the board for a moment


def _own_process(uuid: str, index: int, board: Nvml) -> OwnProcess:
    if uuid not in _known:
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        own = find_own_process(board.list_processes, partial(holding, torch.device("cuda", index)))
        if not own.on_board:
            return own
        _known[uuid] = own
    return _known[uuid]


def _handles(nvml: Any, uuid: str) -> tuple[Any, Any]:
    """The handle of the whole board, and that of the MIG instance if CUDA sees one: it has no power reading."""
    try:
        return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"), None
    except nvml.NVMLError:
        instance = nvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")
        return nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(instance), instance
