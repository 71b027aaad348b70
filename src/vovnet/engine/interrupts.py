"""How a long run is asked to stop."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOG = logging.getLogger("vovnet")


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets; the second one interrupts at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    previous = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}

    def request(kind: int, _: object) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        _LOG.warning("stopping after this step (again to stop at once)")
        event.set()

    for kind in previous:
        signal.signal(kind, request)
    try:
        yield event
    finally:
        for kind, handler in previous.items():
            signal.signal(kind, handler)
