"""What else happened while something was timed, and whether that makes the figures doubtful."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import torch

from vovnet.profiling.nvml import find_nvml
from vovnet.profiling.recording import Clock, RealClock
from vovnet.profiling.sensors import Conditions, NoSensor

INTERVAL_S = 1.0
CPU_SHARE = 1e-3  # of one core is the most that looking around may take

# Above these a figure is doubtful.
OTHER_CORES = 0.1
TICKS_S = 0.02  # of CPU time, which the kernel counts in steps of 0.01 s: a short window may show them for nothing
CLOCK_RATIO = 1.05
TEMPERATURE_RISE_C = 10.0
STOLEN_SHARE = 0.01

THERMAL_ZONES = ("x86_pkg_temp", "cpu-thermal", "cpu_thermal")  # Intel's packages; Arm's chips have the other two
HARDWARE_MONITORS = ("k10temp",)  # AMD's packages


@dataclass(frozen=True)
class Surroundings:
    """What was seen between the first and the last timed pass; None where the system does not tell.

    other_cpu_cores: mean number of CPU cores that other processes kept busy. clock_mhz, temperature_c: least and
    greatest value seen, of the device that computes. doubts: sentences for a person; empty on a quiet machine.
    """

    seconds: float
    other_cpu_cores: float | None
    clock_mhz: tuple[float, float] | None
    temperature_c: tuple[float, float] | None
    doubts: tuple[str, ...]


class Counters(NamedTuple):
    """What only rises, at one moment. CPU seconds are those of all cores together.

    own_cpu_s: of this process with its threads. Its children count as others, for they take cores from what is timed
    just as others do. all_cpu_s: of all that runs. stolen_cpu_s: what the host of a virtual machine gave to others.
    Both are nan where the system does not tell. quota_stops: how often this container had used up its share of the CPU.
    heat_stops: how often a CPU slowed down for heat, counted once for each of its cores.
    """

    time_s: float
    own_cpu_s: float
    all_cpu_s: float
    stolen_cpu_s: float
    quota_stops: float
    heat_stops: float


class Machine:
    """Its CPUs, as the kernel's files below `root` tell; what is not there stays unknown.

    The clock is that of the fastest core, for the others may be at rest; the temperature that of the hottest package.
    A virtual machine may give a constant for its clock.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        cpus = root / "sys/devices/system/cpu"
        zones, monitors = (root / "sys/class/thermal").glob("thermal_zone*"), (root / "sys/class/hwmon").glob("hwmon*")
        self._stat, self._cpuinfo = root / "proc/stat", root / "proc/cpuinfo"
        self._clocks = list(cpus.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
        self._temperatures = [zone / "temp" for zone in zones if _read(zone / "type").strip() in THERMAL_ZONES]
        self._temperatures += [
            one / "temp1_input" for one in monitors if _read(one / "name").strip() in HARDWARE_MONITORS
        ]
        self._heat_stops = list(cpus.glob("cpu[0-9]*/thermal_throttle/package_throttle_count"))
        self._quotas = [root / "sys/fs/cgroup" / name for name in ("cpu.stat", "cpu/cpu.stat")]  # versions 2 and 1

    def conditions(self, time_s: float) -> Conditions:
        clocks_mhz = [khz / 1e3 for khz in _numbers(self._clocks)]
        if not clocks_mhz:
            lines = _read(self._cpuinfo).splitlines()
            clocks_mhz = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
        temperatures_c = [thousandths / 1e3 for thousandths in _numbers(self._temperatures)]
        return Conditions(
            time_s, temperature_c=max(temperatures_c, default=None), clock_mhz=max(clocks_mhz, default=None)
        )

    def counters(self, time_s: float) -> Counters:
        all_cpu_s = stolen_cpu_s = math.nan
        ticks = [int(field) for field in _read(self._stat).partition("\n")[0].split()[1:9]]
        if any(ticks):  # some sandboxes have nothing but zeros
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


class Watch:
    """Looks around while its `with` lasts. It may be entered again; what it sees then is added.

    Enter it warm, as `time_interleaved(…, during=watch(device))` does: a clock that rises from idle is no fault.
    """

    def __init__(self, machine: Machine, conditions: Callable[[float], Conditions], clock: Clock) -> None:
        self._machine, self._read_conditions, self._clock = machine, conditions, clock
        self._windows: list[tuple[Counters, Counters]] = []
        self._conditions: list[Conditions] = []

    def __enter__(self) -> Watch:
        began_s = time.thread_time()
        self._observe()
        interval_s = max(INTERVAL_S, (time.thread_time() - began_s) / CPU_SHARE)
        self._beside: AbstractContextManager[None] = self._clock.every(interval_s, self._observe)
        self._beside.__enter__()
        self._began = self._machine.counters(self._clock.now())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._windows.append((self._began, self._machine.counters(self._clock.now())))
        self._beside.__exit__(kind, error, traceback)
        self._observe()

    def _observe(self) -> None:
        self._conditions.append(self._read_conditions(self._clock.now()))

    def result(self) -> Surroundings:
        """All that was seen, once it was entered and left."""
        assert self._windows, "a watch tells what it saw after its `with`"
        rises = Counters(*np.diff(np.array(self._windows), axis=1).sum(axis=(0, 1)).tolist())
        other_cpu_s = max(0.0, rises.all_cpu_s - rises.own_cpu_s)
        clock_mhz = _range([one.clock_mhz for one in self._conditions])
        temperature_c = _range([one.temperature_c for one in self._conditions])
        return Surroundings(
            seconds=rises.time_s,
            other_cpu_cores=None if math.isnan(rises.all_cpu_s) else other_cpu_s / rises.time_s,
            clock_mhz=clock_mhz,
            temperature_c=temperature_c,
            doubts=tuple(_doubts(rises, clock_mhz, temperature_c, self._conditions)),
        )


def watch(device: str | torch.device, *, root: Path = Path("/"), clock: Clock | None = None) -> Watch:
    """What looks around while `device` is timed: at the CPUs, and at an NVIDIA board through NVML."""
    device, machine = torch.device(device), Machine(root)
    conditions: Callable[[float], Conditions] = Conditions  # that nothing but the time is known
    if device.type == "cpu":
        conditions = machine.conditions
    elif device.type == "cuda" and not isinstance(board := find_nvml(device), NoSensor):
        conditions = board.conditions
    return Watch(machine, conditions, clock or RealClock())


def _doubts(
    rises: Counters,
    clock_mhz: tuple[float, float] | None,
    temperature_c: tuple[float, float] | None,
    conditions: Sequence[Conditions],
) -> Iterator[str]:
    """What was not as it is on a quiet machine."""
    other_cpu_s = rises.all_cpu_s - rises.own_cpu_s
    if other_cpu_s - TICKS_S > OTHER_CORES * rises.time_s:
        yield f"other processes kept {other_cpu_s / rises.time_s:.1f} CPU cores busy"
    if others := sorted({process for one in conditions for process in one.other_processes}):
        yield f"other processes were on the device: {', '.join(map(str, others))}"
    if clock_mhz and clock_mhz[1] > CLOCK_RATIO * clock_mhz[0]:
        yield f"the clock moved between {clock_mhz[0]:.0f} and {clock_mhz[1]:.0f} MHz"
    if temperature_c and temperature_c[1] - temperature_c[0] > TEMPERATURE_RISE_C:
        yield f"the temperature moved between {temperature_c[0]:.0f} and {temperature_c[1]:.0f} °C"
    if reasons := sorted({reason for one in conditions for reason in one.throttle_reasons}):
        yield f"the device throttled: {', '.join(reasons)}"
    if rises.heat_stops > 0:
        yield f"the CPU slowed down for heat ({rises.heat_stops:.0f} ×)"
    if rises.quota_stops > 0:
        yield f"the container used up its share of the CPU and was stopped ({rises.quota_stops:.0f} ×)"
    if rises.stolen_cpu_s - TICKS_S > STOLEN_SHARE * (rises.all_cpu_s + rises.stolen_cpu_s):
        share = rises.stolen_cpu_s / (rises.all_cpu_s + rises.stolen_cpu_s)
        yield f"the host of this virtual machine gave {share:.1%} of the CPU time it asked for to others"


def _range(values: Sequence[float | None]) -> tuple[float, float] | None:
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _numbers(paths: Sequence[Path]) -> list[float]:
    return [float(text) for path in paths if (text := _read(path))]
