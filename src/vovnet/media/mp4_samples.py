"""How many samples the tables of an MP4 or MOV state. The decoder makes an entry for each before it reads any."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"edts", b"mvex", b"udta")
_COUNTS_AT = {b"stsz": 8, b"stz2": 8, b"trun": 4}  # table → where its content has the number of samples
_MOST_BOXES = 1_000_000


def check_samples(path: str | Path) -> None:
    """ValueError for a file that states more samples than it has bytes. A few bytes could stand for gigabytes."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        if file.read(8)[4:] not in (b"ftyp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp"):
            return
        stated = sum(_sample_counts(file, 0, size))
    if stated > size:
        raise ValueError(f"{path} states {stated:,} samples but has {size:,} bytes: it is damaged, fetch it again")


def _sample_counts(file: IO[bytes], start: int, end: int) -> Iterator[int]:
    waiting, boxes = [(start, end)], 0
    while waiting and boxes < _MOST_BOXES:
        position, end = waiting.pop()
        while position + 8 <= end and boxes < _MOST_BOXES:
            boxes += 1
            file.seek(position)
            header = file.read(16).ljust(16, b"\0")
            length, kind = struct.unpack(">I4s", header[:8])
            skipped = 16 if length == 1 else 8
            length = struct.unpack(">Q", header[8:])[0] if length == 1 else length or end - position
            if length < skipped:
                break
            if kind in _CONTAINERS:
                waiting.append((position + skipped, min(position + length, end)))
            elif kind in _COUNTS_AT:
                file.seek(position + skipped + _COUNTS_AT[kind])
                yield int.from_bytes(file.read(4), "big")
            position += length
