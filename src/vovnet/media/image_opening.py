"""Opens an image that a stranger made, with only its header read: in few formats, within limits, and silently."""

from __future__ import annotations

import io
import math
import stat
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from vovnet.limits import check_limit
from vovnet.media.jpeg_markers import check_markers
from vovnet.printing import line

# Pillow's names of the formats of IMAGE_SUFFIXES, and its modules. It has 30 more, one of which starts another program.
_PLUGINS = {
    "JPEG": "Jpeg",
    "PNG": "Png",
    "GIF": "Gif",
    "BMP": "Bmp",
    "PPM": "Ppm",
    "TIFF": "Tiff",
    "WEBP": "WebP",
    "JPEG2000": "Jpeg2K",
    "AVIF": "Avif",
}
FORMATS = tuple(_PLUGINS)
_SMALL = 2**24  # bytes of a file that is read at once, which is sooner
_START = 2**15  # bytes, which most headers have, with a small picture or a colour profile in them

# What Pillow says of damaged metadata, it says from any thread.
warnings.filterwarnings("ignore", module=r"PIL\.")


def source_name(source: Path | bytes) -> str:
    return "the image" if isinstance(source, bytes) else str(source)


@contextmanager
def open_image(source: Path | bytes, formats: Sequence[str] = FORMATS) -> Iterator[tuple[Image.Image, IO[bytes]]]:
    """The image with only its header read, and the file that it is read from. Both are closed at the end.

    Raises ValueError for what is no image of these formats, has a damaged header or is too large, and for a device or
    pipe; OSError for a missing file.
    """
    name = source_name(source)
    with open_file(source) as file:
        if "JPEG" in formats:
            check_markers(file, name)
        try:
            pil_image = _identify(file, formats)
        except Exception as error:  # each format's plugin raises its own
            raise ValueError(f"{name} has a damaged header ({reason(error)}): fetch it again or remove it") from error
        if pil_image is None:
            known = "JPEG, PNG, TIFF, WebP, …" if len(formats) > 1 else formats[0]
            raise ValueError(f"{name} is not an image in a known format ({known}): convert or remove it")
        with pil_image:
            _check_size(pil_image, name)
            yield pil_image, file


@contextmanager
def open_file(source: Path | bytes) -> Iterator[IO[bytes]]:
    """A regular file, or data as one, of a bounded size. A named pipe would wait for ever, a device would not end."""
    name = source_name(source)
    if isinstance(source, Path):
        status = source.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):  # a folder raises the system's error
            raise ValueError(f"{name} is a device or a pipe, expected a file: copy its content to a file")
    size = len(source) if isinstance(source, bytes) else status.st_size
    if size == 0:
        raise ValueError(f"{name} is empty: fetch it again or remove it")
    check_limit("image_bytes", size, name, "save it as PNG or JPEG")
    if isinstance(source, Path) and size > _SMALL:
        with source.open("rb") as file:
            yield file
    else:
        yield io.BytesIO(source if isinstance(source, bytes) else source.read_bytes())


def read_jpeg_start(path: Path) -> bytes | None:
    """The start of a JPEG, in which most have their header; None for other files and for small ones."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size <= _START:
        return None
    with path.open("rb", buffering=0) as file:
        start = file.read(_START)
    return start if start.startswith(b"\xff\xd8") else None


def reason(error: Exception) -> str:
    """What a library says of damage, in short and without torchvision's source line; else the kind of its error."""
    return line(str(error).rsplit(", ", 1)[-1], 100) or type(error).__name__


def counted_pixels(pil_image: Image.Image) -> int:
    """height × width, or a multiple where decoding takes more than 9 bytes per pixel."""
    return _times(pil_image) * pil_image.width * pil_image.height


def _times(pil_image: Image.Image) -> int:
    """Measured: WebP and AVIF take up to 16 bytes per pixel, JPEG 2000 takes 24."""
    if pil_image.format == "TIFF":
        most = 4 * pil_image.width * pil_image.height
        return max(1, math.ceil(_strip_bytes(pil_image) / most))
    if pil_image.format in ("JPEG", "MPO") and pil_image.info.get("progressive"):
        # The decoder holds two bytes for each pixel of each channel that is not subsampled.
        shares = [across * down for _, across, down, *_ in pil_image.layer]  # type: ignore[attr-defined]
        return 1 if sum(shares) <= 2.5 * max(shares, default=1) else 2
    return {"WEBP": 2, "AVIF": 2, "JPEG2000": 3}.get(pil_image.format or "", 1)


def _strip_bytes(pil_image: Image.Image) -> int:
    """Size of a strip or tile of a TIFF, which its decoder holds as a whole. A tile may exceed the image."""
    try:
        tags = pil_image.tag_v2  # type: ignore[attr-defined]
        bits = sum(np.ravel(tags.get(258, 1)).tolist())
        width, rows = tags.get(322, pil_image.width), tags.get(323, tags.get(278, pil_image.height))
        return int(width) * min(int(rows), pil_image.height if 323 not in tags else int(rows)) * bits // 8
    except (TypeError, ValueError, OverflowError):  # damaged tags, by which nothing is decoded
        return 0


def _identify(file: IO[bytes], formats: Sequence[str]) -> Image.Image | None:
    """As Pillow's `Image.open` with these formats, but without its own limit, which only the whole process can raise.

    It also passes no file name on: a mapped file that another program cuts short ends the process.
    """
    prefix = file.read(16)
    for name in formats:
        if name not in Image.OPEN:
            with suppress(ImportError):  # only this one: all of them take 30 ms
                import_module(f"PIL.{_PLUGINS[name]}ImagePlugin")
        if name not in Image.OPEN:  # a Pillow without this format
            continue
        factory, accepts = Image.OPEN[name]
        try:
            accepted = accepts is None or accepts(prefix)
            if accepted and not isinstance(accepted, str):  # a text says why not
                file.seek(0)
                return factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # by which a plugin says that it is not its own
            continue
    return None


def _check_size(pil_image: Image.Image, name: str) -> None:
    width, height = pil_image.size
    if width <= 0 or height <= 0:
        raise ValueError(f"{name} has no pixels: fetch it again or remove it")
    times = _times(pil_image)
    counting = f" that count {times} times in this {pil_image.format}" if times > 1 else ""
    what = f"{name}, of {width} × {height} pixels{counting},"
    remedy = "cut it into tiles or scale it down"
    check_limit("image_pixels", times * width * height, what, remedy)
    check_limit("side_pixels", max(width, height), f"a side of {name}, of {width} × {height} pixels,", remedy)
