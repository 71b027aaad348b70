"""Images of strangers: which decoders are tried, and how much they may take."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from vovnet.data.checking.image_scan import scan_images
from vovnet.data.images import read_image
from vovnet.data.readers.mask_png import parse_numbers
from vovnet.limits import VARIABLE
from vovnet.media.image_opening import FORMATS, open_image
from vovnet.media.pixels import IMAGE_SUFFIXES, image_header_size, read_pixels
from vovnet.report.page import _size

PICTURE = Image.fromarray(np.arange(30 * 20 * 3, dtype=np.uint8).reshape(20, 30, 3))
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 30 20\n%%EndComments\n0 0 moveto showpage\n%%EOF\n"


def encode(format: str, image: Image.Image = PICTURE, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def other_formats() -> dict[str, bytes]:
    saved = ("DDS", "ICO", "PCX", "SGI", "ICNS", "TGA")
    return {
        "EPS": EPS,
        "EPS in a DOS wrapper": b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, len(EPS)) + bytes(20) + EPS,
        "WMF": b"\xd7\xcd\xc6\x9a\0\0" + struct.pack("<hhhhH", 0, 0, 30, 20, 72) + bytes(6) + b"\1\0\t\0" + bytes(60),
        "PSD": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 20, 30, 8, 3) + bytes(2000),
        "FITS": b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800),
        **{name: encode(name) for name in saved},
    }


@pytest.mark.parametrize("name", other_formats())
def test_a_format_that_is_not_meant_is_not_tried_and_starts_no_process(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.init()
    tried, started = [], []

    def refuse(other: str) -> object:
        def factory(*_: object) -> None:
            tried.append(other)
            raise SyntaxError

        return factory

    for other in Image.OPEN.keys() - {*FORMATS, "MPO"}:
        monkeypatch.setitem(Image.OPEN, other, (refuse(other), Image.OPEN[other][1]))
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **_: started.append(args))
    data = other_formats()[name]
    for suffix in (".jpg", ".png"):
        path = tmp_path / f"x{suffix}"
        path.write_bytes(data)
        sources = (path, data)
        for read in (read_image, read_pixels, image_header_size):
            for source in sources:
                with pytest.raises(ValueError, match="is not an image in a known format"):
                    read(source)
    with pytest.raises(ValueError, match=r"x\.png is not an image in a known format \(PNG\)"):
        parse_numbers(tmp_path / "x.png")
    assert _size(data) == ""
    assert (tried, started) == ([], [])


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_every_suffix_that_is_promised_opens(suffix: str, tmp_path: Path) -> None:
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    (tmp_path / f"x{suffix}").write_bytes(encode(Image.registered_extensions()[suffix]))
    assert read_image(tmp_path / f"x{suffix}").shape == (3, 20, 30)


@pytest.mark.parametrize("format", ["BMP", "TIFF", "GIF"])
def test_a_mask_is_a_png_whatever_its_name(format: str, tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(encode(format, PICTURE.convert("L")))
    with pytest.raises(ValueError, match=r"m\.png is not an image in a known format \(PNG\)"):
        parse_numbers(tmp_path / "m.png")


def test_only_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("pipe.jpg", "zero.png"):
        for read in (read_image, read_pixels, image_header_size, parse_numbers):
            with pytest.raises(ValueError, match=f"{name} is a device or a pipe"):
                read(tmp_path / name)
    with pytest.raises(IsADirectoryError, match="folder"):
        read_image(tmp_path / "folder.jpg")


@pytest.mark.parametrize(
    ("limit", "format", "message"),
    [
        ("image_pixels=599", "JPEG", "of 30 × 20 pixels, has more than 599 pixels"),
        ("image_pixels=599", "TIFF", "of 30 × 20 pixels, has more than 599 pixels"),
        ("image_pixels=1199", "WEBP", "of 30 × 20 pixels that count 2 times in this WEBP, has more than 1,199"),
        ("image_pixels=1799", "JPEG2000", "of 30 × 20 pixels that count 3 times in this JPEG2000, has more"),
        ("side_pixels=29", "PNG", "a side of x, of 30 × 20 pixels, has more than 29 pixels"),
        ("image_bytes=99", "BMP", "x has more than 99 bytes"),
    ],
)
def test_limits_are_named(
    limit: str, format: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x").write_bytes(encode(format))
    name, _, value = limit.partition("=")
    monkeypatch.setenv(VARIABLE, f"{name}={int(value) + (5000 if name == 'image_bytes' else 1)}")
    read_pixels(Path("x"))
    monkeypatch.setenv(VARIABLE, limit)
    for read in (read_image, read_pixels, image_header_size):
        with pytest.raises(ValueError, match=message):
            read(Path("x"))


def test_a_stated_size_is_refused_before_anything_is_decoded() -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    data = encode("PNG")[:12] + header + struct.pack(">I", zlib.crc32(header)) + encode("PNG")[33:]
    with pytest.raises(ValueError, match="of 100000 × 100000 pixels, has more than 110,000,000 pixels"):
        read_pixels(data)


def test_a_progressive_jpeg_without_subsampling_counts_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "image_pixels=700")
    read_image(encode("JPEG", subsampling=0))
    read_image(encode("JPEG", progressive=True, subsampling=2))
    with pytest.raises(ValueError, match="count 2 times in this JPEG"):
        read_image(encode("JPEG", progressive=True, subsampling=0))


def test_a_tile_larger_than_its_tiff_counts() -> None:
    tags = {256: 30, 257: 20, 258: 8, 259: 5, 262: 1, 277: 1, 322: 60_000, 323: 60_000, 324: 8, 325: 4}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    with pytest.raises(ValueError, match="of 30 × 20 pixels that count"), open_image(data):
        pass


def test_pillows_own_limit_neither_stops_nor_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    for most in (10, 400):  # of which it refuses, and warns
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_image(encode("PNG")).shape == (3, 20, 30)
            assert image_header_size(encode("JPEG")) == (20, 30)


def test_damaged_metadata_says_nothing(tmp_path: Path) -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\0" + b"\x12\1\3\0\xff\xff\xff\xff\xff\xff\xff\xff" * 255
    (tmp_path / "x.jpg").write_bytes(encode("JPEG", exif=exif))
    code = "import pathlib, sys; from vovnet.media.pixels import read_pixels; read_pixels(pathlib.Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.jpg")], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_too_little_memory_does_not_mark_an_image_as_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.png").write_bytes(encode("PNG"))

    def fail(_: Image.Image) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(OSError, match=r"x\.png needs more memory"):
        scan_images(lambda: [tmp_path / "x.png"], 1, None)


_PEAK = """
import sys
from pathlib import Path
from vovnet.data.readers import mask_png
from vovnet.media import pixels

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024

pixels.read_pixels(Path(sys.argv[1]).with_name("small"))
before = peak()
try:
    if sys.argv[2] == "mask":
        mask_png.to_objects(mask_png.parse_numbers(Path(sys.argv[1])), "x")
    else:
        pixels.read_pixels(Path(sys.argv[1]))
except ValueError as error:
    assert "mask_runs" in str(error), error
print(peak() - before)
"""
SIDE = 3000


def bytes_per_pixel(path: Path, kind: str) -> float:
    path.with_name("small").write_bytes(encode("PNG"))
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(path), kind], capture_output=True, text=True, check=True, timeout=60
    )
    return int(done.stdout) / SIDE**2


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux")
@pytest.mark.parametrize(
    ("mode", "format"),
    [("RGBA", "PNG"), ("LA", "PNG"), ("I;16", "PNG"), ("F", "TIFF"), ("I", "TIFF"), ("CMYK", "TIFF"), ("P", "PNG")],
)
def test_decoding_takes_few_bytes_per_pixel(mode: str, format: str, tmp_path: Path) -> None:
    image = Image.new("L", (SIDE, SIDE), 1).convert("P" if mode == "P" else mode)
    options = {"transparency": bytes(9)} if mode == "P" else {"compression": "tiff_lzw"} if format == "TIFF" else {}
    (tmp_path / "x").write_bytes(encode(format, image, **options))
    assert bytes_per_pixel(tmp_path / "x", "image") < 9.5


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux")
@pytest.mark.parametrize("pattern", ["rows", "columns", "chequered", "numbers of 16 bits"])
def test_a_mask_takes_few_bytes_per_pixel(pattern: str, tmp_path: Path) -> None:
    y, x = np.ogrid[:SIDE, :SIDE]
    numbers = {"rows": y % 2 + 0 * x, "columns": 0 * y + x % 2, "chequered": (x + y) % 2, "numbers of 16 bits": y + x}
    dtype = np.uint16 if "16" in pattern else np.uint8
    Image.fromarray(numbers[pattern].astype(dtype)).save(tmp_path / "x.png", compress_level=1)
    assert bytes_per_pixel(tmp_path / "x.png", "mask") < 14


def test_threads_decode_few_pixels_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {tmp_path / f"{index}.png" for index in range(8)}
    for path in paths:
        path.write_bytes(encode("PNG"))
    lock, at_work, most = threading.Lock(), 0, 0

    def read(path: Path) -> np.ndarray:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.02)
        with lock:
            at_work -= 1
        return read_pixels(path)

    monkeypatch.setattr("vovnet.data.checking.image_scan.read_pixels", read)
    monkeypatch.setenv(VARIABLE, "image_pixels=1300")
    scans = scan_images(lambda: paths, 4, None)
    assert not scans.errors
    assert most == 2
