"""The decoded images of a dataset in one file, which all loader processes and later runs map into memory.

The file is written once, completely or not at all. Its folder and its name say what it holds: a hash of the paths of
the images, and one of their sizes, their times and the versions of the decoders. Whatever is wrong with it, it is
written anew, and where there is no room for it, training decodes the images as it does without.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
import os
import shutil
import sys
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vovnet.data.batches.loaders import load_batches
from vovnet.data.batches.worker_count import usable_cores
from vovnet.data.dataset import DetectionDataset
from vovnet.data.images import read_image
from vovnet.files import LEFTOVERS, replacing
from vovnet.media.pixels import image_header_size
from vovnet.printing import line

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_FORMAT = "1"
_MAGIC = b"vovnet images\n"
_END = 8 + 4 + len(_MAGIC)  # bytes: length and checksum of the index, then the magic
_MOST_INDEX_BYTES = 2**30
_RESERVE = 2**30  # bytes that stay free on the disk
_TOGETHER = 16  # images that a loader process decodes before it reports
_GIB = 2**30
_LOG = logging.getLogger("vovnet")


class _Index(NamedTuple):
    """What the end of the file says: (height, width) and checksum of each image."""

    sizes: list[tuple[int, int]]
    checksums: list[int]


@dataclass(frozen=True)
class CachedImages:
    """The decoded images of a dataset, in its order.

    offsets: of N images and of the end of the last, in bytes of the file.
    """

    path: Path
    sizes: Sequence[tuple[int, int]]
    offsets: npt.NDArray[np.int64]

    def __getitem__(self, index: int) -> Tensor:
        """uint8 RGB (3, H, W), read from the disk when it is used. The memory layout is (H, W, 3)."""
        pixels = _mapped(self.path)[self.offsets[index] : self.offsets[index + 1]]
        return torch.from_numpy(pixels).view(*self.sizes[index], 3).permute(2, 0, 1)


@lru_cache(maxsize=8)
def _mapped(path: Path) -> npt.NDArray[np.uint8]:
    """The bytes of a file. To write to them changes nothing in the file."""
    return np.memmap(path, np.uint8, mode="c")


def open_cache(dataset: DetectionDataset, folder: Path, *, workers: int) -> CachedImages | None:
    """The decoded images of a dataset; None, with a warning, where they do not fit.

    Other processes that want them wait for the one that writes them, and check them all at once. ValueError for an
    image that cannot be decoded.
    """
    paths = [sample.image_path for sample in dataset]
    try:
        path = folder / _digest(str(path.absolute()) for path in paths) / f"{_digest(_state_of(paths))}.images"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(".lock")
        while True:
            with _waiting(lock, alone=False):
                state, cached = _state_of_file(path), _read(path, len(paths))
            if cached is not None:
                return cached
            with _waiting(lock, alone=True):
                if _state_of_file(path) == state:  # else another process has written it in the meantime
                    _clear(path.parent)
                    return _write(path, paths, workers)
    except OSError as error:
        _LOG.warning("images are not cached: %s", line(str(error), 400))
        return None


def _write(path: Path, paths: Sequence[Path], workers: int) -> CachedImages | None:
    sizes = [image_header_size(image) for image in paths]
    offsets = _offsets(sizes)
    needed, free = int(offsets[-1]), shutil.disk_usage(path.parent).free
    if needed + _RESERVE > free:
        _LOG.warning(
            "images are not cached: decoded they take %.1f GiB, and %s has %.1f GiB free; data.cache=FOLDER names "
            "another place",
            needed / _GIB, line(str(path.parent), 150), free / _GIB,
        )  # fmt: skip
        return None
    sentence = f"decodes {len(paths):,} images once, {needed / _GIB:.1f} GiB, into {line(str(path), 200)}"
    print(sentence, file=sys.stderr, flush=True)
    with replacing(path) as temporary:
        temporary.touch()
        os.truncate(temporary, needed)
        images = _Decoded(paths, sizes, offsets, temporary)
        picks = [list(range(start, min(start + _TOGETHER, len(paths)))) for start in range(0, len(paths), _TOGETHER)]
        checksums = list[int]()
        batches = load_batches(images, picks, workers=workers, collate=list, name_of=lambda key: paths[key].name)
        with closing(batches):
            for checksum, problem in itertools.chain.from_iterable(batches):
                if problem is not None:
                    raise OSError(*problem)
                checksums.append(checksum)
        index = json.dumps({"sizes": sizes, "checksums": checksums}).encode()
        with temporary.open("r+b") as file:
            file.seek(needed)
            file.write(index + len(index).to_bytes(8, "little") + zlib.crc32(index).to_bytes(4, "little") + _MAGIC)
    _mapped.cache_clear()
    return CachedImages(path, sizes, offsets)


@dataclass(frozen=True)
class _Decoded(Dataset[tuple[int, tuple[int, str] | None]]):
    """Writes image `index` to its place in a file; gives its checksum, or what the disk said."""

    paths: Sequence[Path]
    sizes: Sequence[tuple[int, int]]
    offsets: npt.NDArray[np.int64]
    target: Path

    def __getitem__(self, index: int) -> tuple[int, tuple[int, str] | None]:
        image = read_image(self.paths[index])
        if tuple(image.shape[-2:]) != tuple(self.sizes[index]):
            raise ValueError(f"{self.paths[index]} has changed while it was read: start again")
        pixels = image.permute(1, 2, 0).contiguous().numpy().data.cast("B")
        try:
            with self.target.open("r+b", buffering=0) as file:
                file.seek(int(self.offsets[index]))
                rest = pixels
                while rest:
                    rest = rest[file.write(rest) :]
        except OSError as error:
            return 0, (error.errno or 0, str(error.strerror))
        return zlib.crc32(pixels), None


def _state_of_file(path: Path) -> tuple[int, int, int] | None:
    """Differs for a file that was written anew; None without a file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _read(path: Path, count: int) -> CachedImages | None:
    """The images in a file; None if there is none, or with a warning if it is damaged."""
    if not path.exists():
        return None
    try:
        index = _read_index(path, count)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        index = None
    if index is not None:
        _mapped.cache_clear()
        pixels, offsets, checksums = _mapped(path), _offsets(index.sizes), index.checksums

        def is_sound(number: int) -> bool:
            return zlib.crc32(pixels[offsets[number] : offsets[number + 1]].data) == checksums[number]

        with ThreadPoolExecutor(usable_cores()) as pool:  # also brings the file into memory, as far as there is room
            if all(pool.map(is_sound, range(count))):
                return CachedImages(path, index.sizes, offsets)
    _LOG.warning("the cached images in %s are damaged: they are decoded again", line(str(path), 200))
    return None


def _read_index(path: Path, count: int) -> _Index:
    """What `_write` wrote at the end of the file. One of several errors if that is not what stands there."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END))
        end = file.read(_END)
        length = int.from_bytes(end[:8], "little")
        if end[12:] != _MAGIC or length > min(_MOST_INDEX_BYTES, size - _END):
            raise ValueError("no cache of images")
        file.seek(size - _END - length)
        text = file.read(length)
    if zlib.crc32(text) != int.from_bytes(end[8:12], "little"):
        raise ValueError("a damaged index")
    content: Any = json.loads(text)
    index = _Index([(int(h), int(w)) for h, w in content["sizes"]], [int(value) for value in content["checksums"]])
    sides = [side for pair in index.sizes for side in pair]
    if not len(index.sizes) == len(index.checksums) == count or min(sides, default=1) < 1:
        raise ValueError("not these images")
    if _offsets(index.sizes)[-1] != size - _END - length:
        raise ValueError("not all of the images")
    return index


def _offsets(sizes: Sequence[tuple[int, int]]) -> npt.NDArray[np.int64]:
    return np.cumsum([0, *(3 * math.prod(size) for size in sizes)], dtype=np.int64)


def _state_of(paths: Sequence[Path]) -> Iterator[str]:
    """What a decoded image depends on."""
    yield _FORMAT
    for package in ("pillow", "torchvision"):
        with suppress(metadata.PackageNotFoundError):
            yield f"{package} {metadata.version(package)}"
    for path in paths:
        status = path.stat()
        yield f"{status.st_size} {status.st_mtime_ns}"


def _digest(texts: Iterator[str]) -> str:
    hashed = hashlib.sha256()
    for text in texts:
        hashed.update(text.encode(errors="surrogatepass") + b"\n")
    return hashed.hexdigest()[:24]


def _clear(folder: Path) -> None:
    """Removes older states of the same images, which whoever reads them keeps to the end, and what was not finished."""
    for pattern in ("*.images", LEFTOVERS):
        for path in folder.glob(pattern):
            with suppress(OSError):
                path.unlink()


@contextmanager
def _waiting(path: Path, *, alone: bool) -> Iterator[None]:
    """Waits until no other process is in such a block, or none that is `alone`.

    Where a file system has no locks, two may write: each its own.
    """
    with path.open("a+b") as file:
        if fcntl is not None:
            with suppress(OSError):
                fcntl.lockf(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
