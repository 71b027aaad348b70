"""Reads a JSON file of any size without holding it: it is checked and indexed once, and an entry parsed when asked for.

That is as fast as `json.loads`, which keeps what it makes. ijson, the library for this, takes half as long again, takes
neither NaN nor Infinity, and says in other words what is wrong with a file.
"""

from __future__ import annotations

import io
import json
import operator
import os
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
import numpy.typing as npt

from vovnet.json_window import Window, scanner, skip_space
from vovnet.parsing import naming, read_bounded, regular_file, too_deep

Note = Callable[[dict[str, Any]], Sequence[int]]
"""Gives the numbers of 64 bits that are kept of an entry, as many for each."""


class _Source:
    """The open file. Values in it may be read in any order."""

    def __init__(self, file: BinaryIO, path: Path, *, long_numbers: bool) -> None:
        self._file, self._path, self._scan = file, path, scanner(long_numbers=long_numbers)
        self._number = None if isinstance(file, io.BytesIO) else file.fileno()
        self._modified = self._when_modified()

    def _when_modified(self) -> int:
        """In nanoseconds; 0 for text that is held."""
        return 0 if self._number is None else os.fstat(self._number).st_mtime_ns

    def text(self, start: int, end: int) -> str:
        """What is between two places of the file. ValueError if it has changed."""
        try:
            self._file.seek(start)
            data = self._file.read(end - start)
            text = data.decode()
            modified = self._when_modified()
        except (OSError, UnicodeDecodeError) as error:
            raise self._changed() from error
        if len(data) < end - start or modified != self._modified:
            raise self._changed()
        return text

    def value(self, start: int, end: int) -> Any:
        """The value that begins at a place of the file, and ends before another."""
        text = self.text(start, end)
        try:
            return self._scan(text, 0)[0]
        except (ValueError, RecursionError) as error:
            raise self._fault(error) from error

    def member(self, start: int, end: int) -> tuple[str, Any]:
        """The key that begins at a place of the file, and its value."""
        text = self.text(start, end)
        try:
            key, end = self._scan(text, 0)
            return key, self._scan(text, skip_space(text, text.index(":", end) + 1))[0]
        except (ValueError, RecursionError) as error:
            raise self._fault(error) from error

    def _fault(self, error: Exception) -> ValueError:
        """What parsing fails from that did not when the file was checked. A caller may leave less room for it."""
        return ValueError(f"{self._path} {too_deep()}") if isinstance(error, RecursionError) else self._changed()

    def _changed(self) -> ValueError:
        return ValueError(f"{self._path} cannot be read again, or has changed since it was opened")


class JsonText:
    """A value in a JSON file."""

    def __init__(self, source: _Source, start: int, end: int) -> None:
        self._source, self._start, self._end = source, start, end

    def text(self) -> str:
        """As the file has it."""
        return self._source.text(self._start, self._end)

    def value(self) -> Any:
        return self._source.value(self._start, self._end)


class JsonEntries(Sequence[Any]):
    """The entries of a list in a JSON file. Each is parsed whenever it is asked for.

    are_objects: whether all of them are.
    """

    def __init__(self, source: _Source, starts: array[int], noted: Sequence[array[int]], *, are_objects: bool) -> None:
        """starts: of the entries, and the end of the last one. noted: the numbers that were kept of each."""
        self._source, self._starts, self._noted, self.are_objects = source, starts, list(noted), are_objects

    def take_noted(self, column: int) -> npt.NDArray[np.int64]:
        """One of the numbers that were kept of each entry, (N,). They leave the list, so that they take no room."""
        if not self._noted:
            return np.empty(0, np.int64)
        taken, self._noted[column] = self._noted[column], array("q")
        return np.frombuffer(taken, np.int64)

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, position: int) -> Any: ...
    @overload
    def __getitem__(self, position: slice) -> list[Any]: ...
    def __getitem__(self, position: int | slice) -> Any:
        """ValueError if the file has changed."""
        if isinstance(position, slice):
            return [self[index] for index in range(len(self))[position]]
        index = range(len(self))[position]
        return self._source.value(self._starts[index], self._starts[index + 1])

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(len(self)))


class JsonMembers(Sequence[tuple[str, Any]]):
    """The keys and values of an object in a JSON file. Each is parsed whenever it is asked for."""

    def __init__(self, source: _Source, starts: array[int], keys: array[int]) -> None:
        """starts: of the keys, and the end of the last value. keys: their hashes."""
        self._source, self._starts = source, starts
        self._keys = np.frombuffer(keys, np.int64) if keys else np.empty(0, np.int64)
        self._chosen = np.arange(len(keys), dtype=np.uint32)
        if len(np.unique(self._keys)) < len(keys):  # of a key that is there twice the last value counts
            _, first = np.unique(self._keys, return_index=True)
            _, from_end = np.unique(self._keys[::-1], return_index=True)
            self._chosen = (len(keys) - 1 - from_end[np.argsort(first)]).astype(np.uint32)

    def get(self, key: str) -> Any:
        """The value of a key, or None."""
        places = np.flatnonzero(self._keys == hash(key))
        return self._at(int(places[-1]))[1] if len(places) else None

    def has(self, key: str) -> bool:
        return bool((self._keys == hash(key)).any())

    def __len__(self) -> int:
        return len(self._chosen)

    @overload
    def __getitem__(self, position: int) -> tuple[str, Any]: ...
    @overload
    def __getitem__(self, position: slice) -> list[tuple[str, Any]]: ...
    def __getitem__(self, position: int | slice) -> tuple[str, Any] | list[tuple[str, Any]]:
        """ValueError if the file has changed."""
        if isinstance(position, slice):
            return [self[index] for index in range(len(self))[position]]
        return self._at(int(self._chosen[range(len(self))[position]]))

    def _at(self, index: int) -> tuple[str, Any]:
        return self._source.member(self._starts[index], self._starts[index + 1])

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return map(self.__getitem__, range(len(self)))


Part = JsonEntries | JsonMembers | JsonText
Content = dict[str, Part] | Part


@contextmanager
def open_json(
    path: Path,
    limit: str,
    notes: Mapping[str, Note | None],
    *,
    objects: Collection[str] = (),
    any_encoding: bool = False,
    long_numbers: bool = False,
) -> Iterator[Content]:
    """The content of a file while it is open: an object's values by their keys, a list, or another value.

    ValueError for what `parsing.read_json` does not take either.

    notes: the keys of the lists whose entries will be asked for → what is kept of each entry. The key of a list that
        is the whole file is "".
    objects: the keys of the objects whose members will be asked for, in the same way.
    any_encoding: take UTF-16 and UTF-32 too. The text of such a file is held.
    long_numbers: take whole numbers of any length. A look at each takes long where millions are, as in COCO's files;
        the caller checks those that it uses.
    """
    with ExitStack() as stack:
        with naming(path):
            file = stack.enter_context(regular_file(path, limit))
            if any_encoding:
                file = _in_utf_8(file, path, limit)
            source = _Source(file, path, long_numbers=long_numbers)
            content = _content(source, Window(file, limit, long_numbers=long_numbers), notes, objects)
        yield content


def is_same_json(path: Path, other: Path, limit: str, keys: Sequence[str]) -> bool:
    """Whether two files have the same content. keys: of the lists that may be long."""
    notes = dict.fromkeys(("", *keys))
    with (
        open_json(path, limit, notes, any_encoding=True, long_numbers=True) as one,
        open_json(other, limit, notes, any_encoding=True, long_numbers=True) as two,
    ):
        if isinstance(one, dict) and isinstance(two, dict):
            return one.keys() == two.keys() and all(_is_same(one[key], two[key]) for key in one)
        return not isinstance(one, dict) and not isinstance(two, dict) and _is_same(one, two)


def _is_same(one: Part, other: Part) -> bool:
    if isinstance(one, JsonEntries) and isinstance(other, JsonEntries):
        return len(one) == len(other) and all(map(operator.eq, one, other))
    if isinstance(one, JsonText) and isinstance(other, JsonText):
        return bool(one.value() == other.value())
    return False


def _in_utf_8(file: BinaryIO, path: Path, limit: str) -> BinaryIO:
    encoding = json.detect_encoding(file.read(4))
    file.seek(0)
    if encoding.startswith("utf-8"):
        return file
    try:
        return io.BytesIO(read_bounded(path, limit).decode(encoding).encode())
    except UnicodeDecodeError as error:
        raise ValueError(f"is not {encoding.upper()} text ({error.reason} at byte {error.start})") from error


def _content(source: _Source, window: Window, notes: Mapping[str, Note | None], objects: Collection[str]) -> Content:
    content: Content
    if window.peek() == "{" and "" not in objects:
        content = {key: _part(key, source, window, notes, objects) for key, _ in _keys(window)}
    else:
        content = _part("", source, window, notes, objects)
    if window.peek():
        window.fail("Extra data")
    return content


def _part(
    key: str, source: _Source, window: Window, notes: Mapping[str, Note | None], objects: Collection[str]
) -> Part:
    """The value that begins here."""
    if window.peek() == "[" and key in notes:
        return _entries(source, window, notes[key])
    if window.peek() == "{" and key in objects:
        return _members(source, window)
    return _text(source, window)


def _keys(window: Window) -> Iterator[tuple[str, int]]:
    """Comes to the value of each key of the object that begins here: the key, and its place in the file."""
    for _ in _items(window, "}"):
        if window.peek() != '"':
            window.fail("Expecting property name enclosed in double quotes")
        place = window.byte()
        key = window.value()
        if window.peek() != ":":
            window.fail("Expecting ':' delimiter")
        window.at += 1
        window.peek()
        yield key, place


def _members(source: _Source, window: Window) -> JsonMembers:
    starts, keys = array("Q"), array("q")
    for key, place in _keys(window):
        starts.append(place)
        keys.append(hash(key))
        window.value()
    starts.append(window.byte())
    return JsonMembers(source, starts, keys)


def _items(window: Window, end: str) -> Iterator[None]:
    """Comes to each item of the list or object that begins here, and passes its end."""
    window.at += 1
    if window.peek() != end:
        yield
        while window.peek() == ",":
            window.pass_comma(end)
            yield
        if window.peek() != end:
            window.fail("Expecting ',' delimiter")
    window.at += 1


def _entries(source: _Source, window: Window, note: Note | None) -> JsonEntries:
    starts, are_objects = array("Q"), True
    noted: list[array[int]] = []
    for _ in _items(window, "]"):
        starts.append(window.byte())
        entry = window.value()
        if not isinstance(entry, dict):
            are_objects = False
        elif note is not None and are_objects:
            numbers = note(entry)
            noted = noted or [array("q") for _ in numbers]
            for column, number in zip(noted, numbers, strict=True):
                column.append(number)
    starts.append(window.byte())
    return JsonEntries(source, starts, noted, are_objects=are_objects)


def _text(source: _Source, window: Window) -> JsonText:
    start = window.byte()
    if window.peek() == "[":  # which may be long
        for _ in _items(window, "]"):
            window.value()
    else:
        window.value()
    return JsonText(source, start, window.byte())
