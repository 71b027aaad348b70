"""Texts of records written by earlier versions, in today's words. The records themselves are never changed."""

from __future__ import annotations

import re

from vovnet.printing import line

REPLACEMENTS = {
    "resident set of a clean process": "resident set of a fresh process",
    "a clean process could not measure it": "a fresh process could not measure it",
    "no CPU package counter in": "no RAPL counter in",
    ": this machine has none, or a virtual machine or container hides it": (
        "; it is absent or hidden by a virtual machine or container"
    ),
}


def current_wording(text: str) -> str:
    for old, new in REPLACEMENTS.items():
        text = text.replace(old, new)
    return re.sub(r"\b1 threads\b", "1 thread", text)


def foreign(text: str, length: int = 400) -> str:
    """A text of a record in a note: in today's words, on one line, and without backticks, which would mark code."""
    return line(current_wording(text).replace("`", "'"), length)
