"""Which images of a dataset must stay in one split: copies, frames of one video, augmented versions of one image."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from vovnet.data.keys import Integers, are_repeated, keys_of, text_key
from vovnet.data.splits.near_duplicates import Pictures, alike_pairs
from vovnet.errors import UsageError

# Roboflow's versions of an image: street_jpg.rf.0123456789abcdef.jpg
_VERSION = re.compile(r"(.+?)(?:_(?:jpe?g|png|bmp|webp|tiff?))?\.rf\.[0-9A-Za-z]{8,}", re.IGNORECASE)
# Frames: street_mp4-12_jpg, street.mov_000012, street_frame_12, frame_12
_FRAME = re.compile(
    r"(.+[._-](?:mp4|mov|avi|mkv|webm|m4v))[._-]*\d+|(.*?)[._-]*frame[._-]*\d+|(.+?)[._-]f\d{3,}", re.IGNORECASE
)
_NO_KEY = text_key("")  # of what names say nothing of


@dataclass(frozen=True)
class Grouping:
    """Images that stay together.

    groups: the number of each image's group, (N,).
    by_name, alike: numbers of images that are with others for their name, and because they are nearly equal.
    torn: number of pairs of nearly equal images that are in two groups, because their group would be too large.
    """

    groups: npt.NDArray[np.int64]
    by_name: int = 0
    alike: int = 0
    torn: int = 0


def group_images(
    names: Sequence[str], pictures: Pictures | None = None, *, pattern: str | None = None, most: int
) -> Grouping:
    """The groups, numbered in the order of the names.

    names: paths in the data folder.
    pictures: of the images, from `small_pictures`; None to go by names alone.
    pattern: a regular expression; images for which its first group, else the whole match, is the same stay together.
    most: images that are nearly, but not quite, equal, and still make one group. Images that are like each other one
        after the other, as those of a fixed camera, would otherwise be one group together.
    """
    joined = _Joined(len(names))
    keys = _keys_by_pattern(names, pattern) if pattern is not None else _keys_by_name(names)
    keyed = np.flatnonzero((keys != _NO_KEY) & are_repeated(keys))
    first_of: dict[int, int] = {}
    for index in keyed:
        joined.join(first_of.setdefault(int(keys[index]), int(index)), int(index))
    alike: set[int] = set()
    torn = 0
    if pictures is not None:
        pairs, differences = alike_pairs(pictures)
        for (one, other), difference in zip(pairs.tolist(), differences.tolist(), strict=True):
            if joined.join(one, other, most=None if difference == 0 else most):
                alike.update((one, other))
            else:
                torn += 1
    return Grouping(joined.numbers(), len(keyed), len(alike), torn)


def _keys_by_pattern(names: Sequence[str], pattern: str) -> Integers:
    """Of each image a key of what the pattern finds in its name."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"the pattern {pattern!r} is no regular expression ({error})") from None
    if not any(map(compiled.search, names)):
        raise UsageError(f"the pattern {pattern!r} fits no image: it is looked for in paths such as {names[0]}")

    def found(name: str) -> str:
        match = compiled.search(name)
        return (match[1] if compiled.groups else match[0]) or "" if match else ""

    return keys_of(map(found, names), len(names))


def _keys_by_name(names: Sequence[str]) -> Integers:
    """A key of the image or video that each image was made of, where its name says so.

    A name that most images share tells nothing: it is that of a camera or of the dataset.
    """
    keys = keys_of((_source(PurePosixPath(name)) for name in names), len(names))
    shared, counts = np.unique(keys[are_repeated(keys)], return_counts=True)
    keys[np.isin(keys, shared[counts > len(names) / 2])] = _NO_KEY
    return keys


def _source(path: PurePosixPath) -> str:
    version = _VERSION.fullmatch(path.stem)
    stem = version[1] if version else path.stem
    if frame := _FRAME.fullmatch(stem):
        video = next(filter(None, frame.groups()), "")
        return f"video {video}" if video else f"frames in {path.parent.as_posix()}"
    return f"image {stem}" if version else ""


class _Joined:
    """Disjoint sets of the numbers below `count`."""

    def __init__(self, count: int) -> None:
        self._parents, self._sizes = array("I", range(count)), array("I", [1]) * count

    def _find(self, item: int) -> int:
        while self._parents[item] != item:
            self._parents[item] = self._parents[self._parents[item]]
            item = self._parents[item]
        return item

    def join(self, one: int, other: int, most: int | None = None) -> bool:
        """Whether both are in one set, which is made unless it would have more than `most` members."""
        first, second = sorted((self._find(one), self._find(other)))
        if first == second:
            return True
        if most is not None and self._sizes[first] + self._sizes[second] > most:
            return False
        self._parents[second] = first
        self._sizes[first] += self._sizes[second]
        return True

    def numbers(self) -> npt.NDArray[np.int64]:
        roots = np.fromiter(map(self._find, range(len(self._parents))), np.int64, len(self._parents))
        is_root = roots == np.arange(len(roots))
        numbers: Integers = (np.cumsum(is_root) - 1)[roots]  # a root is the first of its set
        return numbers
