"""Parses JSON on a window of text that moves over a file, with the scanner of the standard library.

What it accepts, what it says is wrong and where are those of `json.loads` on the whole text.
"""

from __future__ import annotations

import codecs
import json
import re
import sys
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn

from vovnet.parsing import bounded_int, no_json, text_parts, too_deep

Scan = Callable[[str, int], tuple[Any, int]]
"""The value that begins at a place in a text, and where it ends. ValueError if there is none."""

_space = re.compile(r"[ \t\n\r]*")
_NEAR = 32  # characters before the end of the window: what is wrong there may be a token that is cut in two
_UNENDED = "Unterminated string"
_TRAILING_COMMA = {
    "]": "Illegal trailing comma before end of array",
    "}": "Illegal trailing comma before end of object",
}
_OF_NUMBER = "0123456789.eE+-"


def scanner(*, long_numbers: bool) -> Scan:
    """long_numbers: take whole numbers of any length. A look at each takes long where millions are, as in COCO's files;
    the caller checks those that it uses.
    """
    return json.JSONDecoder(parse_int=None if long_numbers else bounded_int).raw_decode


def skip_space(text: str, place: int) -> int:
    """The place of the next character that is no space, or the end of the text."""
    match = _space.match(text, place)
    return match.end() if match else place


class Window:
    """The text of a file from `at` on, of which more is read when it is needed.

    text: what is in memory.
    at: where in it the reading is.
    """

    def __init__(self, file: BinaryIO, limit: str, *, long_numbers: bool) -> None:
        """limit: the name of the limit of the file's size."""
        self.text, self.at = "", 0
        self._scan, self._long_numbers = scanner(long_numbers=long_numbers), long_numbers
        self._is_marked = file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
        self._parts, self._has_ended = text_parts(file, limit), False
        # What has left the window: characters, lines, and characters before the line that is being read.
        self._gone, self._lines, self._before_line = 0, 0, 0
        # The same place in the text and in the file.
        self._character, self._byte = 0, len(codecs.BOM_UTF8) * self._is_marked

    def peek(self) -> str:
        """The next character that is no space, where `at` is then; "" at the end of the file."""
        while True:
            self.at = skip_space(self.text, self.at)
            if self.at < len(self.text):
                return self.text[self.at]
            if self._has_ended:
                return ""
            self._read(0)

    def pass_comma(self, end: str) -> None:
        """Comes from a comma to the item behind it. ValueError if that is the end, where Python knows such a fault."""
        while True:
            match = _space.match(self.text, self.at + 1)
            position = match.end() if match else self.at + 1
            if position < len(self.text) or self._has_ended:
                break
            self._read(len(self.text) - self.at)
        if sys.version_info >= (3, 13) and self.text[position : position + 1] == end:
            self.fail(_TRAILING_COMMA[end])
        self.at = position

    def byte(self) -> int:
        """The place of `at` in the file."""
        passed = self.at - self._character
        self._byte += passed if self.text.isascii() else len(self.text[self._character : self.at].encode())
        self._character = self.at
        return self._byte

    def value(self) -> Any:
        """The value at `at`, which moves behind it. ValueError if there is none."""
        while True:
            try:
                value, end = self._scan(self.text, self.at)
            except json.JSONDecodeError as error:
                fault, position = error.msg, error.pos
            except RecursionError:
                self._read_all()
                raise too_deep() from None
            except ValueError as error:
                if not self._has_ended and self.text[-1] in _OF_NUMBER:  # which may go on, as a fraction
                    self._read(len(self.text) - self.at)
                    continue
                self._read_all()
                if self._long_numbers:
                    raise ValueError("holds a whole number of thousands of digits") from error
                raise
            else:
                if self._has_ended or not (isinstance(value, int | float) and self._is_near_end(end)):
                    self.at = end
                    return value
                fault, position = "", end  # the number may go on
            if self._has_ended or not (fault.startswith(_UNENDED) or self._is_near_end(position)):
                self.fail(fault, position)
            self._read(len(self.text) - self.at)

    def fail(self, fault: str, position: int | None = None) -> NoReturn:
        """Raise the ValueError for what is wrong at a position of the text, or at `at`."""
        end = self.at if position is None else position
        character, line = self._gone + end, self._lines + self.text.count("\n", 0, end) + 1
        last = self.text.rfind("\n", 0, end)
        before = self._before_line if last < 0 else self._gone + last + 1
        self._read_all()
        raise no_json(f"{fault}: line {line} column {character - before + 1} (char {character})")

    def _is_near_end(self, position: int) -> bool:
        return position + _NEAR > len(self.text)

    def _read(self, least: int) -> None:
        """Drops what is before `at`, and reads at least so many characters more, unless the file ends."""
        self.byte()
        last = self.text.rfind("\n", 0, self.at)
        self._lines += self.text.count("\n", 0, self.at)
        self._before_line = self._before_line if last < 0 else self._gone + last + 1
        self._gone += self.at
        parts = [self.text[self.at :]]
        self.at = self._character = 0
        while least >= 0 and not self._has_ended:
            part = next(self._parts, None)
            self._has_ended = part is None
            parts.append(part or "")
            least -= max(len(parts[-1]), 1)
        self.text = "".join(parts)

    def _read_all(self) -> None:
        """What is wrong with the text as such is said before what is wrong with it as JSON."""
        for _ in self._parts:
            pass
