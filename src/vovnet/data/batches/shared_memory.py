"""How many batches of loader processes fit in shared memory, through which they hand over their images."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

FOLDER = Path("/dev/shm")
_ON_THEIR_WAY = 2  # one batch is in use, and one waits for its turn


def free_bytes() -> int | None:
    """None where the system shares memory in another way."""
    return shutil.disk_usage(FOLDER).free if FOLDER.is_dir() else None


def batches_ahead(batch_bytes: int) -> int | None:
    """The batches of this size that all loader processes of a training process may load ahead; None for no limit.

    It may be negative. The processes that torchrun started here share the memory.
    """
    free = free_bytes()
    if not batch_bytes or free is None:
        return None
    return free // int(os.environ.get("LOCAL_WORLD_SIZE", 1)) // batch_bytes - _ON_THEIR_WAY


def bytes_needed(batch_bytes: int, workers: int) -> int:
    """For one batch of each loader process."""
    return (workers + _ON_THEIR_WAY) * batch_bytes
