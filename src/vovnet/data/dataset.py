"""What a dataset's files say, and the dataset as training and evaluation see it, whatever its format.

Each format's module reads its files as `SplitAnnotations`, problems included; `formats` makes a `DetectionDataset` of
them, and `check` reports their problems.
"""

from __future__ import annotations

import logging
import math
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import eq
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from vovnet.data.image_columns import ImageColumns
from vovnet.data.keys import Bools, Integers, keys_of

if TYPE_CHECKING:
    from vovnet.structures import Target

_LOG = logging.getLogger("vovnet")

Box = tuple[float, float, float, float]

OnProblem = Callable[[str, Path, str], None]
"""A reader calls it with (kind, file, detail) for an image or object without a usable annotation, and leaves it out."""


def raise_problem(kind: str, path: Path, detail: str) -> None:
    """The `OnProblem` of readers that need a dataset without problems."""
    error = FileNotFoundError if kind in ("missing-image", "missing-annotation") else ValueError
    raise error(f"{path}: {detail}; `vovnet data check` lists all problems and, with --fix, writes a cleaned copy")


def report_mended(found: Sequence[tuple[str, str]], path: Path, on_problem: OnProblem) -> None:
    """Hands on the problems (kind, detail) of a file that its reader has mended: all to the check, else one warning."""
    if on_problem is not raise_problem:
        for kind, detail in found:
            on_problem(kind, path, detail)
    elif found:
        more = f" (and {len(found) - 1} more such problems)" if len(found) > 1 else ""
        _LOG.warning("%s: %s%s: `vovnet data check` says more, --fix mends the file", path, found[0][1], more)


@dataclass(frozen=True, slots=True)
class ObjectAnnotation:
    """One object as annotated.

    index: position in the annotation file: the number of the <object>, of the line, or of the entry of "annotations".
    box: x1 y1 x2 y2 in pixels, 0-based, x2 and y2 exclusive; NaN where the file has no number.
    area: pixels that the object covers, if the annotation states it.
    mask: COCO's segmentation (polygons or a run-length object) exactly as in the file, valid or not; None without one.
    stated: what the file says, where a corner of the box is no number or is impossible; "" elsewhere.
    """

    index: int
    class_name: str
    box: Box
    difficult: bool = False
    crowd: bool = False
    area: float | None = None
    mask: object = field(default=None, repr=False)
    stated: str = ""


@dataclass(frozen=True, slots=True)
class ImageAnnotation:
    """An existing image file and the objects annotated in it.

    annotation_path: the file that describes the image: an XML, JSON or text file, or a mask PNG.
    image_id: the format's own id: COCO's number, else the file's stem.
    image_size: (height, width) that the annotation states, or None if it states none.
    unusable_objects: number of further objects annotated in the image, which the reader reported and left out.
    orientation: the EXIF orientation of the file, if the reader had to open it; `image_size` is the true one then.
    """

    image_path: Path
    annotation_path: Path
    image_id: int | str
    objects: tuple[ObjectAnnotation, ...]
    image_size: tuple[int, int] | None = None
    unusable_objects: int = 0
    orientation: int | None = field(default=None, compare=False, repr=False)


class ImageTable(Sequence[ImageAnnotation]):
    """Annotated images as arrays. An item is made when it is asked for, so the same one is equal, not identical, twice.

    rows: those of `columns` that are the images. Tables that differ in few images share the columns.
    """

    def __init__(self, columns: ImageColumns, rows: Sequence[int] | None = None) -> None:
        self.columns = columns
        self.rows = range(len(columns)) if rows is None else rows

    @classmethod
    def of(cls, images: Iterable[ImageAnnotation]) -> ImageTable:
        """Takes one image after the other, so that no more than one need exist."""
        if isinstance(images, cls):
            return images
        columns = ImageColumns()
        return cls(columns, array("I", [add_image(columns, image) for image in images]))

    @classmethod
    def joined(cls, tables: Sequence[ImageTable]) -> ImageTable:
        """The images of all tables, one table after the other."""
        if all(table.columns is tables[0].columns for table in tables):
            return cls(tables[0].columns, array("I", (row for table in tables for row in table.rows)))
        return cls.of(image for table in tables for image in table)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, position: int) -> ImageAnnotation: ...
    @overload
    def __getitem__(self, position: slice) -> ImageTable: ...
    def __getitem__(self, position: int | slice) -> ImageAnnotation | ImageTable:
        if isinstance(position, slice):
            return ImageTable(self.columns, self.rows[position])
        path, annotation_path, image_id, rows, size, unusable, orientation = self.columns[self.rows[position]]
        objects = tuple([ObjectAnnotation(*row) for row in rows])
        return ImageAnnotation(path, annotation_path, image_id, objects, size, unusable, orientation)

    def __iter__(self) -> Iterator[ImageAnnotation]:
        return (self[position] for position in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "keys"}  # which differ in other processes

    def __repr__(self) -> str:
        return f"<{len(self)} annotated images>"

    def select(self, chosen: Iterable[int | bool] | Integers | Bools) -> ImageTable:
        """The images at these positions, or for which a mask is true."""
        positions = np.asarray(chosen)
        if positions.dtype == np.bool_:
            if positions.all():
                return self
            positions = np.flatnonzero(positions)
        return ImageTable(self.columns, array("I", (self.rows[position] for position in positions.tolist())))

    def changed(self, change: Callable[[ImageAnnotation], ImageAnnotation | None]) -> ImageTable:
        """With each image as `change` gives it, without those for which that is None. It takes room for new ones."""
        rows = array("I")
        for row, image in zip(self.rows, self, strict=True):
            new = change(image)
            if new is not None:
                rows.append(row if new is image else add_image(self.columns, new))
        return self if len(rows) == len(self) and all(map(eq, rows, self.rows)) else ImageTable(self.columns, rows)

    def moved(self, folder: Path, other: Path) -> ImageTable:
        """With all files that are in a folder in another instead."""
        return ImageTable(self.columns.moved(str(folder), str(other)), self.rows)

    def without_masks(self) -> ImageTable:
        return ImageTable(self.columns.without_masks(), self.rows)

    def paths(self) -> Iterator[str]:
        """Those of the image files."""
        return map(self.columns.image_path, self.rows)

    def annotation_paths(self) -> Iterator[str]:
        return map(self.columns.annotation_path, self.rows)

    def headers(self) -> Iterator[tuple[str, tuple[int, int], int]]:
        """Path, size and orientation of each image whose header the reader has read."""
        return filter(None, map(self.columns.header, self.rows))

    def image_ids(self) -> Iterator[int | str]:
        return map(self.columns.image_id, self.rows)

    def object_counts(self) -> Iterator[int]:
        """How many objects each image has, without those that could not be read."""
        return map(self.columns.object_count, self.rows)

    def unusable_counts(self) -> Iterator[int]:
        return map(self.columns.unusable_count, self.rows)

    def class_names(self) -> Iterator[set[str]]:
        """Those of the objects in each image."""
        return map(self.columns.class_names, self.rows)

    @cached_property
    def keys(self) -> Integers:
        """The `text_key` of the path of each image, (N,)."""
        return keys_of(self.paths(), len(self))


def add_image(columns: ImageColumns, image: ImageAnnotation) -> int:
    """The number of the new row."""
    objects = ((o.index, o.class_name, o.box, o.difficult, o.crowd, o.area, o.mask, o.stated) for o in image.objects)
    return columns.add(
        image.image_path, image.annotation_path, image.image_id, objects,
        image.image_size, image.unusable_objects, image.orientation,
    )  # fmt: skip


@dataclass(frozen=True)
class SplitAnnotations:
    """One split of a dataset, problems included; the fields have the meaning that they have in `DetectionDataset`."""

    root: Path
    format: str
    split: str
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    images: ImageTable


def count_images(splits: Sequence[SplitAnnotations]) -> int:
    """How many image files some splits have together."""
    return len(np.unique(np.concatenate([split.images.keys for split in splits])))


@dataclass(frozen=True)
class Tile:
    """The part of an image file that a sample shows.

    window: x1 y1 x2 y2 in pixels of the image.
    image_size: (height, width) of the image.
    hidden: x1 y1 x2 y2 in pixels of the tile, of what training must see neither as object nor as background.
    """

    window: tuple[int, int, int, int]
    image_size: tuple[int, int]
    hidden: tuple[tuple[int, int, int, int], ...] = ()


@dataclass(frozen=True)
class Sample:
    """One image file, read when it is needed, and its objects. The other fields are those of `ImageAnnotation`.

    tile: the part of the file that is the image, to which `target` and `image_size` refer; None for all of it.
    """

    image_path: Path
    image_id: int | str
    target: Target
    image_size: tuple[int, int] | None = None
    tile: Tile | None = None


@dataclass(frozen=True)
class DetectionDataset:
    """One split of a dataset.

    class_names: in label order; `target.labels` index into it.
    category_ids: the format's own ids of these classes: any integers in COCO, 0…K−1 in YOLO, 1…K in the others.
    """

    root: Path
    format: str
    split: str
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    samples: Sequence[Sample]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)


def inside(folder: Path, path: str) -> str:
    """A path in a folder, relative to it, with / on all systems."""
    start = "" if str(folder) == "." else os.path.join(folder, "")
    return path.removeprefix(start).replace(os.sep, "/")


def is_valid_box(box: Box) -> bool:
    """Whether the corners are finite and width and height are positive."""
    x1, y1, x2, y2 = box
    return all(map(math.isfinite, box)) and x2 > x1 and y2 > y1


def box_around_turned(centre: tuple[float, float], size: tuple[float, float], degrees: float) -> Box:
    """The smallest box around a rectangle that is turned clockwise about its centre.

    centre: x y in pixels.
    size: width and height of the rectangle before it is turned.
    """
    (x, y), (width, height) = centre, size
    cosine, sine = (abs(turn(math.radians(degrees))) for turn in (math.cos, math.sin))
    half_width, half_height = (width * cosine + height * sine) / 2, (width * sine + height * cosine) / 2
    return x - half_width, y - half_height, x + half_width, y + half_height


def to_number(text: object) -> float:
    """The number that a file states, or NaN if it states none.

    `float` also takes 1_000 and the digits of all scripts, which no program writes for numbers and others misread.
    """
    if isinstance(text, str) and ("_" in text or not (text.isascii() or text.strip().isascii())):
        return math.nan
    try:
        return float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan


def size_text(size: tuple[int, int]) -> str:
    """A stated (height, width) as width × height; a number that cannot be meant is rounded."""
    height, width = (f"{length:.3g}" if length >= 10**12 else str(length) for length in size)
    return f"{width} × {height}"


def to_image_size(height: object, width: object) -> tuple[int, int] | None:
    """(height, width) as a file states them, or None unless both are positive, finite numbers."""
    numbers = to_number(height), to_number(width)
    return (int(numbers[0]), int(numbers[1])) if all(0 < number < math.inf for number in numbers) else None
