"""What other code prints while a command runs: log messages, warnings, errors of threads. Each is one safe line."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper

from vovnet.errors import typed
from vovnet.printing import SENTENCE, line


@contextmanager
def guarded_terminal() -> Iterator[None]:
    """Lets log messages and warnings of all packages, and errors of threads, be one line each on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks "√" still shows its table
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine())
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # else it complains where it cannot keep its cache
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    before = warnings.formatwarning, threading.excepthook, sys.unraisablehook
    warnings.formatwarning = _format_warning
    threading.excepthook = sys.unraisablehook = _print_error
    try:
        yield
    finally:
        warnings.formatwarning, threading.excepthook, sys.unraisablehook = before


class _OneLine(logging.Formatter):
    """The message as one line, and of an error with it not the traceback but its last line."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {typed(record.exc_info[1])}"
        return _sentence(text)


def _sentence(text: str) -> str:
    return f"vovnet: {line(text, SENTENCE)}"


def _format_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> str:
    return _sentence(f"{category.__name__}: {message}") + "\n"


def _print_error(error: threading.ExceptHookArgs | sys.UnraisableHookArgs) -> None:
    """An error that nobody handles: of a thread, or of something that is being removed."""
    if error.exc_value is not None and not isinstance(error.exc_value, SystemExit):
        print(_sentence(f"{typed(error.exc_value)} (in the background)"), file=sys.stderr, flush=True)
