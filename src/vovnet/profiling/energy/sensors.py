"""What a sensor is: what it can read, the state of its device, and why there may be none.

nvml.py, rapl.py and zeus.py read devices, meter.py reads the log of an external meter. find_sensor.py chooses one for a
device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

Method = Literal["counter", "sampled", "paper", "rapl", "meter"]

LIMIT_W = 20_000.0  # a server with eight GPUs draws up to 14.3 kW (NVIDIA DGX B200)
REFRESH_S = 1.0  # a counter that works is refreshed at least this often


class Sample(NamedTuple):
    """Power at one moment; `time_s` is in seconds since 1970."""

    time_s: float
    power_w: float


@dataclass(frozen=True)
class Source:
    """What a method reads and what a value of it covers.

    window_s: a value is the mean over this many seconds before it was read; None if that is not published.
    limit_w: more than what it measures can draw; a value beyond it is a fault of the sensor.
    """

    name: str
    meaning: str
    window_s: float | None = None
    limit_w: float = LIMIT_W

    def is_believable(self, rise_j: float, seconds: float) -> bool:
        """Whether a counter can have risen by this much between two readings."""
        return 0 <= rise_j <= self.limit_w * (seconds + REFRESH_S)


@dataclass(frozen=True)
class DeviceState:
    """The state of a device at one moment; None or empty where it cannot be read.

    other_cpu_s: CPU seconds of all other processes since an arbitrary moment; only differences mean something.
    process_doubt: why there may be other processes on the device that are not in `other_processes`.
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
    process_doubt: str | None = None


class Sensor(Protocol):
    """A device whose power or energy can be read.

    missing: a method that devices of this kind can have → why this one lacks it.
    """

    name: str
    driver: str | None
    sources: Mapping[Method, Source]
    missing: Mapping[Method, str]

    def read(self, method: Method) -> float:
        """Joules since an arbitrary moment for "counter" and "rapl", watts for "sampled" and "paper".

        Raises OSError if this reading fails; the next one may succeed. Raises CounterError if the joules since the
        last reading are lost for good.
        """

    def state(self, time_s: float) -> DeviceState: ...


class CounterError(OSError):
    """What happened to a counter of energy, so that its readings before and after do not belong together."""


@dataclass(frozen=True)
class NoSensor:
    """The reason, in one sentence, why nothing can be read."""

    reason: str
