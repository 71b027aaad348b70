"""What stands for a GPU's sensor in a rehearsal. Its values are made up, and no page takes a record of a rehearsal."""

from __future__ import annotations

import time
from collections.abc import Mapping

from vovnet.profiling.sensors import DeviceState, Method, Source

POWER_W, IDLE_W = 100.0, 10.0


class RehearsedSensor:
    """A counter and sampled power of a device that draws 100 W, and 10 W in its first moments."""

    name = "made up, for a rehearsal"
    driver: str | None = None

    def __init__(self) -> None:
        self.sources: Mapping[Method, Source] = {
            "counter": Source("made-up counter", "nothing"),
            "sampled": Source("made-up power", "nothing"),
        }
        self._began_s = time.monotonic()

    def read(self, method: Method) -> float:
        seconds = time.monotonic() - self._began_s
        idle_s = min(seconds, 2.2)  # the test of the counter and the first idle window
        if method == "counter":
            return round(IDLE_W * idle_s + POWER_W * (seconds - idle_s), 1)
        return IDLE_W if seconds < 2.2 else POWER_W

    def state(self, time_s: float) -> DeviceState:
        return DeviceState(time_s=time_s)
