"""Keeps what native libraries print by themselves away from the user, whose results may go to the same place."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress


@contextmanager
def no_native_output() -> Iterator[None]:
    """Nothing written to the file descriptors 1 and 2 in the block arrives, of any thread: keep the block short."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # none, or closed
            stream.flush()
    _flush_c()
    with ExitStack() as stack:
        with suppress(OSError):  # a descriptor may be closed, then nobody sees what is written there
            nowhere = os.open(os.devnull, os.O_WRONLY)
            stack.callback(os.close, nowhere)
            for descriptor in (1, 2):
                saved = os.dup(descriptor)
                stack.callback(os.close, saved)
                stack.callback(os.dup2, saved, descriptor)
                os.dup2(nowhere, descriptor)
        stack.callback(_flush_c)
        yield


def _flush_c() -> None:
    """Write what C's streams hold back, which would come later."""
    with suppress(OSError, AttributeError):
        (ctypes.cdll.ucrtbase if sys.platform == "win32" else ctypes.CDLL(None)).fflush(None)
