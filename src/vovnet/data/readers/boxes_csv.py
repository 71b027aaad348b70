"""CSV files with a box a line, as Roboflow exports them and as TensorFlow's and keras-retinanet's examples read them.

TensorFlow's have a header with filename, class, xmin, ymin, xmax and ymax in any order. RetinaNet's have no header, but
lines `path,x1,y1,x2,y2,class`, with a file of classes beside them. A line without a class and a box names an image that
shows no object.
"""

from __future__ import annotations

import csv
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vovnet.data.dataset import (
    ImageAnnotation,
    ObjectAnnotation,
    OnProblem,
    SplitAnnotations,
    raise_problem,
    to_image_size,
    to_number,
)
from vovnet.data.image_files import ignore_problem, walk_images
from vovnet.data.keys import text_key
from vovnet.data.readers import coco_copy
from vovnet.data.readers.image_finder import ImageFinder
from vovnet.data.readers.tool_reading import keys_of_all, warn_about_unused
from vovnet.data.readers.unique_ids import with_unique_ids
from vovnet.data.spooled import Texts
from vovnet.limits import limits, too_much
from vovnet.parsing import text_lines
from vovnet.printing import line

COPY_FORMAT = coco_copy.FORMAT
ALL = "all"  # the split of a file that lies in the data folder itself
_NAME, _CLASSES = "_annotations.csv", "_classes.csv"
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_NEEDED = ("filename", *_SIDES, "class")
_RETINANET = ("filename", *_SIDES, "class")  # the order of its columns
_MOST_FILES = 100
_HEAD_BYTES = 2000

Numbers = npt.NDArray[np.int32]


@dataclass(frozen=True)
class _Row:
    """number: of the line, from 1. fault: what is wrong with it as a whole; "" if it has the columns that it should."""

    number: int
    values: dict[str, str]
    fault: str = ""


class _Rows:
    """The rows of a file, of which only the keys of the images are in memory.

    class_names: of all rows.
    """

    def __init__(self, rows: Iterable[_Row] = ()) -> None:
        self.class_names: set[str] = set()
        self._rows, self._keys = Texts(), array("q")
        for row in rows:
            if not row.fault:
                self.class_names.add(row.values["class"].strip())
            self._rows.add(json.dumps([row.number, row.values, row.fault]))
            self._keys.append(text_key(_name(row)))

    def __iter__(self) -> Iterator[_Row]:
        return map(_restore, self._rows)

    def images(self) -> Iterator[tuple[str, Numbers]]:
        """The name of each image, in the order of the first row of each, and the numbers of its rows."""
        keys = np.frombuffer(self._keys, np.int64)
        order = np.argsort(keys, kind="stable").astype(np.int32)
        ordered = keys[order]
        starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(keys)])
        ends = np.append(starts[1:], len(keys))
        for image in np.argsort(order[starts]):
            numbers = order[starts[image] : ends[image]]
            name = _name(self[int(numbers[0])])
            if not name:  # what has no name and no place for one is no image
                numbers = np.array([number for number in numbers if not self[int(number)].fault], np.int32)
            if len(numbers):
                yield name, numbers

    def __getitem__(self, number: int) -> _Row:
        return _restore(self._rows[number])


def _restore(text: str) -> _Row:
    return _Row(*json.loads(text))


def _name(row: _Row) -> str:
    """That of the image; "" if the row states none."""
    return row.values.get("filename", "").strip()


def recognises(root: Path) -> str:
    """The CSV file that shows the format, as a clause; "" without one."""
    path = next(iter(annotation_files(root).values()), None)
    if path is None:
        return ""
    kind = "with TensorFlow's header" if _has_header(path) else f"of RetinaNet, with {_CLASSES}"
    return f"{line(path.relative_to(root).as_posix())} is a CSV file {kind}"


def annotation_files(root: Path) -> dict[str, Path]:
    """Split → its CSV file: Roboflow's in folders, or those in the folder itself (train_labels.csv)."""
    below = [path for path in islice(sorted(root.glob(f"*/{_NAME}")), _MOST_FILES) if _is_annotation(path)]
    own = [path for path in islice(sorted(root.glob("*.csv")), _MOST_FILES) if _is_annotation(path)]
    return {path.parent.name: path for path in below} or {_stem_split(path): path for path in own}


def splits(root: Path) -> tuple[str, ...]:
    return tuple(sorted(annotation_files(root)))


def read(root: Path, names: Sequence[str], on_problem: OnProblem) -> tuple[SplitAnnotations, ...]:
    """The splits of these names. Classes are in the order of RetinaNet's list, or in that of the alphabet."""
    files = annotation_files(root)
    rows: dict[str, _Rows] = {}
    for split, path in files.items():
        try:
            rows[split] = _Rows(_read_rows(path))
        except ValueError as error:
            on_problem("bad-annotation", path, str(error))
            rows[split] = _Rows()
    listed = list(dict.fromkeys(name for path in files.values() for name in _listed_classes(path)))
    used = set().union(*(of_split.class_names for of_split in rows.values())) - {""}
    class_names = tuple(listed or sorted(used))
    ids = tuple(range(1, len(class_names) + 1))

    def read_split(split: str) -> SplitAnnotations:
        images = _read_images(root, split, files[split], rows[split], set(class_names), on_problem)
        return SplitAnnotations(root, "csv", split, class_names, ids, with_unique_ids(root, images))

    found = tuple(map(read_split, names))
    if on_problem is not raise_problem:
        used_images = keys_of_all(split.images for split in found)
        for folder in dict.fromkeys(files[name].parent for name in names):
            in_folder = partial(walk_images, folder, ignore_problem)
            warn_about_unused(folder, in_folder, used_images, "line in a CSV file")
    return found


def write(root: Path, splits: Sequence[SplitAnnotations], out: Path) -> None:
    """COCO's JSON files, one for each split, in place of the CSV files."""
    coco_copy.write(splits, out)


def _stem_split(path: Path) -> str:
    return ALL if path.name == _NAME else path.stem.removesuffix("_annotations").removesuffix("_labels")


def _is_annotation(path: Path) -> bool:
    return _has_header(path) or (path.name == _NAME and (path.parent / _CLASSES).is_file())


def _has_header(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES).decode("utf-8-sig", "replace").partition("\n")[0]
    except OSError:
        return False
    return set(_NEEDED) <= {name.strip().strip('"').lower() for name in head.split(",")}


def _records(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """The lines that are not blank, with their numbers. ValueError for what is no CSV."""
    reader = csv.reader(lines)
    try:
        for values in reader:
            if any(value.strip() for value in values):
                yield reader.line_num, values
    except csv.Error as error:
        raise ValueError(f"is no CSV file (line {reader.line_num}: {error})") from error


def _read_rows(path: Path) -> Iterator[_Row]:
    records = _records(text_lines(path, "json_bytes"))
    columns: Sequence[str] = _RETINANET
    if _has_header(path):
        columns = [name.strip().lower() for name in next(records)[1]]
    for number, values in records:
        fault = ""
        if len(values) != len(columns):
            expected = line(", ".join(columns), 200)
            fault = f"has {len(values)} columns in line {number}, expected {len(columns)}: {expected}"
        yield _Row(number, dict(zip(columns, values, strict=False)), fault)


def _listed_classes(path: Path) -> list[str]:
    """The class names of RetinaNet's file `name,number`, in the order of the numbers."""
    if _has_header(path):
        return []
    classes = path.parent / _CLASSES
    try:
        pairs = [values for _, values in _records(text_lines(classes, "yaml_bytes"))]
        numbered = sorted((to_number(number), name.strip()) for name, number in pairs)
        wrong = next((name for number, name in numbered if not number.is_integer()), None)
        if wrong is not None:
            raise ValueError(f"{line(wrong, 60)} has no whole number")
    except ValueError as error:
        raise ValueError(f"{classes} must have lines `name,number` ({error})") from error
    return [name for _, name in numbered]


def _read_images(
    root: Path, split: str, path: Path, rows: _Rows, class_names: set[str], on_problem: OnProblem
) -> Iterator[ImageAnnotation]:
    for row in rows:
        if row.fault:
            on_problem("bad-annotation", path, row.fault)
    folders = [path.parent, root / "images" / split, root / "images", root / split, root]
    names = (name for name, _ in rows.images())
    finder = ImageFinder([folder for folder in folders if folder.is_dir()], names, path, on_problem)
    seen: set[int] = set()  # keys of images
    for name, numbers in rows.images():
        image_path = finder.find(name)
        if image_path is None:
            continue
        if text_key(image_path) in seen:
            on_problem("listed-twice", path, f"names {line(image_path.name)} in two ways")
        elif len(numbers) > limits().image_objects:
            on_problem("bad-annotation", path, str(too_much("image_objects", line(name))))
        else:
            seen.add(text_key(image_path))
            of_image = [rows[int(number)] for number in numbers]
            yield _read_image(image_path, path, of_image, class_names, on_problem)


def _read_image(
    image_path: Path, path: Path, rows: Sequence[_Row], class_names: set[str], on_problem: OnProblem
) -> ImageAnnotation:
    objects, unusable = [], 0
    for row in rows:
        if row.fault:
            unusable += 1
            continue
        values = row.values
        name, sides = values["class"].strip(), [values[side].strip() for side in _SIDES]
        if not name and not any(sides):  # no object
            continue
        if name not in class_names:
            kind, fault = ("unknown-class", f"has the class {line(name, 40)}, which is not listed")
            kind, fault = (kind, fault) if name else ("bad-annotation", "has no class")
            on_problem(kind, path, f"line {row.number} {fault}")
            unusable += 1
            continue
        x1, y1, x2, y2 = box = (*map(to_number, sides),)
        stated = "" if all(corner == corner for corner in box) else f"line {row.number}: {', '.join(sides)}"
        objects.append(ObjectAnnotation(row.number - 1, name, (x1, y1, x2, y2), stated=line(stated, 200)))
    first = next((row.values for row in rows if not row.fault), {})
    size = to_image_size(first.get("height"), first.get("width"))
    return ImageAnnotation(image_path, path, image_path.stem, tuple(objects), size, unusable)
