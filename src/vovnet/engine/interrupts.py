"""Stop a long run at a good moment after Ctrl-C or SIGTERM."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOG = logging.getLogger("vovnet")


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets. The second one raises KeyboardInterrupt at once.

    Outside the main thread the event is never set, because only the main thread may handle signals.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def request_stop(number: int, _: object) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        _LOG.warning("stopping after this step (again to stop at once)")
        event.set()

    for number in previous:
        signal.signal(number, request_stop)
    try:
        yield event
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
