"""Decodes every image of a dataset once, for its true size and to compare pixels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vovnet.data.images import read_image


@dataclass(frozen=True)
class ImageScan:
    """What decoding an image file showed.

    image_size: (height, width).
    file_digest, pixel_digest: equal for equal files, and for equal pixels.
    error: why the image cannot be read, "" if it can.
    """

    image_size: tuple[int, int] = (0, 0)
    file_digest: bytes = b""
    pixel_digest: bytes = b""
    error: str = ""


def scan_images(
    paths: set[Path], workers: int | None, progress: Callable[[int, int], None] | None
) -> dict[Path, ImageScan]:
    """Decodes the images in threads; the arguments are those of `check_dataset`."""
    ordered = sorted(paths)
    scans: dict[Path, ImageScan] = {}
    pool = ThreadPoolExecutor(workers or os.cpu_count())
    try:
        for path, scan in zip(ordered, pool.map(_scan_image, ordered), strict=True):
            scans[path] = scan
            if progress is not None:
                progress(len(scans), len(ordered))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the remaining images
    return scans


def _scan_image(path: Path) -> ImageScan:
    try:
        data = path.read_bytes()
        image = read_image(data)
    except (ValueError, OSError) as error:
        return ImageScan(error=str(error))
    shape = str(tuple(image.shape)).encode()
    pixels = hashlib.blake2b(image.contiguous().numpy().data, digest_size=16, key=shape).digest()
    file = hashlib.blake2b(data, digest_size=16).digest()
    return ImageScan((image.shape[1], image.shape[2]), file, pixels)
