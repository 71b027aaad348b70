"""The package's only exception class, and what its messages have in common."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from vovnet.printing import line, quoted

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
    near = difflib.get_close_matches(line(name), list(known), n=1)
    return f", did you mean {prefix + near[0]!r}?" if near else ""


def unknown_name(what: str, name: object, known: Iterable[str]) -> UsageError:
    """The error for a name of `what` that is not among `known`: with the nearest one, or with all of them.

    The name may come from a stranger's file, so it may be of any length and of any type.
    """
    known = list(known)
    near = did_you_mean(name, known) if isinstance(name, str) else ""
    return UsageError(f"no {what} is called {quoted(name)}" + (near or f" (there are: {listed(known)})"))


def listed(names: list[str], length: int = 300) -> str:
    """The names, or as many as fit in `length` characters and the number of the others."""
    shown = names
    while shown and len(", ".join(shown)) > length:
        shown = shown[:-1]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(shown) < len(names) else "")


def choose(table: Mapping[str, T], name: str, what: str) -> T:
    """The entry `name` of a table of `what`; UsageError if there is none."""
    if not isinstance(name, str) or name not in table:
        raise unknown_name(what, name, table)
    return table[name]
