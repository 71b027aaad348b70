"""A simulated GPU with its NVML, and a simulated CPU, in virtual time and with known energy.

Minutes of measuring take milliseconds. Window and period of the published values follow "Part-time power measurements"
(arXiv 2312.02741).
"""

from __future__ import annotations

import math
import os
import random
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

POWER_LIMIT = 190  # NVML_FI_DEV_POWER_CURRENT_LIMIT
PHASES = ((300.0, 0.017), (140.0, 0.008))


class VirtualClock:
    """Time passes only in `sleep`, which calls functions when they are due."""

    def __init__(self) -> None:
        self._now_s = 1e6
        self._beats: list[SimpleNamespace] = []

    def now(self) -> float:
        return self._now_s

    def sleep(self, seconds: float) -> None:
        end_s = self._now_s + seconds
        while self._beats and (beat := min(self._beats, key=lambda beat: beat.due_s)).due_s <= end_s:
            self._now_s = beat.due_s
            beat.due_s += beat.interval_s
            beat.function()
        self._now_s = end_s

    def start(self, interval_s: float, function: Callable[[], object]) -> SimpleNamespace:
        function()
        beat = SimpleNamespace(due_s=self._now_s + interval_s, interval_s=interval_s, function=function)
        self._beats.append(beat)
        return beat

    @contextmanager
    def every(self, interval_s: float, function: Callable[[], object]) -> Iterator[None]:
        beat = self.start(interval_s, function)
        try:
            yield
        finally:
            self._beats.remove(beat)


class Device:
    """A device that draws `idle_w`, and the power of its phases during `run`, and records its energy.

    phases: watts and seconds of each part of an iteration.
    jitter: the largest random change of the time of an iteration, as a fraction.
    """

    def __init__(
        self,
        phases: tuple[tuple[float, float], ...] = PHASES,
        *,
        idle_w: float = 60.0,
        images: int = 8,
        jitter: float = 0.03,
    ) -> None:
        self.clock, self.idle_w, self.phases, self.images = VirtualClock(), idle_w, phases, images
        self.jitter = jitter
        self._times_s, self._joules, self._watts = [0.0], [0.0], [idle_w]
        self.worked_s = 0.0
        self.slow_after_s = math.inf  # seconds of work after which the clock falls

    @property
    def true_j_per_image(self) -> float:
        return sum(watts * seconds for watts, seconds in self.phases) / self.images

    @property
    def throttled(self) -> bool:
        return self.worked_s > self.slow_after_s

    def run(self) -> int:
        stretch = random.uniform(1 - self.jitter, 1 + self.jitter) * (1.4 if self.throttled else 1.0)
        for watts, seconds in self.phases:
            self._draw(watts)
            self.clock.sleep(seconds * stretch)
            self.worked_s += seconds * stretch
        self._draw(self.idle_w)
        return self.images

    def _draw(self, watts: float) -> None:
        joules = self.joules(self.clock.now())
        self._times_s.append(self.clock.now())
        self._joules.append(joules)
        self._watts.append(watts)

    def joules(self, time_s: float) -> float:
        """Energy drawn until `time_s`, which must not lie in the future."""
        last = bisect_right(self._times_s, time_s) - 1
        return self._joules[last] + self._watts[last] * (time_s - self._times_s[last])

    def mean_w(self, end_s: float, window_s: float) -> float:
        return (self.joules(end_s) - self.joules(end_s - window_s)) / window_s


@dataclass(frozen=True)
class Chip:
    """What a board publishes: every `period_s` the mean power of the last `window_s`."""

    name: str
    capability: tuple[int, int]
    window_s: float
    period_s: float
    usage_window_s: float
    has_instant_field: bool = True
    counter_period_s: float | None = 0.1


CHIPS = (
    Chip("TITAN X (Pascal)", (6, 1), 0.010, 0.020, 0.010, has_instant_field=False, counter_period_s=None),
    Chip("V100", (7, 0), 0.010, 0.020, 0.010, counter_period_s=0.020),
    Chip("RTX 2080", (7, 5), 0.100, 0.100, 0.100),
    Chip("A100", (8, 0), 0.025, 0.100, 0.025),
    Chip("RTX 3090", (8, 6), 0.100, 0.100, 1.0, counter_period_s=0.050),
    Chip("H100", (9, 0), 0.025, 0.100, 1.0),
)
H100 = CHIPS[-1]


class NvmlError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"error {value}")
        self.value = value


class FakeNvml:
    """The used part of the module pynvml, for a simulated device.

    counter_gain: factor on the counter, which makes it disagree with power.
    board_gain: factor on counter and power.
    fault: called before each reading of power or energy; it may raise.
    refused: name of a function → the error code with which it always fails.
    module_gain: factor from the power of the GPU to that of its module; None if there is no module.
    """

    NVMLError = NvmlError
    NVML_SUCCESS, NVML_ERROR_INVALID_ARGUMENT, NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_FUNCTION_NOT_FOUND = 0, 2, 3, 13
    NVML_ERROR_NOT_FOUND, NVML_ERROR_UNKNOWN = 6, 999
    NVML_TEMPERATURE_GPU, NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_FI_DEV_POWER_INSTANT = 0, 1, 2, 186

    def __init__(self, device: Device, chip: Chip, *, counter_gain: float = 1.0, board_gain: float = 1.0) -> None:
        self.device, self.chip, self.power_gain, self.counter_gain = device, chip, board_gain, board_gain * counter_gain
        self.fault: Callable[[], object] = lambda: None
        self.refused: dict[str, int] = {}
        self.module_gain: float | None = None
        self.pids: list[int] = []
        self.used_bytes: dict[int, int | None] = {}  # of the processes whose memory the driver knows
        self.graphics_pids: list[int] = []
        self.mig: int | None = None  # None: the board does not support MIG
        self._celsius, self._at_s = 40.0, device.clock.now()

    def __getattribute__(self, name: str) -> object:
        refused = object.__getattribute__(self, "__dict__").get("refused", {})
        if name in refused:

            def refuse(*arguments: object) -> None:
                raise NvmlError(refused[name])

            return refuse
        return object.__getattribute__(self, name)

    def _published_s(self, period_s: float) -> float:
        return math.floor(self.device.clock.now() / period_s) * period_s

    def _power_mw(self, window_s: float) -> int:
        return round(1e3 * self.power_gain * self.device.mean_w(self._published_s(self.chip.period_s), window_s))

    def nvmlDeviceGetName(self, handle: object) -> str:  # noqa: N802
        return self.chip.name

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "580.1"

    def nvmlDeviceGetMigMode(self, handle: object) -> list[int]:  # noqa: N802
        if self.mig is None:
            raise NvmlError(self.NVML_ERROR_NOT_SUPPORTED)
        return [self.mig, self.mig]

    def nvmlDeviceGetCudaComputeCapability(self, handle: object) -> tuple[int, int]:  # noqa: N802
        return self.chip.capability

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object) -> int:  # noqa: N802
        if self.chip.counter_period_s is None:
            raise NvmlError(self.NVML_ERROR_NOT_SUPPORTED)
        self.fault()
        return int(1e3 * self.counter_gain * self.device.joules(self._published_s(self.chip.counter_period_s)))

    def nvmlDeviceGetPowerUsage(self, handle: object) -> int:  # noqa: N802
        self.fault()
        return self._power_mw(self.chip.usage_window_s)

    def nvmlDeviceGetFieldValues(  # noqa: N802
        self, handle: object, fields: list[tuple[int, int]]
    ) -> list[SimpleNamespace]:
        ((field, scope),) = fields
        gain = (1.0, self.module_gain)[scope]
        if not self.chip.has_instant_field or gain is None:
            return [SimpleNamespace(nvmlReturn=self.NVML_ERROR_NOT_SUPPORTED, value=SimpleNamespace(uiVal=0))]
        if field == POWER_LIMIT:
            value = SimpleNamespace(uiVal=round(700_000 * gain))
        else:
            assert field == self.NVML_FI_DEV_POWER_INSTANT
            self.fault()
            value = SimpleNamespace(uiVal=round(gain * self._power_mw(self.chip.window_s)))
        return [SimpleNamespace(nvmlReturn=self.NVML_SUCCESS, value=value)]

    def nvmlDeviceGetTemperature(self, handle: object, which: int) -> int:  # noqa: N802
        now_s = self.device.clock.now()
        if (elapsed_s := now_s - self._at_s) > 0:
            target = 30 + 0.15 * self.device.mean_w(now_s, elapsed_s)
            self._celsius += (target - self._celsius) * (1 - math.exp(-elapsed_s / 15))
            self._at_s = now_s
        return round(self._celsius)

    def nvmlDeviceGetClockInfo(self, handle: object, which: int) -> int:  # noqa: N802
        return 1000 if self.device.throttled and which == self.NVML_CLOCK_SM else 1400

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: object) -> int:  # noqa: N802
        return 700_000

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: object) -> int:  # noqa: N802
        return 0x40 if self.device.throttled else 0x1

    def nvmlDeviceGetComputeRunningProcesses(self, handle: object) -> list[SimpleNamespace]:  # noqa: N802
        return [SimpleNamespace(pid=pid, usedGpuMemory=self.used_bytes.get(pid)) for pid in self.pids]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: object) -> list[SimpleNamespace]:  # noqa: N802
        return [SimpleNamespace(pid=pid) for pid in self.graphics_pids]


class FakeSys:
    """Kernel files of CPU packages that share the energy of the device equally, and of CPU time.

    The packages have domains inside them, and their counters wrap.

    other_cores: number of cores that other processes keep busy.
    """

    def __init__(
        self, root: Path, device: Device, *, packages: int = 2, range_uj: int = 50_000_000, other_cores: float = 0.0
    ) -> None:
        self._powercap, self._stat = root / "sys/class/powercap", root / "proc/stat"
        self._stat.parent.mkdir()
        self.device, self._packages, self._range_uj, self._other_cores = device, packages, range_uj, other_cores
        for package in range(packages):
            self._zone(f"intel-rapl:{package}", f"package-{package}")
            self._zone(f"intel-rapl:{package}:0", "core")
        self._zone("intel-rapl-mmio:0", "package-0")  # the same package through another interface
        self._zone(f"intel-rapl:{packages}", "psys")  # the whole machine with its packages
        self.refresh()

    def _zone(self, folder: str, name: str) -> None:
        zone = self._powercap / folder
        zone.mkdir(parents=True)
        for file, value in {"name": name, "max_energy_range_uj": self._range_uj, "energy_uj": 7}.items():
            (zone / file).write_text(f"{value}\n")

    def refresh(self) -> None:
        joules = self.device.joules(self.device.clock.now())
        for package in range(self._packages):
            energy_uj = int(1e6 * joules / self._packages) % self._range_uj
            (self._powercap / f"intel-rapl:{package}/energy_uj").write_text(f"{energy_uj}\n")
        own_s = time.process_time()  # real time, of which almost none passes
        ticks = (self._other_cores * self.device.clock.now() + own_s) * os.sysconf("SC_CLK_TCK")
        self._stat.write_text(f"cpu {ticks:.0f} 0 0 0 0 0 0 0 0 0\n")
