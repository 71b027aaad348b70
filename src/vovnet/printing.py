"""Show what strangers wrote, in messages, tables and logs: short, on one line, and without power over the terminal."""

from __future__ import annotations

import os
import re
import reprlib
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence

# Control characters; overrides of the writing direction, which let "gpj.exe" read as "exe.jpg"; line separators;
# halves of surrogate pairs, which no encoding can write; two code points that are no characters, which XML refuses.
_POWER = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff"
_UNSAFE = re.compile(f"[{_POWER}]")
_LONGEST = 120
CELL, SENTENCE, PARAGRAPH = 300, 1000, 4000  # longest cell of a table, which has room for a path; message; paragraph


def printable(text: str) -> str:
    """The text without characters that could drive or confuse a terminal: all become �. Line ends and tabs stay."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


def line(text: str, length: int = _LONGEST) -> str:
    """The text on one printable line of at most `length` characters. The middle is cut, as names differ at the end."""
    if len(text) > 4 * length:  # so that a text of any length costs little
        text = text[: 2 * length] + text[-2 * length :]
        cut = True
    else:
        cut = False
    text = printable(" ".join(text.split()))
    if len(text) <= length and not cut:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"


def shell_word(value: object) -> str:
    """A name, mostly of a file, as one word of a command to be pasted, which `line` leaves as it is."""
    text = str(value)
    if os.name == "nt":
        import subprocess  # late, since it takes as long as all of this module

        return subprocess.list2cmdline([text])
    word = shlex.quote(text)
    while "  " in word:  # two spaces would become one; the quotes end and begin anew between them
        word = word.replace("  ", " '' ")
    return word


def shell_words(values: Iterable[object]) -> str:
    """A command to be pasted, of the words given."""
    return " ".join(map(shell_word, values))


def tell_apart(shown: Sequence[str]) -> list[str]:
    """The texts, with their number behind those that occur more than once, as names do once they are short."""
    counts = Counter(shown)
    return [text if counts[text] == 1 else f"{text} #{number}" for number, text in enumerate(shown, start=1)]


def quoted(value: object, length: int = 80) -> str:
    """A foreign value in a message: as Python writes it, with what cannot be printed escaped, and cut to `length`."""
    shown = reprlib.Repr()
    shown.maxstring = shown.maxother = shown.maxlong = length
    shown.maxlevel = 2
    try:
        text = shown.repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        text = (
            f"a number of about {abs(int(value)).bit_length() * 0.30103:.0f} digits" if isinstance(value, int) else "?"
        )
    return text if len(text) <= length else line(text, length)
