"""Measuring the energy of simulated devices by the whole protocol."""

from __future__ import annotations

from typing import Any

import pytest

from vovnet.profiling.energy.measured import EnergyResult, measure_energy
from vovnet.profiling.energy.nvml import Nvml
from vovnet.profiling.energy.recording import Timeline

from .simulated import H100, Chip, Device, FakeNvml

SHORT = Timeline(trials=3)
SHORTER = Timeline(trials=2, idle_s=1, warmup_s=0.5, window_s=3, window_ticks=10)


def measured(device: Device, chip: Chip = H100, *, gain: float = 1.0, **options: Any) -> EnergyResult:
    """gain: factor on the counter."""
    sensor = Nvml(FakeNvml(device, chip, counter_gain=gain), "handle")
    return measure_energy(device.run, sensor, clock=device.clock, **{"timeline": SHORT} | options)


def zeus_module(name: str) -> Any:
    return pytest.importorskip(name, reason='zeus is not installed: pip install "vovnet[zeus]"')
