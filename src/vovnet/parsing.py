"""Reads text and JSON that strangers wrote; `yaml_parsing` does YAML. The outcome is the content or one sentence.

Every error here is a ValueError whose text goes on after the name of the file, "is not UTF-8 text", so that a caller
can report file and reason apart; `naming` joins them.
"""

from __future__ import annotations

import codecs
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from vovnet.limits import limits, too_much
from vovnet.printing import line

_WIDE_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_PART = 2**17  # bytes
MOST_DIGITS = 18  # so that a number fits in 64 bits


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts the path before the messages of this module."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def read_bounded(path: Path, limit: str = "text_bytes") -> bytes:
    """The content of a regular file. ValueError if it cannot be read or is larger than this one of `Limits`."""
    most = getattr(limits(), limit)
    with regular_file(path, limit) as file, _reading():
        size = os.fstat(file.fileno()).st_size
        data = file.read(min(size, most) + 1)  # which reserves that much
        if len(data) > size:  # it has grown, or states no size, as those in /proc
            data += file.read(most + 1 - len(data)) if len(data) <= most else b""
    if len(data) > most:
        raise too_much(limit)
    return data


@contextmanager
def regular_file(path: Path, limit: str) -> Iterator[BinaryIO]:
    """The open file. ValueError for one that is too large, or is none: a named pipe would wait for ever."""
    with _reading():
        if not path.is_file():
            raise ValueError(_why_no_file(path))
        file = path.open("rb")
    with file:
        with _reading():
            size = os.fstat(file.fileno()).st_size
        if size > getattr(limits(), limit):
            raise too_much(limit)
        yield file


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error


def _why_no_file(path: Path) -> str:
    if path.is_dir():
        return "is a folder, not a file"
    if path.is_symlink() and not path.exists():
        return "is a broken link"
    return "is a special file, such as a pipe or a device" if path.exists() else "does not exist"


def read_text(path: Path, limit: str = "text_bytes") -> str:
    """The text of a UTF-8 file, with or without byte order mark. ValueError for anything else."""
    return decode(read_bounded(path, limit))


def decode(data: bytes) -> str:
    """The text of UTF-8 data, as of a file."""
    return "".join(_texts(iter([data])))


def text_parts(file: BinaryIO, limit: str) -> Iterator[str]:
    """The text of `read_text` in parts, from the beginning of an open file."""
    return _texts(byte_parts(file, limit))


def byte_parts(file: BinaryIO, limit: str) -> Iterator[bytes]:
    """An open file in parts, from its beginning. ValueError if it cannot be read or is larger than the limit."""
    left = getattr(limits(), limit)
    with _reading():
        file.seek(0)
    while True:
        with _reading():
            part = file.read(_PART)
        if not part:
            return
        left -= len(part)
        if left < 0:  # it has grown
            raise too_much(limit)
        yield part


def _texts(parts: Iterator[bytes]) -> Iterator[str]:
    decoder, position = codecs.getincrementaldecoder("utf-8")(), 0  # of the first byte that was not decoded
    part = next(parts, b"")
    if part.startswith(_WIDE_MARKS):
        raise ValueError("is UTF-16 or UTF-32 text, expected UTF-8: save it as UTF-8")
    if part.startswith(codecs.BOM_UTF8):
        part, position = part.removeprefix(codecs.BOM_UTF8), len(codecs.BOM_UTF8)
    while True:
        following = next(parts, b"")
        waiting = len(decoder.getstate()[0])
        try:
            text = decoder.decode(part, final=not following)
        except UnicodeDecodeError as error:
            byte = f"byte 0x{error.object[error.start]:02x} at position {position - waiting + error.start}"
            raise ValueError(f"is not UTF-8 text ({byte}): save it as UTF-8") from error
        if "\0" in text:
            raise ValueError("holds NUL bytes, so it is not text: save it as UTF-8")
        yield text
        position += len(part)
        if not following:
            return
        part = following


def read_lines(path: Path, limit: str = "text_bytes") -> list[str]:
    """The lines of `read_text`, split only where a line ends: file names may hold the other separators of Unicode."""
    return read_text(path, limit).replace("\r\n", "\n").replace("\r", "\n").split("\n")


def each_line(path: Path, limit: str = "text_bytes") -> Iterator[str]:
    """Those of `read_lines`, one after the other: the list of them would take several times the text."""
    text = read_text(path, limit).replace("\r\n", "\n").replace("\r", "\n")

    def lines() -> Iterator[str]:
        start = 0
        while (end := text.find("\n", start)) >= 0:
            yield text[start:end]
            start = end + 1
        yield text[start:]

    return lines()


def text_lines(path: Path, limit: str) -> Iterator[str]:
    """The lines of `read_text`, one after the other, each with what ends it: "\\n", "\\r" or both."""
    with regular_file(path, limit) as file:
        waiting: list[str] = []
        for part in text_parts(file, limit):
            waiting.append(part)
            if "\n" in part or "\r" in part:
                text = "".join(waiting)
                end = 1 + max(text.rfind("\n"), text.rfind("\r", 0, -1))  # what follows "\r" may belong to it
                yield from io.StringIO(text[:end], newline="")
                waiting = [text[end:]]
        yield from io.StringIO("".join(waiting), newline="")


def read_json(path: Path, limit: str = "record_bytes") -> Any:
    """The content of a JSON file. ValueError if it is no JSON, or holds a whole number of more than 18 digits."""
    return parse_json(read_bounded(path, limit))


def parse_json(data: bytes | str) -> Any:
    """The value of a JSON text, as `read_json`."""
    try:
        return json.loads(decode(data) if isinstance(data, bytes) else data, parse_int=bounded_int)
    except json.JSONDecodeError as error:
        raise no_json(str(error)) from error
    except RecursionError:
        raise too_deep() from None


def no_json(fault: str) -> ValueError:
    return ValueError(f"is not valid JSON ({fault}): it is damaged or cut short")


def too_deep() -> ValueError:
    return ValueError("is not valid JSON for this purpose (it is nested too deeply)")


def bounded_int(text: str) -> int:
    """The whole number that JSON states. ValueError for one of more than MOST_DIGITS digits."""
    if len(text) > MOST_DIGITS:
        raise ValueError(too_long(text))
    return int(text)


def too_long(number: str) -> str:
    """What is wrong with a whole number of more than MOST_DIGITS digits."""
    return f"holds the number {line(number, 30)} of {len(number)} digits, and 64 bits hold {MOST_DIGITS}"
