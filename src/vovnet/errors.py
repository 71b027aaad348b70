"""The package's only exception class, and what its messages have in common."""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable, Mapping
from typing import TypeVar

from vovnet.printing import line

T = TypeVar("T")


class UsageError(ValueError):
    """A name, option or setting that does not exist: the command line exits with 2, as for a wrong option."""


def install_extra(extra: str) -> str:
    """How to install an extra: from the source folder, because the package is on no index."""
    return f"pip install '.[{extra}]' in the source folder of vovnet"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """The count with its noun: "1 image", "2 images"; `plural` where that is not the noun with an s."""
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """ ", did you mean 'NAME'?" with the nearest known name after `prefix`, or nothing if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean {prefix + near[0]!r}?" if near else ""


def unknown_name(what: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name of `what` that is not among `known`: with the nearest one, or with all of them."""
    known = list(known)
    return UsageError(
        f"no {what} is called {name!r}" + (did_you_mean(name, known) or f" (there are: {', '.join(known)})")
    )


def choose(table: Mapping[str, T], name: str, what: str) -> T:
    """The entry `name` of a table of `what`; UsageError if there is none."""
    if name not in table:
        raise unknown_name(what, name, table)
    return table[name]


def describe(error: Exception) -> str:
    """The text of an error; one of the system without its number and with what helps."""
    if not (isinstance(error, OSError) and error.strerror):
        return str(error)
    where = "" if error.filename is None else f"{line(os.fsdecode(error.filename), 300)}: "
    denied = isinstance(error, PermissionError) and where
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "; free some disk space" if full else "; allow it with chmod, or choose another" if denied else ""
    return f"{where}{error.strerror}{remedy}"
