"""Decodes every image of a dataset once, for its true size and to compare pixels, or reads its header only."""

from __future__ import annotations

import hashlib
import logging
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Condition

import numpy as np
import numpy.typing as npt

from vovnet.data.dataset import ImageAnnotation, ImageTable, SplitAnnotations
from vovnet.data.images import read_image, why_unreadable
from vovnet.data.keys import Integers, keys_of, text_key
from vovnet.data.orientation import turn_box
from vovnet.data.spooled import in_order
from vovnet.limits import limits
from vovnet.media.image_opening import counted_pixels, open_image
from vovnet.media.orientation import SIDEWAYS, means_stored_pixels
from vovnet.media.pixels import header_of, read_header, read_pixels

Size = tuple[int, int]

_LOG = logging.getLogger("vovnet")
_AT_ONCE = 2048  # images that the threads get at once
_STEP = 16  # headers that a thread reads at a time, after which progress is told
_MANY_IMAGES = 3000  # for which importing PyTorch takes less time than its faster decoder saves


@dataclass(frozen=True, slots=True)
class ImageScan:
    """What decoding an image file showed.

    image_size: (height, width) of the upright image.
    orientation: how the pixels are stored, by EXIF: 1 for upright.
    file_digest, pixel_digest: equal for equal files, and for equal pixels, 16 bytes. Where only headers were read, they
        tell paths apart.
    error: why the image cannot be read, "" if it can.
    """

    image_size: tuple[int, int] = (0, 0)
    orientation: int = 1
    file_digest: bytes = b""
    pixel_digest: bytes = b""
    error: str = ""


class Scans:
    """The scan of each image file, in arrays."""

    def __init__(self, keys: Integers, *, headers: bool) -> None:
        """keys: of the paths, sorted."""
        self._keys, self._headers = keys, headers
        self._sizes, self._orientations = np.zeros((len(keys), 2), np.int32), np.ones(len(keys), np.uint8)
        self._file_digests, self._pixel_digests = (np.zeros((0 if headers else len(keys), 16), np.uint8) for _ in "12")
        self._is_there = np.zeros(len(keys), np.bool_)
        self.errors: dict[str, str] = {}  # by the path
        self._error_of: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def _number(self, path: Path | str) -> int:
        key = text_key(path)
        number = int(self._keys.searchsorted(key))
        if number == len(self) or self._keys[number] != key:
            raise KeyError(path)
        return number

    def __getitem__(self, path: Path | str) -> ImageScan:
        number = self._number(path)
        if number in self._error_of:
            return ImageScan(error=self._error_of[number])
        height, width = self._sizes[number].tolist()
        columns = (self._keys,) * 2 if self._headers else (self._file_digests, self._pixel_digests)
        digests = [column[number].tobytes() for column in columns]
        return ImageScan((height, width), int(self._orientations[number]), *digests)

    def pixel_digests(self, images: ImageTable) -> Integers:
        """Those of the images, (N, 2)."""
        if self._headers:
            return np.stack([images.keys, np.zeros_like(images.keys)], axis=1)
        numbers = self._keys.searchsorted(images.keys)
        return np.ascontiguousarray(self._pixel_digests[numbers]).view(np.int64)

    @property
    def missing(self) -> int:
        """Number of paths of which there is no scan."""
        return len(self) - int(self._is_there.sum())

    def without(self, paths: Iterable[Path | str]) -> Iterator[str]:
        """The paths of which there is no scan yet, each once, as if they had one now."""
        for path in paths:
            number = self._number(path)
            if not self._is_there[number]:
                self._is_there[number] = True
                yield str(path)

    def put(self, path: str, scan: ImageScan) -> None:
        number = self._number(path)
        self._is_there[number] = True
        if scan.error:
            self.errors[path] = self._error_of[number] = scan.error
            return
        self._sizes[number], self._orientations[number] = scan.image_size, scan.orientation
        if not self._headers:
            self._file_digests[number] = np.frombuffer(scan.file_digest, np.uint8)
            self._pixel_digests[number] = np.frombuffer(scan.pixel_digest, np.uint8)


def scan_images(
    paths: Callable[[], Iterable[Path | str]],
    workers: int | None,
    progress: Callable[[int, int], None] | None,
    *,
    headers: bool = False,
    known: Iterable[tuple[str, Size, int]] = (),
) -> Scans:
    """Decodes the images in threads, or reads their headers only; the arguments are those of `check_dataset`.

    paths: gives those of the images, which may repeat, whenever it is called.
    known: path, size and orientation of images whose header has been read before; it is not read again.
    """
    keys = np.unique(keys_of(paths()))
    scans, total = Scans(keys, headers=headers), len(keys)
    for path, size, orientation in known if headers else ():
        scans.put(path, ImageScan(size, orientation))
    done = total - scans.missing
    read = read_pixels if scans.missing < _MANY_IMAGES else _read_fast
    ordered = in_order(scans.without(paths()))
    scan_image = _scan_header if headers else partial(_scan_image, read, _PixelsInWork())
    step = _STEP if headers else 1
    pool = ThreadPoolExecutor(workers or os.cpu_count())
    if progress is not None and done == total:
        progress(total, total)
    try:
        while part := list(islice(ordered, _AT_ONCE)):  # few wait in the pool
            groups = [part[first : first + step] for first in range(0, len(part), step)]
            for group, found in zip(groups, pool.map(partial(_scan_each, scan_image), groups), strict=True):
                for path, scan in zip(group, found, strict=True):
                    scans.put(path, scan)
                done += len(group)
                if progress is not None:
                    progress(done, total)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the remaining images
    return scans


def scan_splits(
    splits: Sequence[SplitAnnotations],
    workers: int | None,
    progress: Callable[[int, int], None] | None,
    *,
    headers: bool,
) -> Scans:
    """Those of all images of the splits."""

    def paths() -> Iterator[str]:
        return (path for split in splits for path in split.images.paths())

    known = (header for split in splits for header in split.images.headers())
    return scan_images(paths, workers, progress, headers=headers, known=known)


def _scan_each(scan_image: Callable[[Path], ImageScan], paths: Sequence[str]) -> list[ImageScan]:
    return [scan_image(Path(path)) for path in paths]


def _scan_header(path: Path) -> ImageScan:
    try:
        return ImageScan(*read_header(path))
    except (ValueError, OSError) as error:
        return ImageScan(error=why_unreadable(path, error))


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


def turn_boxes_upright(split: SplitAnnotations, scans: Scans) -> SplitAnnotations:
    """The split with all boxes in pixels of the upright image; masks stay as they are."""

    def turn(image: ImageAnnotation) -> ImageAnnotation:
        scan, size = scans[image.image_path], image.image_size
        if size is None or not means_stored_pixels(size, scan.image_size, scan.orientation):
            return image
        objects = (replace(obj, box=turn_box(obj.box, size, scan.orientation)) for obj in image.objects)
        return replace(image, objects=tuple(objects))

    return replace(split, images=split.images.changed(turn))


def warn_about_orientation(splits: Sequence[SplitAnnotations], scans: Scans) -> None:
    """Logs how many annotations are those of the stored pixels, and how many leave open whether they are."""
    stored, ambiguous = list[Path](), list[Path]()  # the first of them
    keys = array("q"), array("q")
    for split in splits:
        for image in split.images:
            scan = scans[image.image_path]
            stated_size = None if split.format == "yolo" else image.image_size  # YOLO's is that of the image itself
            if means_stored_pixels(stated_size, scan.image_size, scan.orientation):
                stored += [] if stored else [image.image_path]
                keys[0].append(text_key(image.image_path))
            elif scan.orientation != 1 and (
                stated_size is None or scan.orientation not in SIDEWAYS or stated_size[0] == stated_size[1]
            ):
                ambiguous += [] if ambiguous else [image.image_path]
                keys[1].append(text_key(image.image_path))
    for first, of_images, meaning in (
        (stored, keys[0], "annotated in the pixels as stored, which EXIF turns; boxes and masks are turned with them"),
        (
            ambiguous,
            keys[1],
            "turned by EXIF, with nothing to show whether their annotation is; it is taken as that of the upright one",
        ),
    ):
        if first:
            count = len(set(of_images))
            _LOG.warning("%s: images %s: %d (the first is %s)", splits[0].root, meaning, count, first[0])
