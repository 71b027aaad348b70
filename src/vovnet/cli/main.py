"""The entry point of `vovnet`. Heavy imports wait until a command runs, so that --help is quick."""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from collections.abc import Sequence
from io import TextIOWrapper

from cyclopts import CycloptsError

from vovnet.cli import (  # noqa: F401  (each adds its command)
    compare,
    data,
    evaluate,
    list,
    measure,
    predict,
    reproduce,
    study,
    train,
    weights,
)
from vovnet.cli.app import app
from vovnet.cli.output import complain, one_line
from vovnet.errors import UsageError, describe, install_extra
from vovnet.limits import set_limit

_BROKEN_PIPE = 141  # as a shell reports a program that the signal SIGPIPE ended


def main() -> None:
    """Run the command line; an error is a single sentence, with --debug the traceback."""
    _open_closed_streams()
    try:
        status = _run()
    except BrokenPipeError:  # whoever read the output, as `head`, has enough of it
        status = _BROKEN_PIPE
    except SystemExit as stop:  # of rich, for the same reason
        if not isinstance(stop.__context__, BrokenPipeError):
            raise
        status = _BROKEN_PIPE
    sys.exit(_flush(status))


def _run() -> int:
    """The exit status."""
    debug = "--debug" in sys.argv[1:]
    arguments: Sequence[str] = [word for word in sys.argv[1:] if word != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks "√" still shows its table
    logging.basicConfig(format="vovnet: %(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # else it complains where it cannot keep its cache
    try:
        arguments = _apply_limits(arguments)
        status = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except KeyboardInterrupt:
        complain("interrupted")
        status = 130
    except BrokenPipeError:
        raise
    except (CycloptsError, UsageError) as error:
        if debug:
            raise
        complain(one_line(str(error)) + (" See vovnet --help." if isinstance(error, CycloptsError) else ""))
        status = 2
    except Exception as error:
        if debug:
            raise
        complain(_one_sentence(error, next(iter(arguments), "")))
        status = 1
    return status if isinstance(status, int) else 0


def _open_closed_streams() -> None:
    """Opens streams that the shell closed, as by `>&-`. Else the next file opened would get what is printed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, "w" if number else "r")  # noqa: SIM115 (lasts as long as the process)
            if stream.fileno() != number:
                os.dup2(stream.fileno(), number)
            setattr(sys, name, stream)


def _flush(status: int) -> int:
    """The exit status, which is another if the last of the output cannot be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # else Python complains when it exits
            status = _BROKEN_PIPE if isinstance(error, BrokenPipeError) else status or 1
            if stream is sys.stdout and status == 1:
                complain(f"could not write the output ({error.strerror}): free some disk space")
    return status


def _apply_limits(arguments: Sequence[str]) -> Sequence[str]:
    """The arguments without `--limit NAME=VALUE`, which every command takes."""
    rest, words = deque[str](), iter(arguments)
    for word in words:
        if word == "--limit":
            set_limit(next(words, ""))
        elif word.startswith("--limit="):
            set_limit(word.removeprefix("--limit="))
        else:
            rest.append(word)
    return tuple(rest)


_MEMORY_OPTIONS = {
    "train": "micro_batch_size",
    "evaluate": "--batch-size (or --workers)",
    "predict": "--batch-size",
    "data": "--workers",
    "measure": "--batch-size or --input-size",
}
EXTRA_OF_PACKAGE = {
    "av": "video",
    "hotcoco": "eval",
    "markdown_it": "report",
    "matplotlib": "report",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "pynvml": "energy",
    "tensorboard": "train",
}


def _one_sentence(error: Exception, command: str) -> str:
    text = describe(error)
    if " in DataLoader worker process" in text:  # the message is the worker's traceback; its last line is the error
        text = text.strip().rsplit("\n", 1)[-1].partition(": ")[2]
    text = one_line(text)
    if isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate memory" in text:
        option = _MEMORY_OPTIONS.get(command, "the batch size")
        return f"out of memory; lower {option} or use a smaller model ({text[:160]})"
    if isinstance(error, ImportError):
        extra = EXTRA_OF_PACKAGE.get((error.name or "").partition(".")[0])
        if extra is None or "pip install" in text:
            return text
        return f"{text}; this needs an extra: {install_extra(extra)}"
    expected = isinstance(error, ValueError | OSError | FloatingPointError)
    return text if expected else f"{type(error).__name__}: {text} (run again with --debug for the traceback)"
