"""How many loader processes feed a training process."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_ON_CPU = 2  # the network takes the other cores, and longer than they do
_MOST = 16  # a fast GPU and a small network need about 2,500 images a second
_GROUP = Path("/sys/fs/cgroup/cpu.max")  # of a container: "200000 100000" is two cores, "max 100000" all


def choose_workers(device_type: str) -> int:
    """Loader processes of a training process on this device.

    On a GPU as many as there are cores, divided by the processes that torchrun started here, less one core for the
    training process itself.
    """
    if device_type != "cuda":
        return _ON_CPU
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return max(1, min(_MOST, usable_cores() // processes - 1))


def usable_cores() -> int:
    """The cores that this process may use, by its affinity and by the limit of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = _GROUP.read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores
