"""What the commands of both distributions share: streams, `--limit`, and messages, each of them one safe line."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper

from vovnet.errors import install_extra, is_out_of_memory, typed
from vovnet.libraries import explain_import
from vovnet.limits import set_limit
from vovnet.printing import SENTENCE, line

BROKEN_PIPE = 141  # as a shell reports a program that the signal SIGPIPE ended
EXTRA_OF_PACKAGE = {"MNN": "mnn", "av": "video", "onnxruntime": "onnx", "openvino": "openvino"}


def one_sentence(error: Exception, text: str, extras: Mapping[str, str] = EXTRA_OF_PACKAGE) -> str:
    """What a command says of an error, given its `text` on one line."""
    if isinstance(error, RecursionError):
        return "something is nested too deeply to be read (run again with --debug for the traceback)"
    extra = extras.get(error.name or "") if isinstance(error, ModuleNotFoundError) else None
    if extra is not None and "pip install" not in text:
        return f"{text}; this needs an extra: {install_extra(extra)}"
    if sentence := explain_import(error):
        return line(sentence, SENTENCE)
    if isinstance(error, ImportError):
        return text
    if isinstance(error, UnicodeError):
        return f"a text or a name holds what its encoding cannot write or read ({text})"
    if isinstance(error, json.JSONDecodeError):
        return f"a file is not valid JSON ({text}): it is damaged or cut short"
    expected = isinstance(error, ValueError | OSError | FloatingPointError) and bool(text)
    return text if expected else f"{typed(error)} (run again with --debug for the traceback)"


def out_of_memory(error: Exception, text: str, remedy: str) -> str | None:
    """What a command says where memory ran out; None for another error."""
    if not is_out_of_memory(error):
        return None
    return f"out of memory; {remedy}" + (f" ({text[:160]})" if text else "")


def complain(text: str) -> None:
    with suppress(OSError):  # nobody can be told that nobody can be told
        print(f"vovnet: {line(text, SENTENCE)}", file=sys.stderr, flush=True)


def open_closed_streams() -> None:
    """Opens streams that the shell closed, as by `>&-`. Else the next file opened would get what is printed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 (lasts as long as the process)
            if stream.fileno() != number:
                os.dup2(stream.fileno(), number)
            setattr(sys, name, stream)


def flush(status: int) -> int:
    """The exit status, which is another if the last of the output cannot be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # else Python complains when it exits
            status = BROKEN_PIPE if isinstance(error, BrokenPipeError) else status or 1
            if stream is sys.stdout and status == 1:
                complain(f"could not write the output ({error.strerror}): free some disk space")
    return status


def apply_limits(arguments: Sequence[str]) -> Sequence[str]:
    """The arguments without `--limit NAME=VALUE`, which every command takes. `--limit N` is an option of compare."""
    rest, words = deque[str](), deque(arguments)
    while words:
        option, equals, value = words[0].partition("=")
        if option == "--limit" and "=" in value:
            set_limit(value)
        elif option == "--limit" and not equals and len(words) > 1 and "=" in words[1]:
            words.popleft()
            set_limit(words[0])
        else:
            rest.append(words[0])
        words.popleft()
    return tuple(rest)


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
