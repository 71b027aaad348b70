"""What stands for a GPU in a rehearsal: its sensor and its graphs. No page takes a record of a rehearsal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.utils._pytree import tree_map

from vovnet.profiling.energy.sensors import DeviceState, Method, Source
from vovnet.profiling.runs import CudaGraphs

POWER_W, IDLE_W = 100.0, 10.0


class RehearsedSensor:
    """A counter and sampled power of a device that draws 100 W inside `working()`, else 10 W."""

    name = "made up, for a rehearsal"
    driver: str | None = None

    def __init__(self) -> None:
        self.sources: Mapping[Method, Source] = {
            "counter": Source("made-up counter", "nothing"),
            "sampled": Source("made-up power", "nothing"),
        }
        self._power_w, self._energy_j, self._since_s = IDLE_W, 0.0, time.monotonic()

    @contextmanager
    def working(self) -> Iterator[None]:
        self._change(POWER_W)
        yield
        self._change(IDLE_W)

    def _change(self, power_w: float) -> None:
        self._energy_j, self._since_s = self._now_j(), time.monotonic()
        self._power_w = power_w

    def _now_j(self) -> float:
        return self._energy_j + self._power_w * (time.monotonic() - self._since_s)

    def read(self, method: Method) -> float:
        return round(self._now_j(), 1) if method == "counter" else self._power_w

    def state(self, time_s: float) -> DeviceState:
        return DeviceState(time_s=time_s)


class RehearsedGraphs(CudaGraphs):
    """Calls the function again for each replay, and overwrites the outputs as a graph does."""

    def warm_up(self, function: Callable[[], Any]) -> None:
        function()

    def capture(self, function: Callable[[], Any]) -> tuple[Callable[[], object], Any]:
        outputs = function()
        return lambda: tree_map(lambda old, new: old.copy_(new), outputs, function()), outputs
