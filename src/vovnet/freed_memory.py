"""Keeping freed memory in the process, so that the next forward pass need not ask the system for it again."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3) in glibc
_KEPT_BYTES = 2**30
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@cache
def keep_freed_memory() -> bool:
    """Let the C library keep up to 1 GiB of freed memory; whether it does. It acts on the whole process.

    By default glibc returns a freed feature map to the system, which has to clear the pages again for the next one.
    With PyTorch on a CPU, that is a third of the time of a small detector. Other C libraries are left as they are,
    and so is glibc where its environment variables have set it.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _SETTINGS):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
        set_option.argtypes, set_option.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
        # Either alone ends glibc's own adapting of both; before 2.26 the second may be at most 32 MiB.
        kept = [set_option(_TRIM_THRESHOLD, _KEPT_BYTES)]
        kept.append(set_option(_MMAP_THRESHOLD, _KEPT_BYTES) or set_option(_MMAP_THRESHOLD, 2**25))
    except (AttributeError, OSError):  # musl has no mallopt
        return False
    return all(kept)
