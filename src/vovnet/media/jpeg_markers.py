"""How many segments and scans a JPEG has. Decoders take each in turn: few bytes may keep them busy for minutes."""

from __future__ import annotations

import re
from typing import IO

_MARKER = re.compile(rb"\xff[\x01-\xcf\xd9-\xfe]")  # not a byte of a scan, the start or a restart
_START_OF_SCAN, _END = 0xDA, 0xD9
_MOST_SEGMENTS = 500  # ahead of the first scan; Pillow joins them, a copy for each
_MOST_SCANS = 100  # encoders make about ten


def check_markers(file: IO[bytes], name: str) -> None:
    """ValueError for a JPEG of more segments or scans than any encoder makes. Leaves the file at its start."""
    file.seek(0)
    data = file.read() if file.read(2) == b"\xff\xd8" else b""
    file.seek(0)
    segments = scans = position = 0
    while found := _MARKER.search(data, position):
        marker = data[found.end() - 1]
        if marker == _END:
            return
        scans += marker == _START_OF_SCAN
        segments += scans == 0
        if segments > _MOST_SEGMENTS:
            raise ValueError(
                f"{name} has more than {_MOST_SEGMENTS} segments of metadata: remove them, as with `exiftool -all=`"
            )
        if scans > _MOST_SCANS:
            raise ValueError(f"{name} has more than {_MOST_SCANS} scans: save it again as a JPEG, or as PNG")
        position = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
