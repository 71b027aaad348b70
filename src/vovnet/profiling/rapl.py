"""Reading the CPU packages of this machine through the kernel's powercap files."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vovnet.profiling.sensors import Conditions, Method, Source
from vovnet.profiling.surroundings import Machine


class Rapl:
    """The CPU packages together, from the files below `root`. Cores and memory lie inside or beside a package and are
    never added. A counter may wrap once between two reads: at 200 W that takes minutes."""

    driver: str | None = None

    def __init__(self, root: Path = Path("/")) -> None:
        powercap = root / "sys/class/powercap"
        zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if re.fullmatch(r"intel-rapl:\d+", zone.name)]
        self._packages = [zone for zone in zones if (zone / "name").read_text().startswith("package-")]
        if not self._packages:
            raise FileNotFoundError(
                f"no CPU package counter in {powercap}: this machine has none, or a virtual machine or container "
                "hides it"
            )
        self._machine = Machine(root)
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
        counters = self._machine.counters(time_s)
        other_cpu_s = counters.all_cpu_s - counters.own_cpu_s
        known = None if math.isnan(other_cpu_s) else other_cpu_s
        return replace(self._machine.conditions(time_s), other_cpu_s=known)

    def _read_uj(self) -> list[int]:
        return [int((zone / "energy_uj").read_text()) for zone in self._packages]
