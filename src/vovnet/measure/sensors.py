"""What a sensor is; CPU packages and the log of an external meter. NVIDIA boards are in nvml.py."""

from __future__ import annotations

import csv
import os
import re
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
    """The state of a device at one moment; None or empty where it cannot be read."""

    time_s: float
    temperature_c: float | None = None
    clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    power_limit_w: float | None = None
    throttle_reasons: tuple[str, ...] = ()
    other_processes: tuple[int, ...] = ()
    load_average: float | None = None


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


class Rapl:
    """The CPU packages of this machine together, from the kernel's powercap files. Cores and memory lie inside or
    beside a package and are never added. A counter may wrap once between two reads: at 200 W that takes minutes."""

    driver: str | None = None

    def __init__(self, root: Path = Path("/sys")) -> None:
        zones = sorted((root / "class/powercap").glob("intel-rapl:*"))
        zones = [zone for zone in zones if re.fullmatch(r"intel-rapl:\d+", zone.name)]  # the others lie inside these
        self._packages = [zone for zone in zones if (zone / "name").read_text().startswith("package-")]
        if not self._packages:
            raise FileNotFoundError(
                f"no CPU package counter in {root}/class/powercap: this machine has none, or a virtual machine or "
                "container hides it"
            )
        thermometers = [zone for zone in (root / "class/thermal").glob("thermal_zone*") if (zone / "type").is_file()]
        packages = [zone for zone in thermometers if (zone / "type").read_text().strip() == "x86_pkg_temp"]
        self._temperatures = [zone / "temp" for zone in packages]
        self._clocks = list((root / "devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
        self._ranges_uj = [int((zone / "max_energy_range_uj").read_text()) for zone in self._packages]
        self._total_uj = 0
        try:
            self._last_uj = self._read_uj()
        except PermissionError as error:
            raise PermissionError(
                f"{error.filename} is not readable: run as root, or have `chmod a+r` applied to it"
            ) from None
        names = ", ".join((zone / "name").read_text().strip() for zone in self._packages)
        self.name = f"CPU, {names}"
        meaning = "the energy of the CPU packages: all processes, without memory modules and mains supply"
        self.sources: Mapping[Method, Source] = {"rapl": Source("powercap energy_uj", meaning)}

    def read(self, method: Method) -> float:
        values_uj = self._read_uj()
        for new, old, range_uj in zip(values_uj, self._last_uj, self._ranges_uj, strict=True):
            self._total_uj += new - old if new >= old else new - old + range_uj
        self._last_uj = values_uj
        return self._total_uj / 1e6

    def conditions(self, time_s: float) -> Conditions:
        temperatures, clocks = _read_numbers(self._temperatures), _read_numbers(self._clocks)
        return Conditions(
            time_s=time_s,
            temperature_c=max(temperatures) / 1e3 if temperatures else None,
            clock_mhz=sum(clocks) / len(clocks) / 1e3 if clocks else None,
            load_average=os.getloadavg()[0],
        )

    def _read_uj(self) -> list[int]:
        return [int((zone / "energy_uj").read_text()) for zone in self._packages]


def _read_numbers(paths: list[Path]) -> list[int]:
    try:
        return [int(path.read_text()) for path in paths]
    except OSError:
        return []


class Meter:
    """The log that an external meter writes: CSV with the columns `timestamp` (seconds since 1970, or ISO 8601 with
    its zone) and `watts`. It is read when the measurement ends, so its logger must be running beside it."""

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
        lines = self._path.read_text().splitlines(keepends=True)
        rows = csv.DictReader(line for line in lines if line.endswith("\n"))  # a last line may still be being written
        if missing := {"timestamp", "watts"} - set(rows.fieldnames or ()):
            raise ValueError(f"{self._path} must have the columns timestamp,watts, lacks {sorted(missing)}")
        return sorted(self._sample(row, rows.line_num) for row in rows)

    def _sample(self, row: dict[str, str], line: int) -> Sample:
        try:
            return Sample(_unix_time_s(row["timestamp"]), float(row["watts"]))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{self._path}, line {line}: expected a timestamp and watts, got {row} ({error})"
            ) from None


def _unix_time_s(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("the time has no zone: add Z or +02:00")
    return time.timestamp()


def find_sensor(device: str | torch.device) -> Sensor | NoSensor:
    """What this machine has to read the energy of `device`, or why it has nothing."""
    device = torch.device(device)
    try:
        if device.type == "cuda":
            from vovnet.measure.nvml import find_nvml

            return find_nvml(device)
        if device.type == "cpu":
            return Rapl()
    except OSError as error:
        return NoSensor(error.strerror or str(error))
    return NoSensor(f"no energy sensor is known for {device.type}; an external meter's CSV can be fed in")
