"""JPEG files of few bytes that keep a decoder busy for minutes, and those that only look like it."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path

import pytest
from PIL import Image

from vovnet.data.images import read_image
from vovnet.media.pixels import image_header_size, read_pixels

MARKERS = {"EXIF": (0xE1, b"Exif\0\0"), "a comment": (0xFE, b""), "a profile": (0xE2, b"ICC_PROFILE\0\1\1")}


def encode(**options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (64, 64), 90).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def with_scans(data: bytes, count: int) -> bytes:
    """A progressive JPEG whose last scan is there `count` times more."""
    start = data.rindex(b"\xff\xda")
    return data[:-2] + data[start:-2] * count + data[-2:]


def refused(data: bytes, message: str, folder: Path) -> None:
    path = folder / "x.jpg"
    path.write_bytes(data)
    for read in (read_image, read_pixels, image_header_size):
        with pytest.raises(ValueError, match=re.escape(f"{path} has more than {message}")):
            read(path)


@pytest.mark.parametrize("kind", MARKERS)
def test_many_segments_are_refused(kind: str, tmp_path: Path) -> None:
    marker, start = MARKERS[kind]
    data = encode()
    refused(data[:2] + segment(marker, start + bytes(9)) * 500 + data[2:], "500 segments of metadata: rem", tmp_path)
    assert read_pixels(data[:2] + segment(marker, start + bytes(9)) * 300 + data[2:]).shape == (64, 64, 3)


@pytest.mark.parametrize("options", [{"progressive": True}, {"progressive": True, "restart_marker_rows": 1}, {}])
def test_many_scans_are_refused(options: dict[str, object], tmp_path: Path) -> None:
    data = encode(**options)
    refused(with_scans(data, 100), "100 scans: save it again as a JPEG", tmp_path)
    assert read_pixels(with_scans(data, 10 if options else 0)).shape == (64, 64, 3)


@pytest.mark.parametrize("where", ["in a thumbnail", "after the end", "after the end, alone"])
def test_scans_of_other_images_do_not_count(where: str) -> None:
    other = b"\xff\xda\0\2" * 200
    data = encode()
    if where == "in a thumbnail":
        data = data[:2] + segment(0xE1, b"Exif\0\0" + other) + data[2:]
    else:  # as the film of a moving photograph
        data += other if where.endswith("alone") else encode() + other
    assert read_image(data).shape == (3, 64, 64)
