"""How many loader processes feed a training process."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from vovnet.data.batches import shared_memory
from vovnet.errors import counted
from vovnet.runtime.cpu import processors

_ON_CPU = 2  # the network takes the other cores, and longer than they do
_MOST = 16  # estimated: each takes memory for the batches that it loads ahead
_GROUP = Path("/sys/fs/cgroup/cpu.max")  # of a container: "200000 100000" is two cores, "max 100000" all
_LOG = logging.getLogger("vovnet")


def choose_workers(device_type: str, batch_bytes: int = 0) -> int:
    """Loader processes of a training process on this device; 0 if shared memory has no room for one.

    On a GPU as many as there are cores, divided by the processes that torchrun started here, less one core for the
    training process itself; but no more than may load a batch ahead in the shared memory that is free now.

    batch_bytes: what a batch takes in shared memory, if that is known.
    """
    wanted = _ON_CPU
    if device_type == "cuda":
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        wanted = max(1, min(_MOST, usable_cores() // processes - 1))
    room = shared_memory.batches_ahead(batch_bytes)
    if room is None or room >= wanted:
        return wanted
    fitting = max(0, room)
    _LOG.warning(
        "%s is too small for %s, which need %.0f MiB: %d will run; give it more, as with `docker run --shm-size=2g`",
        shared_memory.FOLDER,
        counted(wanted, "loader process", "loader processes"),
        shared_memory.bytes_needed(batch_bytes, wanted) / 2**20,
        fitting,
    )
    return fitting


def usable_cores() -> int:
    """The cores that this process may use, by its affinity and by the limit of its container."""
    cores = processors()
    with suppress(OSError, ValueError):
        quota, period = _GROUP.read_text(encoding="utf-8").split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores
