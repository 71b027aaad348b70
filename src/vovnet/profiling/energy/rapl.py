"""Reading the energy of the CPU packages of this machine from the kernel's powercap files (RAPL)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from vovnet.profiling.clock import Clock
from vovnet.profiling.energy.sensors import CounterError, DeviceState, Method, Source
from vovnet.profiling.machine import Machine

PACKAGE_LIMIT_W = 2_000.0  # of one package: the largest are sold for 500 W and draw twice as much for milliseconds


class Rapl:
    """The sum of all CPU packages, from the files below `root`.

    The domains of cores and memory lie inside or next to a package and are never added. A counter may wrap at most once
    between two readings; at 200 W it takes minutes to wrap. A counter that fell has wrapped only if the packages can
    draw what that implies; else it was set back, as by a machine that was suspended.

    Raises FileNotFoundError without a package counter, PermissionError if it is readable by root only.
    """

    driver: str | None = None
    missing: Mapping[Method, str] = {}

    def __init__(self, root: Path = Path("/"), clock: Clock | None = None) -> None:
        powercap = root / "sys/class/powercap"
        zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if re.fullmatch(r"intel-rapl:\d+", zone.name)]
        self._packages = [zone for zone in zones if (zone / "name").read_text(encoding="utf-8").startswith("package-")]
        if not self._packages:
            reason = "it is absent or hidden by a virtual machine or container"
            raise FileNotFoundError(f"no RAPL counter in {powercap}; {reason}")
        self._machine = Machine(root)
        self._ranges_uj = [int((zone / "max_energy_range_uj").read_text(encoding="utf-8")) for zone in self._packages]
        self._clock, self._total_uj = clock or Clock(), 0
        try:
            self._last_uj, self._last_s = self._read_uj(), self._clock.now()
        except PermissionError as error:
            help_text = f"{error.filename} is not readable: run as root, or let root run `chmod a+r` on it"
            raise PermissionError(help_text) from None
        self.name = "CPU, " + ", ".join((zone / "name").read_text(encoding="utf-8").strip() for zone in self._packages)
        meaning = "the energy of the CPU packages with all their processes, without memory modules and power supply"
        limit_w = sum(map(_limit_w, self._packages))
        self.sources: Mapping[Method, Source] = {"rapl": Source("powercap energy_uj", meaning, limit_w=limit_w)}

    def read(self, method: Method) -> float:
        values_uj, now_s = self._read_uj(), self._clock.now()
        last_uj, seconds = self._last_uj, now_s - self._last_s
        self._last_uj, self._last_s = values_uj, now_s
        rises_uj = [
            new - old if new >= old else new - old + range_uj
            for new, old, range_uj in zip(values_uj, last_uj, self._ranges_uj, strict=True)
        ]
        if not self.sources[method].is_believable(sum(rises_uj) / 1e6, seconds):
            changes = ", ".join(
                f"{old / 1e6:.0f} J to {new / 1e6:.0f} J" for old, new in zip(last_uj, values_uj, strict=True)
            )
            fell = any(new < old for new, old in zip(values_uj, last_uj, strict=True))
            reason = "it was set back, since a wrap" if fell else "it was set forward, since such a rise"
            raise CounterError(
                f"the RAPL counter went from {changes} in {seconds:.1f} s: {reason} would mean "
                f"{sum(rises_uj) / 1e6:.0f} J, and the packages draw at most {self.sources[method].limit_w:.0f} W"
            )
        self._total_uj += sum(rises_uj)
        return self._total_uj / 1e6

    def state(self, time_s: float) -> DeviceState:
        return replace(self._machine.state(time_s), other_cpu_s=self._machine.counters(time_s).other_cpu_s)

    def _read_uj(self) -> list[int]:
        try:
            return [int((zone / "energy_uj").read_text(encoding="utf-8")) for zone in self._packages]
        except ValueError as error:
            raise OSError(f"energy_uj of a CPU package is no number ({error})") from None


def _limit_w(package: Path) -> float:
    """Twice the highest limit that the kernel states for a package, since it may be exceeded for milliseconds.

    Where it states none, as for AMD, PACKAGE_LIMIT_W; also where a firmware states "unlimited" by a huge number.
    """
    stated_w = [0.0]
    for file in (*package.glob("constraint_*_max_power_uw"), *package.glob("constraint_*_power_limit_uw")):
        with suppress(OSError, ValueError):
            stated_w.append(int(file.read_text(encoding="utf-8")) / 1e6)
    return min(2 * max(stated_w) or PACKAGE_LIMIT_W, PACKAGE_LIMIT_W)
