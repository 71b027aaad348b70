"""The package's only exception class, and what its messages have in common."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TypeVar

from vovnet.printing import line, quoted

T = TypeVar("T")
_LONGEST_NAME, _MOST_NAMES = 150, 2000  # of a search for a similar name
_LONGEST_LIST = 300


class UsageError(ValueError):
    """A name, option or setting that does not exist: the command line exits with 2, as for a wrong option."""


def is_runner() -> bool:
    """Whether this is the distribution vovnet-runtime, which has no training and needs no PyTorch."""
    return not os.path.isdir(os.path.join(os.path.dirname(__file__), "engine"))


def install_extra(extra: str) -> str:
    """How to install an extra, in double quotes, which the shells of Windows take too.

    pip finds the installed package, asks no index for it, and adds what the extra lacks.
    """
    if is_runner():
        return "pip install onnxruntime" if extra == "onnx" else f'pip install "vovnet-runtime[{extra}]"'
    return f'pip install "vovnet[{extra}]"'


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """The count with its noun: "1 image", "2 images"; `plural` where that is not the noun with an s."""
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is most like `name`, None if none is alike.

    The search takes time with the product of the lengths, so it does without names longer than anybody writes, and
    stops after the first two thousand.
    """
    if len(name) > _LONGEST_NAME:
        return None
    import difflib  # which most runs do without

    candidates = [other for other in islice(known, _MOST_NAMES) if len(other) <= _LONGEST_NAME]
    return next(iter(difflib.get_close_matches(name, candidates, n=1, cutoff=cutoff)), None)


def did_you_mean(name: str, known: Iterable[str], prefix: str = "", *, cutoff: float = 0.6) -> str:
    """ ", did you mean 'NAME'?" with the nearest known name after `prefix`, or nothing if none is near."""
    near = nearest(name, known, cutoff)
    return "" if near is None else f", did you mean {quoted(prefix + near, _LONGEST_NAME)}?"


def nearest_beside(path: Path) -> str:
    """ ", did you mean …?" with the name in the same folder that is most like one that is not there."""
    with suppress(OSError, ValueError):  # there is no such folder, or it cannot be read
        prefix = path.as_posix().removesuffix(path.name)
        return did_you_mean(path.name, sorted(os.listdir(path.parent)), prefix, cutoff=0.75)
    return ""


def listed(names: Iterable[str], most: int = 40, length: int = _LONGEST_LIST) -> str:
    """The names after commas, each on one short line: the first `most` that fit in `length`, and a count of others."""
    names = list(names)
    shown: list[str] = []
    for name in names[:most]:
        shown.append(line(name, 60))
        length -= len(shown[-1]) + 2
        if length < 0:
            break
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f", … and {rest:,} more" if rest else "")


def unknown_name(what: str, name: object, known: Iterable[str]) -> UsageError:
    """The error for a name of `what` that is not among `known`: with the nearest one, or with all of them.

    The name may come from a stranger's file, so it may be of any length and of any type.
    """
    known = list(known)
    near = did_you_mean(name, known) if isinstance(name, str) else ""
    return UsageError(f"no {what} is called {quoted(name)}" + (near or f" (there are: {listed(known)})"))


def choose(table: Mapping[str, T], name: str, what: str) -> T:
    """The entry `name` of a table of `what`; UsageError if there is none."""
    if not isinstance(name, str) or name not in table:
        raise unknown_name(what, name, table)
    return table[name]


def typed(error: BaseException) -> str:
    """The error's type and message, if it has one: that of a library may say little without its type."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def explain(error: Exception) -> str:
    """The text of an error that says what helps, else its type too: for one line of a table."""
    return describe(error) if isinstance(error, ValueError | OSError | ImportError) and str(error) else typed(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of the computer or of a device; PyTorch has no type for the first."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


def describe(error: Exception) -> str:
    """The text of an error; one of the system without its number and with what helps."""
    if not (isinstance(error, OSError) and error.strerror):
        return str(error)
    where = "" if error.filename is None else f"{line(os.fsdecode(error.filename), 300)}: "
    denied = isinstance(error, PermissionError) and where
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "; free some disk space" if full else "; allow it with chmod, or choose another" if denied else ""
    return f"{where}{error.strerror}{remedy}"
