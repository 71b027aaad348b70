"""Reads the text files of datasets. Whatever such a file holds, the outcome is its text or one sentence."""

from __future__ import annotations

import codecs
from pathlib import Path

_WIDE_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_bounded(path: Path, limit: int) -> bytes:
    """The content of a regular file. ValueError, without the path, if it cannot be read or has more than `limit` bytes.

    A named pipe would wait for ever, so only regular files are opened.
    """
    try:
        if not path.is_file():
            raise ValueError(f"is a {'folder' if path.is_dir() else 'special file or broken link'}, not a file")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error
    if len(data) > limit:
        raise ValueError(f"has more than {limit:,} bytes, which no file of this kind needs")
    return data


def read_text(path: Path, limit: int = 10_000_000) -> str:
    """The text of a UTF-8 file, with or without byte order mark. ValueError, without the path, for anything else."""
    data = read_bounded(path, limit)
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


def read_lines(path: Path, limit: int = 10_000_000) -> list[str]:
    """The lines of `read_text`, split only where a line ends: file names may hold the other separators of Unicode."""
    return read_text(path, limit).replace("\r\n", "\n").replace("\r", "\n").split("\n")
