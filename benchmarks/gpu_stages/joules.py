"""Joules per image of one pass after another, in short windows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch

from gpu_stages.rehearsed import RehearsedSensor
from vovnet.profiling.energy.find_sensor import find_sensor
from vovnet.profiling.energy.measured import EnergyResult, measure_energy
from vovnet.profiling.energy.recording import Timeline
from vovnet.profiling.speed import synchronize

# A measurement of `vovnet measure --energy` takes over a minute, and about fifty are wanted here. A window of 2.5 s
# holds at least 20 refreshes of the counter, and three of them give an interval. There is no time to cool down.
ENERGY = Timeline(
    trials=3, idle_s=0.8, warmup_s=0.3, warmup_limit_s=2.0, lead_s=0.3, window_s=2.5, window_ticks=20,
    window_iterations=8, cooldown_c=10.0, cooldown_limit_s=0.0,
)  # fmt: skip
ENERGY_REHEARSED = Timeline(
    trials=2, idle_s=0.1, warmup_s=0.0, warmup_limit_s=0.1, lead_s=0.0, window_s=0.2, window_ticks=2,
    window_iterations=1, cooldown_limit_s=0.0,
)  # fmt: skip


class JouleMeter:
    """Measures joules per image on a device; a counter that passed its test is not tested again."""

    def __init__(self, device: torch.device, *, rehearse: bool) -> None:
        self.device, self.rehearse = device, rehearse
        self._tick_s: float | None = None

    def measure(self, start: Callable[[], int]) -> dict[str, Any]:
        """start: starts a pass and returns its number of images. OSError if joules cannot be measured."""
        sensor = RehearsedSensor() if self.rehearse else find_sensor(self.device)

        def run_and_wait() -> int:
            with sensor.working() if isinstance(sensor, RehearsedSensor) else nullcontext():
                images = start()
                synchronize(self.device)
            return images

        timeline = ENERGY_REHEARSED if self.rehearse else ENERGY
        result = measure_energy(run_and_wait, sensor, timeline=timeline, tick_s=self._tick_s)
        if result.figure is None:
            raise OSError(f"no joules: {result.reason}")
        self._tick_s = None if result.recording is None else result.recording.tick_s
        return energy_values(result)


def energy_values(result: EnergyResult) -> dict[str, Any]:
    """What a record keeps of joules per image: without the thousands of readings.

    Joules above idle are left out: the idle windows begin right after work, while clocks and power are still up.
    """
    figure, check = result.figure, result.check
    assert figure is not None
    return {
        "method": figure.method,
        "source": figure.source.name,
        "covers": figure.source.meaning,
        "j_per_image": figure.energy_j_per_image,
        "interval_j": figure.energy_interval_j,
        "trials_j": figure.trials_j_per_image,
        "power_w": figure.power_w,
        "images_per_s": result.images_per_second,
        "check": None if check is None else {"method": check.method, "j_per_image": check.energy_j_per_image},
        "disputed": result.disputed,
        "notes": list(result.notes),
    }
