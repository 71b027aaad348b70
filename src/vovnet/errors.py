"""The one exception of our own, and the suggestion for a misspelt name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """A name, option or setting that does not exist: the command line exits with 2, as for a wrong option."""


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """ ", did you mean 'NAME'?" with the nearest known name after `prefix`, or nothing if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean {prefix + near[0]!r}?" if near else ""
