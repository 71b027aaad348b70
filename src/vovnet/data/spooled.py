"""Holds what grows with a dataset outside the memory: all but the newest part of it is in a temporary file.

What is short touches no disk. A part that cannot be written, for a full disk or a missing folder, stays in memory.
"""

from __future__ import annotations

import heapq
import os
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from struct import Struct
from typing import IO, Any, overload

PART = 2**15  # bytes that are written at once
PAGE = 2**12  # bytes that are read at once
SORTED_AT_ONCE = 4096  # texts
MOST_FILES = 16  # of a process: the system may allow no more than 256 open ones, and images must be opened too


class _File:
    """A temporary file without a name, to which parts are appended."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (lasts as this does)
        weakref.finalize(self, self._file.close)
        self._lock, self.end = threading.Lock(), 0
        self.process = os.getpid()

    def append(self, part: bytes) -> int:
        """The position of the part."""
        with self._lock:
            written = 0
            while written < len(part):
                self._file.seek(self.end + written)
                written += self._file.write(part[written:])
            self.end += len(part)
            return self.end - len(part)

    def read(self, position: int, count: int) -> bytes:
        if hasattr(os, "pread"):  # needs no position that threads and forked processes would share
            return os.pread(self._file.fileno(), count, position)
        with self._lock:
            self._file.seek(position)
            return self._file.read(count)


_FILES: list[weakref.ref[_File]] = []  # those that are open; a list can be read while another thread adds to it


def _own_file() -> _File:
    """A new file, or the shortest one of this process if it has MOST_FILES."""
    files = [file for reference in _FILES if (file := reference()) is not None]
    own = [file for file in files if file.process == os.getpid()]
    if len(own) >= MOST_FILES:
        return min(own, key=lambda file: file.end)
    made = _File()
    _FILES[:] = map(weakref.ref, (*files, made))
    return made


_Part = bytes | tuple[_File, int]
_Page = tuple[int, bytes | bytearray]  # with its position


class Spool:
    """The temporary file of some columns, which is made when the first of them is full; many spools share files."""

    def __init__(self) -> None:
        self._file: _File | None = None
        self._is_usable = True

    def __reduce__(self) -> tuple[type[Spool], tuple[()]]:
        return Spool, ()  # the columns carry what is in it

    def put(self, part: bytes) -> _Part:
        """Where the part is: in the file, or as it is if it cannot be written."""
        if self._is_usable:
            try:
                if self._file is None or self._file.process != os.getpid():  # a forked process has a file of its own
                    self._file = _own_file()
                return self._file, self._file.append(part)
            except OSError:
                self._is_usable = False
        return part


class SpooledBytes:
    """Bytes one after the other, which can be appended and read but not changed. Threads may read while one appends."""

    def __init__(self, spool: Spool, unit: int = 1) -> None:
        """unit: bytes that are appended and read together: they are never in two pages."""
        self._spool, self._unit = spool, unit
        self._page_bytes = unit * max(1, min(PAGE, PART) // unit)
        self._part_bytes = self._page_bytes * max(1, PART // self._page_bytes)
        self._parts: list[_Part] = []
        # Both are replaced as a whole, so that another thread sees the bytes at their true position.
        self._newest = 0, bytearray()  # their position, the bytes
        self._page: _Page = 0, b""  # that was read last

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self._arguments(), self.read(0, self.end))

    def _arguments(self) -> tuple[Any, ...]:
        return self._spool, self._unit

    @property
    def end(self) -> int:
        start, tail = self._newest
        return start + len(tail)

    def append(self, data: bytes) -> int:
        """The position of the bytes."""
        start, tail = self._newest
        position = start + len(tail)
        tail += data
        if len(tail) >= self._part_bytes:
            self._put_parts()
        return position

    def _put_parts(self) -> None:
        start, tail = self._newest
        count = len(tail) // self._part_bytes
        for first in range(0, count * self._part_bytes, self._part_bytes):
            self._parts.append(self._spool.put(bytes(tail[first : first + self._part_bytes])))
        self._newest = start + count * self._part_bytes, bytearray(tail[count * self._part_bytes :])

    def read(self, start: int, end: int) -> bytes:
        """The bytes between two positions."""
        if start == end:
            return b""
        at, page = self._page
        if not at <= start < at + len(page):
            at, page = self._page_at(start)
        if end - at <= len(page):
            return bytes(page[start - at : end - at])
        pieces = []
        while start < end:
            at, page = self._page_at(start)
            pieces.append(bytes(page[start - at : end - at]))
            start = at + len(page)
        return b"".join(pieces)

    def _page_at(self, position: int) -> _Page:
        """The page that has a position, and its own."""
        at, page = self._page
        if at <= position < at + len(page):
            return at, page
        start, tail = self._newest
        if position >= start:
            if position >= start + len(tail):
                raise IndexError(position)
            return start, tail
        at = position - position % self._page_bytes
        part, offset = divmod(at, self._part_bytes)
        place = self._parts[part]
        if isinstance(place, bytes):
            page = place[offset : offset + self._page_bytes]
        else:
            file, begin = place
            page = file.read(begin + offset, self._page_bytes)
            if len(page) < self._page_bytes:
                raise OSError("a temporary file has become shorter than what was written to it")
        self._page = at, page
        return at, page


def _restore(kind: type[SpooledBytes], arguments: tuple[Any, ...], data: bytes) -> SpooledBytes:
    made = kind(*arguments)
    if data:
        made.append(data)
    return made


class Records(SpooledBytes):
    """Tuples of numbers, packed as the format of `struct` says."""

    def __init__(self, spool: Spool, form: str) -> None:
        self._form, self._struct = form, Struct(form)
        self._pack, self._unpack = self._struct.pack, self._struct.unpack_from
        super().__init__(spool, self._struct.size)

    def _arguments(self) -> tuple[Any, ...]:
        return self._spool, self._form

    def __len__(self) -> int:
        return self.end // self._unit

    def add(self, *values: object) -> int:
        """The number of the new record. struct.error for a value that does not fit."""
        return self.append(self._pack(*values)) // self._unit

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        position = number * self._unit
        at, page = self._page
        if not at <= position < at + len(page):
            at, page = self._page_at(position)
        return self._unpack(page, position - at)

    def between(self, start: int, end: int) -> Iterator[tuple[Any, ...]]:
        return self._struct.iter_unpack(self.read(start * self._unit, end * self._unit))


class Texts(Sequence[str]):
    """Many texts, which can be added and read but not changed."""

    def __init__(self, texts: Iterable[str] = (), spool: Spool | None = None) -> None:
        spool = spool or Spool()
        self._data, self._ends = SpooledBytes(spool), Records(spool, "<Q")
        for text in texts:
            self.add(text)

    def add(self, text: str) -> int:
        """The number of the new text."""
        self._data.append(encode(text))
        return self._ends.add(self._data.end)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> Texts: ...
    def __getitem__(self, number: int | slice) -> str | Texts:
        if isinstance(number, slice):
            return Texts(self[position] for position in range(len(self))[number])
        number = range(len(self))[number]
        start = self._ends[number - 1][0] if number else 0
        return decode(self._data.read(start, self._ends[number][0]))

    def __iter__(self) -> Iterator[str]:
        return (self[number] for number in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} texts>"


def encode(text: str) -> bytes:
    """As UTF-8, also of names of files that are none; the bytes sort as the texts do."""
    return text.encode("utf-8", "surrogatepass")


def decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def in_order(texts: Iterable[str]) -> Iterator[str]:
    """The texts, sorted; only some thousands of them are in memory."""
    remaining, stored, starts = iter(texts), Texts(), [0]
    while part := sorted(islice(remaining, SORTED_AT_ONCE)):
        if len(starts) == 1 and len(part) < SORTED_AT_ONCE:
            return iter(part)
        for text in part:
            stored.add(text)
        starts.append(len(stored))
    return heapq.merge(*(_in_blocks(stored, *ends) for ends in pairwise(starts)))


def _in_blocks(texts: Texts, start: int, end: int) -> Iterator[str]:
    """The texts from a position on, some at a time, as others are read in between."""
    step = max(1, SORTED_AT_ONCE // 128)
    for first in range(start, end, step):
        yield from [texts[number] for number in range(first, min(end, first + step))]
