"""Stores what is annotated in many images as records and texts in a temporary file: an image takes no memory."""

from __future__ import annotations

import marshal
import math
import os
from collections.abc import Iterable, Sequence
from copy import copy
from pathlib import Path
from typing import NamedTuple

from vovnet.data.spooled import Records, Spool, SpooledBytes, decode, encode

Corners = tuple[float, float, float, float]
Size = tuple[int, int]

_STEM, _NUMBER, _TEXT, _ELSEWHERE = range(4)  # an id is the stem of the image file, a number, a text, in a dictionary
_NO_SIZE, _OTHER_SIZE = -1, -2  # in place of a height
_LARGEST, _LONGEST = 2**31, 2**32  # of what fits in a record
_PLAIN = 2  # of marshal: floats are exact, and no object refers to another


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


# Of an image: folder, name and its length, the same of the annotation, kind of the id, the id or the position of its
# text, the length of that, height, width, unusable objects, orientation, first object, number of objects.
_RECORD = "<IQIIQIBqIiiqBQI"
_HEIGHT, _WIDTH, _UNUSABLE, _ORIENTATION, _FIRST_OBJECT, _OBJECTS = range(9, 15)
# Of an object: index, class, box, flags, area, position of the mask, its length, that of what is stated.
_OBJECT = "<qI4dBdQII"
_DIFFICULT, _CROWD, _HAS_AREA, _NOT_A_NUMBER, _MASK, _OTHER_MASK = (1 << bit for bit in range(6))


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


class _Names:
    """Stores texts. One that follows itself, as the name of the JSON file of many images does, is stored once."""

    def __init__(self, data: SpooledBytes) -> None:
        self._data = data
        self._last = "", (0, 0)

    def add(self, text: str) -> tuple[int, int]:
        """Position and length."""
        if text != self._last[0]:
            stored = encode(text)
            self._last = text, (self._data.append(stored), len(stored))
        return self._last[1]


class ImageColumns:
    """Rows of images, which can be added and read but not changed."""

    def __init__(self) -> None:
        spool = Spool()
        self._folders = _Numbered()
        self._images, self._texts = Records(spool, _RECORD), SpooledBytes(spool)
        self._names, self._annotation_names = _Names(self._texts), _Names(self._texts)
        # Few images of few datasets have such.
        self._other_ids, self._other_sizes = dict[int, int | str](), dict[int, Size]()
        self._objects = _ObjectColumns(spool)

    def __len__(self) -> int:
        return len(self._images)

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
        row, first_object = len(self._images), len(self._objects)
        for fields in objects:
            self._objects.add(*fields)  # type: ignore[arg-type]
        folder, name = os.path.split(os.fspath(image_path))
        annotation_folder, annotation_name = os.path.split(os.fspath(annotation_path))
        height, width = image_size or (_NO_SIZE, 0)
        if not _NO_SIZE <= height < _LARGEST or not 0 <= width < _LARGEST:
            self._other_sizes[row] = (height, width)
            height, width = _OTHER_SIZE, 0
        return self._images.add(
            self._folders.number(folder),
            *self._names.add(name),
            self._folders.number(annotation_folder),
            *self._annotation_names.add(annotation_name),
            *self._store_id(row, image_id, name),
            height,
            width,
            unusable_objects,
            orientation or 0,
            first_object,
            len(self._objects) - first_object,
        )

    def _store_id(self, row: int, image_id: int | str, name: str) -> tuple[int, int, int]:
        if isinstance(image_id, str):
            if image_id == os.path.splitext(name)[0]:
                return _STEM, 0, 0
            text = encode(image_id)
            return _TEXT, self._texts.append(text), len(text)
        if -(2**63) <= image_id < 2**63:
            return _NUMBER, image_id, 0
        self._other_ids[row] = image_id
        return _ELSEWHERE, 0, 0

    def __getitem__(self, row: int) -> ImageRow:
        image = self._images[row]
        *_, height, width, unusable, orientation, first_object, objects = image
        image_path = self._path(*image[:3])
        return ImageRow(
            Path(image_path),
            Path(self._path(*image[3:6])),
            self._id(row, image_path, *image[6:9]),
            self._objects.between(first_object, first_object + objects),
            (height, width) if height >= 0 else self._other_sizes.get(row),
            unusable,
            orientation or None,
        )

    def _path(self, folder: int, name: int, length: int) -> str:
        return os.path.join(self._folders.texts[folder], decode(self._texts.read(name, name + length)))

    def _id(self, row: int, image_path: str, kind: int, value: int, length: int) -> int | str:
        if kind == _STEM:
            return os.path.splitext(os.path.basename(image_path))[0]
        if kind == _TEXT:
            return decode(self._texts.read(value, value + length))
        return value if kind == _NUMBER else self._other_ids[row]

    def image_path(self, row: int) -> str:
        return self._path(*self._images[row][:3])

    def annotation_path(self, row: int) -> str:
        return self._path(*self._images[row][3:6])

    def image_id(self, row: int) -> int | str:
        image = self._images[row]
        return self._id(row, self._path(*image[:3]), *image[6:9])

    def header(self, row: int) -> tuple[str, Size, int] | None:
        """Path, size and orientation of an image whose orientation is known."""
        image = self._images[row]
        if not image[_ORIENTATION]:
            return None
        return self._path(*image[:3]), (image[_HEIGHT], image[_WIDTH]), image[_ORIENTATION]

    def moved(self, folder: str, other: str) -> ImageColumns:
        """The same rows, stored once, with one folder in place of another in all paths."""
        moved = copy(self)
        moved._folders = self._folders.moved(folder, other)
        return moved

    @property
    def has_masks(self) -> bool:
        return self._objects.has_masks

    def without_masks(self) -> ImageColumns:
        """The same rows, stored once."""
        bare = copy(self)
        bare._objects = self._objects.without_masks()
        return bare

    def object_count(self, row: int) -> int:
        return int(self._images[row][_OBJECTS])

    def unusable_count(self, row: int) -> int:
        return int(self._images[row][_UNUSABLE])

    def class_names(self, row: int) -> set[str]:
        """Those of the image's objects."""
        first, count = self._images[row][_FIRST_OBJECT:]
        return self._objects.class_names(first, first + count)


class _ObjectColumns:
    def __init__(self, spool: Spool) -> None:
        self._classes = _Numbered()
        self._records, self._data = Records(spool, _OBJECT), SpooledBytes(spool)
        self._other_masks: dict[int, object] = {}  # which marshal cannot hold
        self._masked_from = 0  # the objects before have no masks
        self.has_masks = False

    def __len__(self) -> int:
        return len(self._records)

    def without_masks(self) -> _ObjectColumns:
        bare = copy(self)
        bare._masked_from, bare.has_masks, bare._other_masks = len(self), False, {}
        return bare

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
        flags = _DIFFICULT * difficult | _CROWD * crowd
        flags |= _HAS_AREA * (area is not None) | _NOT_A_NUMBER * any(map(math.isnan, box))
        position = mask_length = stated_length = 0
        if mask is not None or stated:
            data = None if mask is None else _marshalled(mask)
            if data is not None:
                flags |= _MASK
            elif mask is not None:
                flags |= _OTHER_MASK
                self._other_masks[len(self)] = mask
            text = encode(stated)
            position = self._data.append((data or b"") + text)
            mask_length, stated_length = len(data or b""), len(text)
            self.has_masks = self.has_masks or mask is not None
        self._records.add(
            index,
            self._classes.number(class_name),
            *box,
            flags,
            0.0 if area is None else area,
            position,
            mask_length,
            stated_length,
        )

    def between(self, start: int, end: int) -> list[ObjectRow]:
        return [self._row(start + n, *fields) for n, fields in enumerate(self._records.between(start, end))]

    def _row(
        self,
        number: int,
        index: int,
        label: int,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        flags: int,
        area: float,
        position: int,
        mask_length: int,
        stated_length: int,
    ) -> ObjectRow:
        if flags & _NOT_A_NUMBER:  # one NaN, so that a box is equal to itself
            x1, y1, x2, y2 = (math.nan if math.isnan(corner) else corner for corner in (x1, y1, x2, y2))
        mask: object = None
        if flags & (_MASK | _OTHER_MASK) and number >= self._masked_from:
            data = self._data.read(position, position + mask_length)
            mask = marshal.loads(data) if flags & _MASK else self._other_masks[number]
        start = position + mask_length
        return ObjectRow(
            index,
            self._classes.texts[label],
            (x1, y1, x2, y2),
            bool(flags & _DIFFICULT),
            bool(flags & _CROWD),
            area if flags & _HAS_AREA else None,
            mask,
            decode(self._data.read(start, start + stated_length)) if stated_length else "",
        )

    def class_names(self, start: int, end: int) -> set[str]:
        return {self._classes.texts[record[1]] for record in self._records.between(start, end)}


def _marshalled(mask: object) -> bytes | None:
    """The mask as bytes, from which one that is equal can be made; None if there are none."""
    try:
        data = marshal.dumps(mask, _PLAIN)  # type: ignore[arg-type]
        made = marshal.loads(data)  # numbers and arrays of NumPy come back as bytes
        return data if len(data) < _LONGEST and type(made) is type(mask) and made == mask else None
    except (ValueError, EOFError, TypeError, RecursionError):
        return None
