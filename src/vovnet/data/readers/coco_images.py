"""The images that a COCO file lists, and which of them an annotation means, without an object for each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vovnet.data.dataset import ImageAnnotation, ImageTable, to_image_size
from vovnet.data.keys import Bools, Integers, are_repeated, text_key
from vovnet.data.readers.coco_fields import to_id, to_number_id
from vovnet.data.readers.image_finder import ImageFinder
from vovnet.data.readers.ordered_problems import OrderedProblems
from vovnet.json_entries import JsonEntries
from vovnet.printing import line, quoted

Id = int | str
Size = tuple[int, int]
Numbers = npt.NDArray[np.int32]
Mended = list[tuple[str, str]]  # kinds of problem and details

LEFT_OUT = -1  # in place of an image: none is listed so, or it was left out
NO_FILE = -2  # the image is listed, and its file is missing
_NONE = -(2**63)  # in place of a key
_BLOCK = 2**16  # keys that are looked up at a time


def id_key(value: object) -> int:
    """A number for the id that a file states; one of its own for all that can be none."""
    stated = to_id(value)
    return _NONE if stated is None else stated if isinstance(stated, int) else text_key(stated)


@dataclass(frozen=True)
class ListedImages:
    """The images of a split without their objects, in the order of the file."""

    table: ImageTable
    _keys: Integers  # of all ids that entries state, sorted
    _owners: Numbers  # the number of the image that each of them means
    _numbers: Integers  # that these ids are, sorted
    _owners_by_number: Numbers

    def owners(self, keys: Integers, annotations: JsonEntries) -> Numbers:
        """The number of the image that each annotation belongs to, LEFT_OUT or NO_FILE, (N,).

        An annotation may state a number where the image's entry has text.

        keys: the `id_key` of the image of each annotation.
        """
        owners, is_known = _look_up(keys, self._keys, self._owners)
        for position in np.flatnonzero(~is_known).tolist():
            number = to_number_id(annotations[position].get("image_id"))
            if number is not None:
                owners[position] = _look_up(np.array([number]), self._numbers, self._owners_by_number)[0][0]
        return owners


def _look_up(wanted: Integers, keys: Integers, values: Numbers) -> tuple[Numbers, Bools]:
    """The value of each of the wanted keys, LEFT_OUT for those that are none; and which are. keys: sorted."""
    found, is_known = np.full(len(wanted), LEFT_OUT, np.int32), np.zeros(len(wanted), bool)
    for start in range(0, len(wanted) if len(keys) else 0, _BLOCK):
        part = slice(start, start + _BLOCK)
        places = np.searchsorted(keys, wanted[part])
        places[places == len(keys)] = 0
        is_known[part] = keys[places] == wanted[part]
        found[part] = np.where(is_known[part], values[places], LEFT_OUT)
    return found, is_known


def read_images(entries: JsonEntries, finder: ImageFinder, mended: Mended, problems: OrderedProblems) -> ListedImages:
    """Adds the problems that it mends to `mended`. The finder must report to `problems`."""
    listing = _Listing(entries, finder, problems)
    listing.settle(mended)
    return listing.result()


class _Listing:
    """What the entries state, in the order of the file.

    keys, numbers: the `id_key` of each entry, and the number that its id is.
    owners: the position of the entry whose image an entry means: its own, or that of another for the same file, or
        LEFT_OUT.
    has_id: whether the id is that of an image: not if another entry before it has the same.
    sizes: of images for which another entry states one, by their ids.
    """

    def __init__(self, entries: JsonEntries, finder: ImageFinder, problems: OrderedProblems) -> None:
        self.entries, self.finder, self.problems = entries, finder, problems
        self.owners, self.has_id = np.arange(len(entries), dtype=np.int32), np.ones(len(entries), bool)
        self.sizes: dict[Id, Size] = {}
        self.keys, self.numbers, self._paths = (np.full(len(entries), _NONE) for _ in range(3))
        self.table = ImageTable.of(self._images())
        self.has_file = self._paths != _NONE
        self._rows = _numbered(self.has_file)

    def _images(self) -> Iterator[ImageAnnotation]:
        """Those that have an id and a file."""
        for position, entry in enumerate(self.entries):
            self.problems.position = position
            image_id, image_path = to_id(entry.get("id")), self.finder.find(entry.get("file_name"))
            if image_id is None:
                continue
            number = to_number_id(image_id)
            self.keys[position] = id_key(image_id)
            self.numbers[position] = _NONE if number is None else number
            if image_path is not None:
                self._paths[position] = _path_key(image_path)
                size = to_image_size(entry.get("height"), entry.get("width"))
                yield ImageAnnotation(image_path, self.finder.path, image_id, (), size)

    def settle(self, mended: Mended) -> None:
        """Decides about the entries without an id, and those that have the id, its number or the file of another."""
        unsettled = self.keys == _NONE
        for keys in (self.keys, self.numbers, self._paths):
            unsettled |= are_repeated(keys) & (keys != _NONE)
        first: dict[Id, int] = {}  # id → position of its first entry
        by_number: dict[int, Id] = {}  # the number that an id is → that id
        by_path: dict[int, list[int]] = defaultdict(list)  # positions of the images
        for position in np.flatnonzero(unsettled).tolist():
            entry = self.entries[position]
            image_id, self.problems.position = to_id(entry.get("id")), position
            if image_id is None or first.setdefault(image_id, position) != position:
                self.has_id[position], self.owners[position] = False, LEFT_OUT
                fault = ", which is no id" if image_id is None else " of an image before it"
                name = quoted(entry.get("file_name"))
                self._report(f"the image {name} has the id {quoted(entry.get('id'))}{fault}")
                continue
            number = to_number_id(image_id)
            same_number = image_id if number is None else by_number.setdefault(number, image_id)
            if not self.has_file[position]:
                continue
            image_path = self._image_path(position)
            alike = by_path[self._paths[position]]
            twin = next((other for other in alike if _is_same_file(self._image_path(other), image_path)), None)
            if twin is not None:
                self.owners[position] = self._join(twin, position, mended)
            elif type(same_number) is not type(image_id):
                ids = f"{quoted(same_number)} and {quoted(image_id)}"
                self._report(f"two images have the ids {ids}, which are the same number")
                self.owners[position] = LEFT_OUT
            else:
                alike.append(position)

    def _join(self, twin: int, position: int, mended: Mended) -> int:
        """The owner of an entry for the file of an image before it."""
        image, other = (self.table[int(self._rows[place])] for place in (twin, position))
        size = self.sizes.get(image.image_id, image.image_size)
        ids, name = f"{quoted(image.image_id)} and {quoted(other.image_id)}", line(image.image_path.name)
        if size and other.image_size and size != other.image_size:
            self._report(f"lists {line(other.image_path.name)} twice with two sizes, as images {ids}")
            return LEFT_OUT
        if size is None and other.image_size is not None:
            self.sizes[image.image_id] = other.image_size
        mended.append(("same-file", f"images {ids} are the same file {name}"))
        return twin

    def _report(self, detail: str) -> None:
        self.problems.add("listed-twice", self.finder.path, detail)

    def _image_path(self, position: int) -> Path:
        return self.table[int(self._rows[position])].image_path

    def result(self) -> ListedImages:
        is_image = self.has_file & (self.owners == np.arange(len(self.owners)))
        del self._paths
        numbers = np.where(is_image, _numbered(is_image), np.int32(NO_FILE))
        owners = np.where(self.owners == LEFT_OUT, np.int32(LEFT_OUT), numbers[self.owners])
        table = self.table if is_image.all() else self.table.select(is_image[self.has_file])
        if self.sizes:
            table = table.changed(self._with_size)
        keys, first = np.unique(self.keys[self.has_id], return_index=True)
        owners = owners[self.has_id]
        if np.array_equal(self.keys, self.numbers):
            return ListedImages(table, keys, owners[first], keys, owners[first])
        by_number, first_of_number = np.unique(self.numbers[self.has_id], return_index=True)
        return ListedImages(table, keys, owners[first], by_number, owners[first_of_number])

    def _with_size(self, image: ImageAnnotation) -> ImageAnnotation:
        size = self.sizes.get(image.image_id)
        return image if size is None else replace(image, image_size=size)


def _numbered(chosen: Bools) -> Numbers:
    """The number of each of the chosen, from 0, (N,)."""
    return np.cumsum(chosen, dtype=np.int32) - np.int32(1)


def _path_key(path: Path) -> int:
    """The same for names that differ in upper and lower case only."""
    return text_key(str(path).lower())


def _is_same_file(path: Path, other: Path) -> bool:
    """The same name, or one that differs in upper and lower case only where the file system does not care."""
    return path == other or path.samefile(other)
