"""Stores what is annotated in many images as arrays: 80 bytes an image and 50 an object, beside the names of files."""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Iterable, Sequence
from copy import copy
from pathlib import Path
from typing import NamedTuple

Corners = tuple[float, float, float, float]
Size = tuple[int, int]

_STEM, _ELSEWHERE = -(2**63), -(2**63) + 1  # in place of an id: it is the stem of the image file, or in a dictionary
_NO_SIZE, _OTHER_SIZE = -1, -2  # in place of a height
_LARGEST = 2**31  # of what fits in a column


class ObjectRow(NamedTuple):
    """The fields of an annotated object, in the order of `ObjectAnnotation`."""

    position: int
    class_name: str
    box: Corners
    difficult: bool
    crowd: bool
    area: float | None
    mask: object
    stated: str


class ImageRow(NamedTuple):
    """The fields of an annotated image, in the order of `ImageAnnotation`."""

    image_path: Path
    annotation_path: Path
    image_id: int | str
    objects: list[ObjectRow]
    image_size: Size | None
    unusable_objects: int
    orientation: int | None


class _Texts:
    """Many short texts one after the other, each with a number."""

    def __init__(self) -> None:
        self._data, self._ends = bytearray(), array("Q", [0])

    def add(self, text: str) -> int:
        self._data += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._data))
        return len(self._ends) - 2

    def __getitem__(self, number: int) -> str:
        return self._data[self._ends[number] : self._ends[number + 1]].decode("utf-8", "surrogatepass")


class _Numbered:
    """Texts of which few differ, each with a number."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        found = self._numbers.get(text)
        if found is None:
            found = self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return found

    def moved(self, folder: str, other: str) -> _Numbered:
        """The same numbers for texts in which one folder stands in place of another."""
        start = "" if folder == "." else folder

        def move(text: str) -> str:
            is_inside = not os.path.isabs(text) if start == "" else text == start or text.startswith(start + os.sep)
            rest = text.removeprefix(start).lstrip(os.sep) if is_inside else ""
            return ("" if str(Path(other, rest)) == "." else str(Path(other, rest))) if is_inside else text

        moved = _Numbered()
        moved.texts = list(map(move, self.texts))
        moved._numbers = {text: number for number, text in enumerate(moved.texts)}
        return moved


class _Files:
    """A column of paths. A name that follows itself, as that of the JSON file of many images does, is stored once."""

    def __init__(self, folders: _Numbered, names: _Texts) -> None:
        self.folders, self._names = folders, names
        self._of_folder, self._of_name = array("I"), array("I")

    def add(self, path: str) -> str:
        """Adds a path; its last part."""
        folder, name = os.path.split(path)
        self._of_folder.append(self.folders.number(folder))
        repeats = self._of_name and self._names[self._of_name[-1]] == name
        self._of_name.append(self._of_name[-1] if repeats else self._names.add(name))
        return name

    def name(self, row: int) -> str:
        return self._names[self._of_name[row]]

    def text(self, row: int) -> str:
        return os.path.join(self.folders.texts[self._of_folder[row]], self.name(row))


class ImageColumns:
    """Rows of images, which can be added and read but not changed."""

    def __init__(self) -> None:
        folders, names = _Numbered(), _Texts()
        self.image_paths, self.annotation_paths = _Files(folders, names), _Files(folders, names)
        self._ids, self._other_ids = array("q"), dict[int, int | str]()
        self._heights, self._widths, self._other_sizes = array("i"), array("i"), dict[int, Size]()
        self._orientations = bytearray()
        self._unusable: dict[int, int] = {}
        self._ends = array("Q", [0])  # of the objects of each image
        self._objects = _ObjectColumns()

    def __len__(self) -> int:
        return len(self._ids)

    def add(
        self,
        image_path: str | Path,
        annotation_path: str | Path,
        image_id: int | str,
        objects: Iterable[Sequence[object]],
        image_size: Size | None = None,
        unusable_objects: int = 0,
        orientation: int | None = None,
    ) -> int:
        """The number of the new row. The objects have the fields of `ObjectRow`."""
        row = len(self._ids)
        name = self.image_paths.add(os.fspath(image_path))
        self.annotation_paths.add(os.fspath(annotation_path))
        if image_id == os.path.splitext(name)[0]:
            self._ids.append(_STEM)
        elif isinstance(image_id, int) and _ELSEWHERE < image_id < 2**63:
            self._ids.append(image_id)
        else:
            self._ids.append(_ELSEWHERE)
            self._other_ids[row] = image_id
        height, width = image_size or (_NO_SIZE, 0)
        if not _NO_SIZE <= height < _LARGEST or not 0 <= width < _LARGEST:
            self._other_sizes[row] = (height, width)
            height, width = _OTHER_SIZE, 0
        self._heights.append(height)
        self._widths.append(width)
        self._orientations.append(orientation or 0)
        if unusable_objects:
            self._unusable[row] = unusable_objects
        for fields in objects:
            self._objects.add(*fields)  # type: ignore[arg-type]
        self._ends.append(len(self._objects))
        return row

    def __getitem__(self, row: int) -> ImageRow:
        height = self._heights[row]
        size = (height, self._widths[row]) if height >= 0 else self._other_sizes.get(row)
        return ImageRow(
            Path(self.image_paths.text(row)),
            Path(self.annotation_paths.text(row)),
            self.image_id(row),
            [self._objects[number] for number in range(self._ends[row], self._ends[row + 1])],
            size,
            self._unusable.get(row, 0),
            self._orientations[row] or None,
        )

    def image_id(self, row: int) -> int | str:
        stored = self._ids[row]
        if stored == _STEM:
            return os.path.splitext(self.image_paths.name(row))[0]
        return self._other_ids[row] if stored == _ELSEWHERE else stored

    def header(self, row: int) -> tuple[str, Size, int] | None:
        """Path, size and orientation of an image whose orientation is known."""
        orientation, height = self._orientations[row], self._heights[row]
        return (self.image_paths.text(row), (height, self._widths[row]), orientation) if orientation else None

    def moved(self, folder: str, other: str) -> ImageColumns:
        """The same rows, in the same memory, with one folder in place of another in all paths."""
        moved, folders = copy(self), self.image_paths.folders.moved(folder, other)
        moved.image_paths, moved.annotation_paths = copy(self.image_paths), copy(self.annotation_paths)
        moved.image_paths.folders = moved.annotation_paths.folders = folders
        return moved

    @property
    def has_masks(self) -> bool:
        return bool(self._objects.masks)

    def without_masks(self) -> ImageColumns:
        """The same rows, in the same memory."""
        bare = copy(self)
        bare._objects = copy(self._objects)
        bare._objects.masks = {}
        return bare

    def object_count(self, row: int) -> int:
        return self._ends[row + 1] - self._ends[row]

    def unusable_count(self, row: int) -> int:
        return self._unusable.get(row, 0)

    def class_names(self, row: int) -> set[str]:
        """Those of the image's objects."""
        return self._objects.class_names(self._ends[row], self._ends[row + 1])


class _ObjectColumns:
    def __init__(self) -> None:
        self._classes = _Numbered()
        self._indices, self._labels, self._boxes = array("q"), array("I"), array("d")
        self._flags, self._areas = bytearray(), array("d")
        # Most objects of most datasets have none of these.
        self.masks: dict[int, object] = {}
        self._stated: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._indices)

    def add(
        self,
        index: int,
        class_name: str,
        box: Corners,
        difficult: bool,
        crowd: bool,
        area: float | None,
        mask: object,
        stated: str,
    ) -> None:
        number = len(self._indices)
        self._indices.append(index)
        self._labels.append(self._classes.number(class_name))
        self._boxes.extend(box)
        self._flags.append(difficult + 2 * crowd + 4 * (area is not None) + 8 * any(map(math.isnan, box)))
        self._areas.append(0.0 if area is None else area)
        if mask is not None:
            self.masks[number] = mask
        if stated:
            self._stated[number] = stated

    def __getitem__(self, number: int) -> ObjectRow:
        flags = self._flags[number]
        x1, y1, x2, y2 = self._boxes[4 * number : 4 * number + 4]
        if flags & 8:  # one NaN, so that a box is equal to itself
            x1, y1, x2, y2 = (math.nan if math.isnan(corner) else corner for corner in (x1, y1, x2, y2))
        return ObjectRow(
            self._indices[number],
            self._classes.texts[self._labels[number]],
            (x1, y1, x2, y2),
            bool(flags & 1),
            bool(flags & 2),
            self._areas[number] if flags & 4 else None,
            self.masks.get(number),
            self._stated.get(number, ""),
        )

    def class_names(self, start: int, end: int) -> set[str]:
        return {self._classes.texts[label] for label in set(self._labels[start:end])}
