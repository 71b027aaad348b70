"""Decodes every image of a dataset once, for its true size and to compare pixels, or reads its header only."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Condition

import numpy as np
import numpy.typing as npt

from vovnet.data.dataset import ImageAnnotation, SplitAnnotations
from vovnet.data.images import read_image, why_unreadable
from vovnet.data.orientation import turn_box
from vovnet.limits import limits
from vovnet.media.image_opening import counted_pixels, open_image
from vovnet.media.orientation import SIDEWAYS, means_stored_pixels
from vovnet.media.pixels import header_of, read_header, read_pixels

_LOG = logging.getLogger("vovnet")
_AT_ONCE, _STEP = 2048, 16  # images that the threads get at once, and headers after which progress is told
_MANY_IMAGES = 3000  # for which importing PyTorch takes less time than its faster decoder saves


@dataclass(frozen=True, slots=True)
class ImageScan:
    """What decoding an image file showed.

    image_size: (height, width) of the upright image.
    orientation: how the pixels are stored, by EXIF: 1 for upright.
    file_digest, pixel_digest: equal for equal files, and for equal pixels.
    error: why the image cannot be read, "" if it can.
    """

    image_size: tuple[int, int] = (0, 0)
    orientation: int = 1
    file_digest: bytes = b""
    pixel_digest: bytes = b""
    error: str = ""


def scan_images(
    paths: set[Path], workers: int | None, progress: Callable[[int, int], None] | None, *, headers: bool = False
) -> dict[Path, ImageScan]:
    """Decodes the images in threads, or reads their headers only; the arguments are those of `check_dataset`."""
    ordered = sorted(paths, key=str)
    scans: dict[Path, ImageScan] = {}
    pool = ThreadPoolExecutor(workers or os.cpu_count())
    read = read_pixels if len(ordered) < _MANY_IMAGES else _read_fast
    scan_image = _scan_header if headers else partial(_scan_image, read, _PixelsInWork())
    step = _STEP if headers else 1
    try:
        for start in range(0, len(ordered), _AT_ONCE):  # few wait in the pool
            part = ordered[start : start + _AT_ONCE]
            for path, scan in zip(part, pool.map(scan_image, part), strict=True):
                scans[path] = scan
                if progress is not None and (len(scans) % step == 0 or len(scans) == len(ordered)):
                    progress(len(scans), len(ordered))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the remaining images
    return scans


def _scan_header(path: Path) -> ImageScan:
    """The size of the image; its digests tell files apart by their paths only."""
    try:
        size, orientation = read_header(path)
    except (ValueError, OSError) as error:
        return ImageScan(error=why_unreadable(path, error))
    name = os.fsencode(path)
    return ImageScan(size, orientation, name, name)


def _read_fast(path: Path) -> npt.NDArray[np.uint8]:
    """The pixels of `read_pixels`, by a decoder that is faster but takes seconds to import."""
    pixels: npt.NDArray[np.uint8] = read_image(path).permute(1, 2, 0).numpy()
    return pixels


class _PixelsInWork:
    """Lets threads decode images at once while these have few pixels together; a larger image waits to be alone."""

    def __init__(self) -> None:
        self._changed, self._held = Condition(), 0

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        most = limits().image_pixels
        with self._changed:
            self._changed.wait_for(lambda: self._held == 0 or self._held + pixels <= most)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()


def _scan_image(read: Callable[[Path], npt.NDArray[np.uint8]], in_work: _PixelsInWork, path: Path) -> ImageScan:
    try:
        with open_image(path) as (pil_image, data):
            _, orientation = header_of(pil_image)
            pixels = counted_pixels(pil_image)
            file = hashlib.blake2b(digest_size=16)
            data.seek(0)
            while chunk := data.read(2**20):
                file.update(chunk)
        with in_work.hold(pixels):
            image = read(path)
            shape = str(image.shape).encode()
            digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16, key=shape).digest()
            size = image.shape[0], image.shape[1]
            del image
    except (ValueError, OSError) as error:
        return ImageScan(error=why_unreadable(path, error))
    return ImageScan(size, orientation, file.digest(), digest)


def turn_boxes_upright(split: SplitAnnotations, scans: Mapping[Path, ImageScan]) -> SplitAnnotations:
    """The split with all boxes in pixels of the upright image; masks stay as they are."""

    def turn(image: ImageAnnotation) -> ImageAnnotation:
        scan, size = scans[image.image_path], image.image_size
        if size is None or not means_stored_pixels(size, scan.image_size, scan.orientation):
            return image
        objects = (replace(obj, box=turn_box(obj.box, size, scan.orientation)) for obj in image.objects)
        return replace(image, objects=tuple(objects))

    return replace(split, images=tuple(map(turn, split.images)))


def warn_about_orientation(splits: Sequence[SplitAnnotations], scans: Mapping[Path, ImageScan]) -> None:
    """Logs how many annotations are those of the stored pixels, and how many leave open whether they are."""
    stored: dict[Path, None] = {}
    ambiguous: dict[Path, None] = {}
    for split in splits:
        for image in split.images:
            scan = scans[image.image_path]
            stated_size = None if split.format == "yolo" else image.image_size  # YOLO's is that of the image itself
            if means_stored_pixels(stated_size, scan.image_size, scan.orientation):
                stored[image.image_path] = None
            elif scan.orientation != 1 and (
                stated_size is None or scan.orientation not in SIDEWAYS or stated_size[0] == stated_size[1]
            ):
                ambiguous[image.image_path] = None
    for paths, meaning in (
        (stored, "annotated in the pixels as stored, which EXIF turns; boxes and masks are turned with them"),
        (
            ambiguous,
            "turned by EXIF, with nothing to show whether their annotation is; it is taken as that of the upright one",
        ),
    ):
        if paths:
            _LOG.warning("%s: images %s: %d (the first is %s)", splits[0].root, meaning, len(paths), next(iter(paths)))
