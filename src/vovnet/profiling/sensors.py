"""What a sensor is, where to find one, and the log of an external meter. What reads a device is in nvml.py, rapl.py and
zeus.py."""

from __future__ import annotations

import csv
import math
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import torch

Method = Literal["counter", "sampled", "paper", "rapl", "meter"]


class Sample(NamedTuple):
    """Power at one moment; `time_s` in seconds since 1970."""

    time_s: float
    power_w: float


@dataclass(frozen=True)
class Source:
    """What a method reads, and what a value of it covers: the `window_s` before it; None where nobody published it."""

    name: str
    meaning: str
    window_s: float | None = None


@dataclass(frozen=True)
class Conditions:
    """The state of a device at one moment; None or empty where it cannot be read.

    other_cpu_s: CPU seconds of all other processes since some moment; what counts is how much they rise.
    """

    time_s: float
    temperature_c: float | None = None
    clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    power_limit_w: float | None = None
    throttle_reasons: tuple[str, ...] = ()
    other_processes: tuple[int, ...] = ()
    load_average: float | None = None
    other_cpu_s: float | None = None


class Sensor(Protocol):
    """A device that can be read now."""

    name: str
    driver: str | None
    sources: Mapping[Method, Source]

    def read(self, method: Method) -> float:
        """Joules since some moment for "counter" and "rapl", watts for "sampled" and "paper". Raises OSError when
        reading fails; the next time it may not."""

    def conditions(self, time_s: float) -> Conditions: ...


@dataclass(frozen=True)
class NoSensor:
    """Why nothing can be read: in one sentence."""

    reason: str


class Meter:
    """The log that an external meter writes: CSV with the columns `timestamp` (seconds since 1970, or ISO 8601 with
    its zone) and `watts`; others may stand beside them. It is read when the measurement ends, so its logger must be
    running meanwhile. A log that comes later goes to `evaluate` with the recording."""

    driver: str | None = None

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self.name = f"meter log {self._path.name}"
        self.sources: Mapping[Method, Source] = {"meter": Source(self._path.name, "all that the meter feeds")}
        self.samples()  # a log that cannot be read shows now, not after the measurement

    def conditions(self, time_s: float) -> Conditions:
        return Conditions(time_s=time_s, load_average=os.getloadavg()[0])

    def samples(self) -> list[Sample]:
        """All of the log, in order of time. Raises ValueError that names the line with a fault."""
        lines = self._path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
        rows = csv.DictReader(line for line in lines if line.endswith("\n"))  # a last line may still be being written
        rows.fieldnames = [name.strip().lower() for name in rows.fieldnames or ()]
        if missing := {"timestamp", "watts"} - set(rows.fieldnames):
            raise ValueError(f"{self._path} must have the columns timestamp,watts, lacks {sorted(missing)}")
        return sorted(self._sample(row, rows.line_num) for row in rows)

    def _sample(self, row: dict[str, str], line: int) -> Sample:
        try:
            sample = Sample(_unix_time_s(row["timestamp"].strip()), float(row["watts"]))
            if not all(map(math.isfinite, sample)):
                raise ValueError("not a finite number")
        except (AttributeError, TypeError, ValueError) as error:  # the first two: the line is too short
            raise ValueError(
                f"{self._path}, line {line}: expected a timestamp and watts, got {row} ({error})"
            ) from None
        return sample


def _unix_time_s(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("the time has no zone: add Z or +02:00")
    return time.timestamp()


def find_sensor(device: str | torch.device) -> Sensor | NoSensor:
    """What this machine has to read the energy of `device`, or why it has nothing.

    NVIDIA's boards through NVML, CPU packages through the kernel; AMD's GPUs and the chips of Apple and of NVIDIA's
    Jetson boards through zeus.
    """
    from vovnet.profiling.nvml import find_nvml
    from vovnet.profiling.rapl import Rapl
    from vovnet.profiling.zeus import find_chip, find_gpu

    device = torch.device(device)
    try:
        if device.type == "mps" or (device.type == "cpu" and sys.platform == "darwin"):
            return find_chip()
        if device.type == "cpu":
            return Rapl()
        if device.type == "cuda" and torch.version.hip is not None:
            return find_gpu(device)
        if device.type == "cuda":
            board = find_nvml(device)
            nothing = isinstance(board, NoSensor) or not board.sources
            return find_chip() if nothing and _is_jetson(device) else board
    except OSError as error:
        return NoSensor(str(error))
    return NoSensor(f"no energy sensor is known for {device.type}; an external meter's CSV can be fed in")


def _is_jetson(device: torch.device) -> bool:
    """Whether the GPU is part of an Arm chip; NVML tells the power of boards only."""
    return (
        platform.machine() == "aarch64"
        and torch.cuda.is_available()
        and bool(torch.cuda.get_device_properties(device).is_integrated)
    )
