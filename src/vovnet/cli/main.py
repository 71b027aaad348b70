"""The entry point of `vovnet`. Heavy imports wait until a command runs, so that --help is quick."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Sequence

from cyclopts import CycloptsError

from vovnet import console
from vovnet.cli import (  # noqa: F401  (each adds its command)
    compare,
    config,
    data,
    data_boxes,
    data_convert,
    data_split,
    data_view,
    evaluate,
    export,
    list,
    measure,
    predict,
    reproduce,
    study,
    train,
    versions,
    weights,
)
from vovnet.cli.app import app
from vovnet.cli.output import complain
from vovnet.cli.wrong_option import explain_words
from vovnet.console import BROKEN_PIPE, apply_limits, flush, guarded_terminal, open_closed_streams
from vovnet.errors import UsageError, describe
from vovnet.printing import SENTENCE, line, quoted
from vovnet.weights.asked_once import asked_once


def main() -> None:
    """Run the command line; an error is a single sentence, with --debug the traceback."""
    debug = "--debug" in sys.argv[1:]
    arguments: Sequence[str] = [word for word in sys.argv[1:] if word != "--debug"]
    open_closed_streams()
    try:
        with guarded_terminal():
            status = _run(arguments, debug=debug)
    except BrokenPipeError:  # whoever read the output, as `head`, has enough of it
        status = BROKEN_PIPE
    except SystemExit as stop:  # of rich, for the same reason
        if not isinstance(stop.__context__, BrokenPipeError):
            raise
        status = BROKEN_PIPE
    sys.exit(flush(status if isinstance(status, int) else 0))


def _run(arguments: Sequence[str], *, debug: bool) -> object:
    """What the command returns, or the exit status of its error."""
    try:
        arguments = apply_limits(arguments)
        with asked_once():
            return _call(arguments)
    except KeyboardInterrupt:
        complain("interrupted")
        return 130
    except BrokenPipeError:
        raise
    except UsageError as error:
        if debug:
            raise
        complain(str(error))
        return 2
    except Exception as error:
        if debug:
            raise
        complain(_one_sentence(error, next(iter(arguments), "")))
        return 1


def _call(arguments: Sequence[str]) -> object:
    try:
        return app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        raise UsageError(f"{explain_words(error)} See vovnet --help.") from error


_MEMORY_OPTIONS = {
    "train": "micro_batch_size",
    "evaluate": "--batch-size (or --workers)",
    "predict": "--batch-size",
    "data": "--workers",
    "measure": "--batch-size or --input-size",
}
EXTRA_OF_PACKAGE = console.EXTRA_OF_PACKAGE | {
    "hotcoco": "eval",
    "markdown_it": "report",
    "matplotlib": "report",
    "nncf": "openvino",
    "onnx": "onnx",
    "onnxscript": "onnx",
    "pynvml": "energy",
    "tensorboard": "train",
}


def _one_sentence(error: Exception, command: str) -> str:
    from pydantic import ValidationError

    text = describe(error)
    if " in DataLoader worker process" in text:  # the message is the worker's traceback, whose last lines are the error
        lines = text.strip().split("\n")
        last_frame = max((number for number, text in enumerate(lines) if text.startswith("  ")), default=0)
        text = " ".join(lines[last_frame + 1 :]).partition(": ")[2]
    text = line(text, SENTENCE)
    option = _MEMORY_OPTIONS.get(command, "the batch size")
    if sentence := console.out_of_memory(error, text, f"lower {option} or use a smaller model"):
        return sentence
    if isinstance(error, zipfile.BadZipFile):
        return f"a file is not a valid archive ({text}): it is damaged or cut short"
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        where, more = ".".join(map(str, first["loc"])), error.error_count() - 1
        return f"{where}: {first['msg']}, got {quoted(first['input'])}" + (f"; and {more} more" if more else "")
    return console.one_sentence(error, text, EXTRA_OF_PACKAGE)
