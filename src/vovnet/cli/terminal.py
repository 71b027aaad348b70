"""What other code prints while a command runs: log messages, warnings, errors of threads. Each is one safe line."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from io import TextIOWrapper

from vovnet.printing import SENTENCE, line


def guard_terminal() -> None:
    """Let log messages and warnings of all packages, and errors of threads, be one line each on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks "√" still shows its table
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_OneLine())
    warnings.formatwarning = _format_warning
    threading.excepthook = _log_error_of_thread


class _OneLine(logging.Formatter):
    """The message as one line, and of an error with it not the traceback but its last line."""

    def format(self, record: logging.LogRecord) -> str:
        try:
            text = record.getMessage()
        except Exception:  # of other packages: the arguments do not fit the message
            text = str(record.msg)
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {describe(record.exc_info[1])}"
        return f"vovnet: {line(text, SENTENCE)}"


def describe(error: BaseException) -> str:
    """The error's type and message."""
    return f"{type(error).__name__}: {error}"


def _format_warning(message: Warning | str, category: type[Warning], *_: object) -> str:
    return f"vovnet: {line(f'{category.__name__}: {message}', SENTENCE)}\n"


def _log_error_of_thread(error: threading.ExceptHookArgs) -> None:
    if error.exc_type is not SystemExit:
        name = error.exc_type.__name__ if error.exc_value is None else describe(error.exc_value)
        logging.getLogger("vovnet").warning("a thread failed: %s", name)
