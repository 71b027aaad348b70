"""Numbers in place of texts, to tell many of them apart: 8 bytes each."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sized

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def text_key(text: object) -> int:
    """A number for a path or another text, the same all the while a process runs.

    It has 64 bits: that any two of a million texts share one, and are taken for the same, has a probability of 3e-8.
    """
    return hash(str(text))


def keys_of(texts: Iterable[object], count: int = -1) -> Integers:
    """The `text_key` of each text, (N,). count: their number, if it is known."""
    if count < 0 and isinstance(texts, Sized):
        count = len(texts)
    return np.fromiter(map(text_key, texts), np.int64, count)


def are_repeated(values: Integers) -> Bools:
    """Which of the values occur more than once, (N,)."""
    order = np.argsort(values)
    ordered = values[order]
    same = np.flatnonzero(ordered[1:] == ordered[:-1])
    repeated = np.zeros(len(values), np.bool_)
    repeated[order[same]] = repeated[order[same + 1]] = True
    return repeated


def are_among(values: Integers, others: Integers) -> Bools:
    """Which of the values occur among the others, (N,). It takes less memory than `np.isin`."""
    if not len(others):
        return np.zeros(len(values), np.bool_)
    ordered = np.sort(others)
    places = ordered.searchsorted(values)
    np.minimum(places, len(ordered) - 1, out=places)
    found: Bools = ordered[places] == values
    return found


class KeySet:
    """A set of texts, of which only the keys are kept."""

    def __init__(self, keys: Integers) -> None:
        self._keys = array("q", np.sort(keys).tobytes())

    def __contains__(self, text: object) -> bool:
        return self.place(text_key(text)) is not None

    def place(self, key: int) -> int | None:
        """Where the key is in the order of all keys."""
        place = bisect_left(self._keys, key)
        return place if place < len(self._keys) and self._keys[place] == key else None
