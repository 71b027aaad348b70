"""What else happened on the machine while something was timed, and whether it makes the measured values doubtful."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vovnet.profiling.clock import Clock
from vovnet.profiling.energy.nvml import find_nvml
from vovnet.profiling.energy.sensors import DeviceState, NoSensor
from vovnet.profiling.machine import Counters, Machine

INTERVAL_S = 1.0
CPU_SHARE = 1e-3  # of one core: the most that observing may take

# Above these limits there is a warning.
OTHER_CORES = 0.1
TICKS_S = 0.02  # CPU time; the kernel counts in steps of 0.01 s, which a short window may show for no reason
CLOCK_RATIO = 1.05
TEMPERATURE_RISE_C = 10.0
STOLEN_SHARE = 0.01


@dataclass(frozen=True)
class Surroundings:
    """What was observed between the first and the last timed pass; None where the system does not report it.

    other_cpu_cores: mean number of CPU cores that other processes kept busy.
    clock_mhz, temperature_c: lowest and highest value of the device that computes.
    doubts: warnings, as sentences; empty on a quiet machine.
    """

    seconds: float
    other_cpu_cores: float | None
    clock_mhz: tuple[float, float] | None
    temperature_c: tuple[float, float] | None
    doubts: tuple[str, ...]


class Watch:
    """Observes machine and device inside its `with` statement. If entered again, it adds to what it has observed.

    Enter it after the warm-up, as `time_interleaved(…, during=…)` does: a clock that rises from idle is normal.
    """

    def __init__(self, machine: Machine, read_state: Callable[[float], DeviceState], clock: Clock) -> None:
        self._machine, self._read_state, self._clock = machine, read_state, clock
        self._windows: list[tuple[Counters, Counters]] = []
        self._states: list[DeviceState] = []
        self._observing = ExitStack()

    def __enter__(self) -> Watch:
        began_s = time.thread_time()
        self._observe()
        interval_s = max(INTERVAL_S, (time.thread_time() - began_s) / CPU_SHARE)
        self._observing.enter_context(self._clock.every(interval_s, self._observe))
        self._began = self._machine.counters(self._clock.now())
        return self

    def __exit__(self, *_: object) -> None:
        self._windows.append((self._began, self._machine.counters(self._clock.now())))
        self._observing.close()
        self._observe()

    def _observe(self) -> None:
        self._states.append(self._read_state(self._clock.now()))

    def result(self) -> Surroundings:
        """Everything observed so far; call it after the `with` statement."""
        assert self._windows, "a watch has a result only after its `with` statement"
        rises = Counters(*np.diff(np.array(self._windows), axis=1).sum(axis=(0, 1)).tolist())
        other_cpu_s, temperature_c = rises.other_cpu_s, _range([state.temperature_c for state in self._states])
        return Surroundings(
            seconds=rises.time_s,
            other_cpu_cores=None if other_cpu_s is None else max(0.0, other_cpu_s) / rises.time_s,
            clock_mhz=_range([state.clock_mhz for state in self._states]),
            temperature_c=temperature_c,
            doubts=(*_machine_warnings(rises, temperature_c), *device_warnings(self._states)),
        )


def watch(device: str | torch.device, *, root: Path = Path("/"), clock: Clock | None = None) -> Watch:
    """Observes the machine while `device` is timed: the CPUs, by the kernel's files, and an NVIDIA GPU through NVML."""
    device, machine = torch.device(device), Machine(root)
    read_state: Callable[[float], DeviceState] = DeviceState  # of other devices only the time is known
    if device.type == "cpu":
        read_state = machine.state
    elif device.type == "cuda" and not isinstance(board := find_nvml(device), NoSensor):
        read_state = board.state
    return Watch(machine, read_state, clock or Clock())


def _machine_warnings(rises: Counters, temperature_c: tuple[float, float] | None) -> Iterator[str]:
    """Sentences on what differs from a quiet machine. rises: by how much each counter rose."""
    other_cpu_s = rises.other_cpu_s or 0.0
    if other_cpu_s - TICKS_S > OTHER_CORES * rises.time_s:
        yield f"other processes kept {other_cpu_s / rises.time_s:.1f} CPU cores busy"
    if rises.heat_stops > 0:
        yield f"the CPU slowed down because of heat ({rises.heat_stops:.0f} ×)"
    if rises.quota_stops > 0:
        yield f"the container used up its share of the CPU and was stopped ({rises.quota_stops:.0f} ×)"
    if rises.stolen_cpu_s - TICKS_S > STOLEN_SHARE * (rises.all_cpu_s + rises.stolen_cpu_s):
        share = rises.stolen_cpu_s / (rises.all_cpu_s + rises.stolen_cpu_s)
        yield f"the host gave {share:.1%} of this virtual machine's CPU time to others"
    if temperature_c and temperature_c[1] - temperature_c[0] > TEMPERATURE_RISE_C:
        yield f"the temperature ranged from {temperature_c[0]:.0f} to {temperature_c[1]:.0f} °C"


def device_warnings(states: Sequence[DeviceState]) -> Iterator[str]:
    """Sentences on other processes on a device, a clock that changed, and throttling."""
    if processes := sorted({process for state in states for process in state.other_processes}):
        yield f"other processes were on the device: {', '.join(map(str, processes))}"
    for doubt in sorted({state.process_doubt for state in states if state.process_doubt}):
        yield f"whether another process used the device cannot be told: {doubt}"
    clock_mhz = _range([state.clock_mhz for state in states])
    if clock_mhz and clock_mhz[1] > CLOCK_RATIO * clock_mhz[0]:
        yield f"the clock ranged from {clock_mhz[0]:.0f} to {clock_mhz[1]:.0f} MHz"
    if reasons := sorted({reason for state in states for reason in state.throttle_reasons}):
        yield f"the device throttled: {', '.join(reasons)}"


def _range(values: Sequence[float | None]) -> tuple[float, float] | None:
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else None
