"""Which of Pascal VOC's annotations are in a split, by their numbers: of 100,000, names take much memory.

The annotations with an XML file come first, in the order of `find_xml_files`, then images that have none.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import compress, islice
from pathlib import Path

import numpy as np

from vovnet.data.dataset import ImageAnnotation, OnProblem
from vovnet.data.keys import KeySet, are_repeated, keys_of
from vovnet.data.readers.voc_layout import Layout, Part, stem_of
from vovnet.data.readers.voc_lists import NameFinder, find_lists, is_for_one_class, read_list
from vovnet.data.text_table import TextTable
from vovnet.errors import counted
from vovnet.printing import line as shorten

_LOG = logging.getLogger("vovnet")
ALL = "all"  # the split of every annotation file


def find_xml_files(layout: Layout) -> tuple[TextTable, list[int]]:
    """Name → XML file, and for each part of the layout where its files end."""
    ends: list[int] = []
    count = 0

    def entries() -> Iterator[tuple[str, str]]:
        nonlocal count
        for part in layout.parts:
            for entry in part.xml_files():
                count += 1
                yield entry
            ends.append(count)

    return TextTable(entries()), ends


class Negatives:
    """Images that a list names although they have no XML file: they show no object."""

    def __init__(self, part: Part, tables: Sequence[TextTable], xml_files: TextTable) -> None:
        self._part, self._tables, self._xml_files = part, tables, xml_files
        self._lists: list[Path] = []

    @cached_property
    def _images(self) -> TextTable:
        """Name → image without an XML file of that name. The name is the path in its folder."""
        return TextTable(() if self._part.prefix else self._entries())

    def _entries(self) -> Iterator[tuple[str, str]]:
        for number, table in enumerate(self._tables):
            paths = len(np.unique(keys_of(table.values(), len(table))))  # then the table has their stems
            for name, path in islice(table.items(), paths):
                if name not in self._xml_files and not any(name in earlier for earlier in self._tables[:number]):
                    yield name, path

    @cached_property
    def _finder(self) -> NameFinder:
        return NameFinder(self._images)

    @cached_property
    def _list_of(self) -> array[int]:
        """For each image the number of a list that names it, or −1."""
        return array("i", [-1]) * len(self._images)

    @property
    def count(self) -> int:
        """How many images may have been found."""
        return len(self._images) if self._lists else 0

    def find(self, line: str, *, flagged: bool) -> str | None:
        """The name of the image that a line of a list means."""
        return self._finder.find(line, flagged=flagged)

    def add(self, name: str, path: Path) -> int:
        """Takes the image of a name that the list `path` has; its number."""
        position = self._images.position(name)
        assert position is not None, "find gave the name"
        self._lists += [] if self._lists[-1:] == [path] else [path]
        self._list_of[position] = len(self._lists) - 1
        return len(self._xml_files) + position

    def found(self) -> Iterator[tuple[int, str, Path, ImageAnnotation]]:
        """The number, name, list and annotation of each image that was taken."""
        if not self._lists:
            return
        stems = KeySet(keys_of(map(stem_of, self._xml_files), len(self._xml_files)))
        for position, list_number in enumerate(self._list_of):
            if list_number >= 0:
                name, path = self._images.key_at(position), self._images.value_at(position)
                image_id = name if (stem := stem_of(name)) in stems else stem
                image = ImageAnnotation(Path(path), self._part.annotations / f"{name}.xml", image_id, ())
                yield len(self._xml_files) + position, name, self._lists[list_number], image


def find_members(
    layout: Layout, split: str, xml_files: TextTable, negatives: Negatives, on_problem: OnProblem
) -> Sequence[int]:
    """Numbers of the annotations of a split."""
    path = layout.lists / f"{split}.txt"
    if path.is_file():
        return _read_names(path, xml_files, negatives, on_problem)
    if split == ALL:
        return range(len(xml_files))
    return array("I", (number for number, name in enumerate(xml_files) if name.startswith(f"{split}/")))


def repeated_stems(names: Mapping[str, str]) -> set[str]:
    """What several annotations in different folders are called."""
    if not any("/" in name for name in names):
        return set()
    return set(map(stem_of, compress(names, are_repeated(keys_of(map(stem_of, names), len(names))))))


def _read_names(path: Path, xml_files: TextTable, negatives: Negatives, on_problem: OnProblem) -> array[int]:
    """The numbers of the annotations in a list, and of images without one."""
    numbers = array("I")
    try:
        lines = read_list(path)
    except ValueError as error:
        on_problem("bad-annotation", path, str(error))
        return numbers
    finder = NameFinder(xml_files)
    flagged = is_flagged(path)
    is_listed, bare, first_bare = bytearray(len(xml_files)), 0, ""
    for line in lines:
        name = finder.find(line, flagged=flagged)
        number = None if name is None else xml_files.position(name)
        if name is None or (name != line and {"/", "\\"} & set(line)):  # night/a may be an image, not the annotation a
            negative = negatives.find(line, flagged=flagged) or ""
            if len(negative) > len(name or ""):
                name, number = negative, negatives.add(negative, path)
                is_listed.extend(bytes(max(0, number + 1 - len(is_listed))))
        if name is None or number is None:
            stated = shorten(line)
            on_problem("missing-annotation", path, f"lists {stated}, but there is no Annotations/{stated}.xml")
        elif is_listed[number]:
            on_problem("listed-twice", path, f"lists {shorten(name)} twice")
        else:
            is_listed[number] = True
            numbers.append(number)
            if number >= len(xml_files):
                bare, first_bare = bare + 1, first_bare or name
    if bare:
        which = f"{counted(bare, 'image')} without an XML file (the first is {shorten(first_bare)})"
        _LOG.warning("%s lists %s, which therefore shows no object", path, which)
    return numbers


def is_flagged(path: Path) -> bool:
    """Whether flags follow the names of a list."""
    return is_for_one_class(path.stem, find_lists(path.parent))
