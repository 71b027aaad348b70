"""Reading clock, temperature and CPU time of this machine from the kernel's files."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vovnet.profiling.energy.sensors import DeviceState

THERMAL_ZONES = ("x86_pkg_temp", "cpu-thermal", "cpu_thermal")  # packages of Intel; chips of Arm have the other two
HARDWARE_MONITORS = ("k10temp",)  # packages of AMD


class Counters(NamedTuple):
    """Counters that only rise, at one moment. CPU seconds are the sum over all cores.

    own_cpu_s: this process and its threads. Child processes count as others: they take cores from what is timed.
    all_cpu_s: all processes; nan if unknown.
    stolen_cpu_s: CPU time that the host of a virtual machine gave to others; nan if unknown.
    quota_stops: how often this container was stopped because it had used up its share of the CPU.
    heat_stops: how often a CPU slowed down because of heat, summed over its cores.
    """

    time_s: float
    own_cpu_s: float
    all_cpu_s: float
    stolen_cpu_s: float
    quota_stops: float
    heat_stops: float

    @property
    def other_cpu_s(self) -> float | None:
        """All processes but this one; None if unknown."""
        return None if math.isnan(self.all_cpu_s) else self.all_cpu_s - self.own_cpu_s


class Machine:
    """The CPUs of this machine: the clock of the fastest core, since the others may be idle, and the temperature of the
    hottest package. A file that is missing leaves its value unknown. A virtual machine may report a constant clock.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        cpus = root / "sys/devices/system/cpu"
        zones, monitors = (root / "sys/class/thermal").glob("thermal_zone*"), (root / "sys/class/hwmon").glob("hwmon*")
        self._stat, self._cpuinfo = root / "proc/stat", root / "proc/cpuinfo"
        self._clocks = list(cpus.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
        self._temperatures = [zone / "temp" for zone in zones if _read(zone / "type").strip() in THERMAL_ZONES]
        packages = [monitor for monitor in monitors if _read(monitor / "name").strip() in HARDWARE_MONITORS]
        self._temperatures += [package / "temp1_input" for package in packages]
        self._heat_stops = list(cpus.glob("cpu[0-9]*/thermal_throttle/package_throttle_count"))
        self._quotas = [root / "sys/fs/cgroup" / name for name in ("cpu.stat", "cpu/cpu.stat")]  # cgroup v2 and v1

    def state(self, time_s: float) -> DeviceState:
        clocks_mhz = [khz / 1e3 for khz in _numbers(self._clocks)]
        if not clocks_mhz:
            lines = _read(self._cpuinfo).splitlines()
            clocks_mhz = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
        temperatures_c = [millidegrees / 1e3 for millidegrees in _numbers(self._temperatures)]
        return DeviceState(time_s, max(temperatures_c, default=None), max(clocks_mhz, default=None))

    def counters(self, time_s: float) -> Counters:
        all_cpu_s = stolen_cpu_s = math.nan
        ticks = [int(field) for field in _read(self._stat).partition("\n")[0].split()[1:9]]
        if any(ticks):  # some sandboxes report only zeros
            user, nice, system, _idle, _waiting, interrupts, soft_interrupts, stolen = ticks
            ticks_per_s = os.sysconf("SC_CLK_TCK")
            all_cpu_s = (user + nice + system + interrupts + soft_interrupts) / ticks_per_s
            stolen_cpu_s = stolen / ticks_per_s
        quota_lines = [line.split() for path in self._quotas for line in _read(path).splitlines()]
        return Counters(
            time_s,
            own_cpu_s=time.process_time(),
            all_cpu_s=all_cpu_s,
            stolen_cpu_s=stolen_cpu_s,
            quota_stops=sum(int(value) for name, value in quota_lines if name == "nr_throttled"),
            heat_stops=sum(_numbers(self._heat_stops)),
        )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _numbers(paths: Sequence[Path]) -> list[float]:
    return [float(text) for path in paths if (text := _read(path))]
