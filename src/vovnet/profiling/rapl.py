"""Reading the energy of the CPU packages of this machine from the kernel's powercap files (RAPL)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vovnet.profiling.machine import Machine
from vovnet.profiling.sensors import DeviceState, Method, Source


class Rapl:
    """The sum of all CPU packages, from the files below `root`.

    The domains of cores and memory lie inside or next to a package and are never added. A counter may wrap at most once
    between two readings; at 200 W it takes minutes to wrap.

    Raises FileNotFoundError without a package counter, PermissionError if it is readable by root only.
    """

    driver: str | None = None

    def __init__(self, root: Path = Path("/")) -> None:
        powercap = root / "sys/class/powercap"
        zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if re.fullmatch(r"intel-rapl:\d+", zone.name)]
        self._packages = [zone for zone in zones if (zone / "name").read_text().startswith("package-")]
        if not self._packages:
            reason = "it is absent or hidden by a virtual machine or container"
            raise FileNotFoundError(f"no RAPL counter in {powercap}; {reason}")
        self._machine = Machine(root)
        self._ranges_uj = [int((zone / "max_energy_range_uj").read_text()) for zone in self._packages]
        self._total_uj = 0
        try:
            self._last_uj = self._read_uj()
        except PermissionError as error:
            help_text = f"{error.filename} is not readable: run as root, or let root run `chmod a+r` on it"
            raise PermissionError(help_text) from None
        self.name = "CPU, " + ", ".join((zone / "name").read_text().strip() for zone in self._packages)
        meaning = "the energy of the CPU packages with all their processes, without memory modules and power supply"
        self.sources: Mapping[Method, Source] = {"rapl": Source("powercap energy_uj", meaning)}

    def read(self, method: Method) -> float:
        values_uj = self._read_uj()
        for new, old, range_uj in zip(values_uj, self._last_uj, self._ranges_uj, strict=True):
            self._total_uj += new - old if new >= old else new - old + range_uj
        self._last_uj = values_uj
        return self._total_uj / 1e6

    def state(self, time_s: float) -> DeviceState:
        return replace(self._machine.state(time_s), other_cpu_s=self._machine.counters(time_s).other_cpu_s)

    def _read_uj(self) -> list[int]:
        return [int((zone / "energy_uj").read_text()) for zone in self._packages]
