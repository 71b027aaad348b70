"""Reads text and JSON that strangers wrote; `yaml_parsing` does YAML. The outcome is the content or one sentence.

Every error here is a ValueError whose text goes on after the name of the file, "is not UTF-8 text", so that a caller
can report file and reason apart; `naming` joins them.
"""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vovnet.limits import limits, too_much
from vovnet.printing import line

_WIDE_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
MOST_DIGITS = 18  # so that a number fits in 64 bits


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts the path before the messages of this module."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def read_bounded(path: Path, limit: str = "text_bytes") -> bytes:
    """The content of a regular file. ValueError if it cannot be read or is larger than this one of `Limits`.

    A named pipe would wait for ever, so only regular files are opened.
    """
    most = getattr(limits(), limit)
    try:
        if not path.is_file():
            raise ValueError(_why_no_file(path))
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(min(size, most) + 1)  # which reserves that much
            if len(data) > size:  # it has grown, or states no size, as those in /proc
                data += file.read(most + 1 - len(data)) if len(data) <= most else b""
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error
    if len(data) > most:
        raise too_much(limit)
    return data


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
    if data.startswith(_WIDE_MARKS):
        raise ValueError("is UTF-16 or UTF-32 text, expected UTF-8: save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{data[error.start]:02x} at position {error.start}"
        raise ValueError(f"is not UTF-8 text ({byte}): save it as UTF-8") from error
    if "\0" in text:
        raise ValueError("holds NUL bytes, so it is not text: save it as UTF-8")
    return text


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


def read_json(path: Path, limit: str = "record_bytes") -> Any:
    """The content of a JSON file. ValueError if it is no JSON, or holds a whole number of more than 18 digits."""
    return parse_json(read_bounded(path, limit))


def parse_json(data: bytes | str, *, long_numbers: bool = False) -> Any:
    """The value of a JSON text, as `read_json`.

    long_numbers: take whole numbers of any length. A look at each takes long where millions are, as in COCO's files;
        the caller checks those that it uses.
    """
    parse_int = None if long_numbers else _bounded_int
    try:
        return json.loads(decode(data) if isinstance(data, bytes) else data, parse_int=parse_int)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not valid JSON ({error}): it is damaged or cut short") from error
    except RecursionError:
        raise ValueError("is not valid JSON for this purpose (it is nested too deeply)") from None
    except ValueError as error:
        if not long_numbers or isinstance(error, UnicodeError):
            raise
        raise ValueError("holds a whole number of thousands of digits") from None


def _bounded_int(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(too_long(text))
    return int(text)


def too_long(number: str) -> str:
    """What is wrong with a whole number of more than MOST_DIGITS digits."""
    return f"holds the number {line(number, 30)} of {len(number)} digits, and 64 bits hold {MOST_DIGITS}"
