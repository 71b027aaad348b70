"""Finds images that show nearly the same: copies in another size or quality, and neighbouring frames of a video.

Each image becomes a picture of 16 × 16 grey pixels. Two images are alike if these differ little for the contrast that
they have. Which pairs to compare is found by bits of the signs of differences between neighbouring cells: only images
that share 16 of these bits in one of seven places are compared. A mirrored or turned copy is not alike.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from vovnet.media.image_opening import open_image
from vovnet.media.orientation import turn_array
from vovnet.media.pixels import Pixels, decode_image, exif_orientation, explained_damage

SIDE = 16  # pixels of the small pictures
_DRAFT = 64  # pixels of the longer side that a JPEG is decoded with at least
_CELLS = 8  # in a row or column of the picture that the bits compare
_MARGIN = 2.0  # grey levels; a smaller difference is noise
_BAND = 16  # bits
_RELATIVE, _LEAST = 0.2, 1.5  # the largest difference of alike images: a share of their contrast, and in grey levels
_MOST_AT_ONCE = 2000  # images of one bucket that are compared with each other
_NEAREST = 8  # images of a bucket that one is said to be alike: more say nothing more about groups

Pictures = npt.NDArray[np.uint8]  # (N, SIDE * SIDE)


def small_pictures(
    paths: Sequence[Path | str], workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> tuple[Pictures, npt.NDArray[np.bool_]]:
    """The pictures of the images, and which images could be read. Few images are in memory at a time."""
    pictures = np.zeros((len(paths), SIDE * SIDE), np.uint8)
    readable = np.zeros(len(paths), bool)
    threads = workers or os.cpu_count() or 1
    pool = ThreadPoolExecutor(threads)
    try:
        for start in range(0, len(paths), 256):  # so that few results wait
            part = paths[start : start + 256]
            for index, picture in enumerate(pool.map(_small_picture, part), start):
                if picture is not None:
                    pictures[index], readable[index] = picture.reshape(-1), True
            if progress is not None:
                progress(start + len(part), len(paths))
    finally:
        pool.shutdown(cancel_futures=True)
    return pictures, readable


def _small_picture(path: Path | str) -> Pixels | None:
    """The upright image as grey pixels (SIDE, SIDE); None if it cannot be read."""
    try:
        with open_image(Path(path)) as (image, _), explained_damage(str(path)):
            if image.mode not in ("RGB", "L"):
                grey = Image.fromarray(decode_image(image, str(path))).convert("L")
                return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX))
            orientation = exif_orientation(image)
            image.draft("L", (_DRAFT, _DRAFT))
            grey = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
            return turn_array(np.asarray(grey), orientation if image.format != "TIFF" else 1)
    except (ValueError, OSError):
        return None


def alike_pairs(pictures: Pictures) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Pairs (P, 2) of the positions of alike images, the most alike first, and their differences in grey levels, (P,).

    Of many images that are all alike only some pairs are given, but enough to join them.
    """
    if len(pictures) < 2:
        return np.empty((0, 2), np.int64), np.empty(0, np.float32)
    distinct, first, same = np.unique(pictures, axis=0, return_index=True, return_inverse=True)
    same = same.reshape(-1)
    equal = np.stack([first[same], np.arange(len(pictures))], axis=1)
    found = [equal[equal[:, 0] != equal[:, 1]]]
    differences = [np.zeros(len(found[0]), np.float32)]
    values = distinct.astype(np.float32)
    contrasts = values.std(axis=1)
    for bucket in _buckets(_bits(values)):
        pairs, pair_differences = _compare(values[bucket], contrasts[bucket])
        found.append(first[bucket[pairs]].reshape(-1, 2))
        differences.append(pair_differences)
    joined = np.sort(np.concatenate(found), axis=1)
    all_differences = np.concatenate(differences)
    pairs, position = np.unique(joined, axis=0, return_index=True)
    order = np.argsort(all_differences[position], kind="stable")
    return pairs[order], all_differences[position][order]


def _bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """(N, 7): of each picture the bits of its differences, 16 at a time."""
    share = SIDE // _CELLS
    cells = values.reshape(-1, _CELLS, share, _CELLS, share).mean(axis=(2, 4))
    right = cells[:, :, 1:] - cells[:, :, :-1] > _MARGIN
    down = cells[:, 1:, :] - cells[:, :-1, :] > _MARGIN
    bits = np.concatenate([right.reshape(len(cells), -1), down.reshape(len(cells), -1)], axis=1)
    packed: npt.NDArray[np.uint16] = np.packbits(bits.reshape(len(cells), -1, _BAND), axis=2).view(np.uint16)[:, :, 0]
    return packed


def _buckets(bits: npt.NDArray[np.uint16]) -> Iterator[npt.NDArray[np.int64]]:
    """Positions of pictures that share 16 bits in one place, at most so many at once, those with more in common."""
    for band in range(bits.shape[1]):
        others = [bits[:, other] for other in range(bits.shape[1]) if other != band]
        order = np.lexsort((*others, bits[:, band]))
        edges = np.flatnonzero(np.diff(bits[order, band])) + 1
        for bucket in np.split(order, edges):
            for start in range(0, len(bucket) - 1, _MOST_AT_ONCE):
                yield bucket[start : start + _MOST_AT_ONCE]


def _compare(
    values: npt.NDArray[np.float32], contrasts: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The alike pairs among a few pictures, each with its nearest ones, and their differences."""
    squares = (values**2).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * (values @ values.T)
    differences = np.sqrt(np.maximum(distances, 0) / values.shape[1])
    limits = np.maximum(_RELATIVE * np.minimum(contrasts[:, None], contrasts[None, :]), _LEAST)
    differences[differences > limits] = np.inf
    np.fill_diagonal(differences, np.inf)
    count = min(_NEAREST, len(values) - 1)
    nearest = np.argpartition(differences, count - 1, axis=1)[:, :count]
    own = np.repeat(np.arange(len(values)), count)
    pairs = np.stack([own, nearest.reshape(-1)], axis=1)
    found = differences[pairs[:, 0], pairs[:, 1]]
    return pairs[np.isfinite(found)], found[np.isfinite(found)].astype(np.float32)
