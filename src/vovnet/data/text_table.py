"""Texts by texts, as a dictionary has them, for so many that a dictionary would take much memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from vovnet.data.keys import KeySet, keys_of, text_key
from vovnet.data.spooled import Spool, Texts


class TextTable(Mapping[str, str]):
    """A dictionary that takes 12 bytes an entry, whatever the length of its texts. It does not change."""

    def __init__(self, entries: Iterable[tuple[str, str]] = ()) -> None:
        """entries: keys, each of them once, and values."""
        spool = Spool()
        self._keys, self._values = Texts(spool=spool), Texts(spool=spool)
        for key, value in entries:
            self._keys.add(key)
            self._values.add(value)
        keys = keys_of(self._keys)
        self._set = KeySet(keys)
        self._positions = array("I", np.argsort(keys, kind="stable").astype(np.uint32).tobytes())

    def __reduce__(self) -> tuple[type[TextTable], tuple[list[tuple[str, str]]]]:
        return TextTable, (list(self.items()),)  # the keys of texts are other ones in another process

    def position(self, key: str) -> int | None:
        """The number of the entry."""
        place = self._set.place(text_key(key))
        return None if place is None else self._positions[place]

    def key_at(self, position: int) -> str:
        return self._keys[position]

    def value_at(self, position: int) -> str:
        return self._values[position]

    def __getitem__(self, key: str) -> str:
        position = self.position(key)
        if position is None:
            raise KeyError(key)
        return self._values[position]

    def __contains__(self, key: object) -> bool:
        return key in self._set

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)
