"""YOLO's label files: where they are, and what a line of them means."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from vovnet.data.dataset import Box, to_number
from vovnet.data.image_files import is_image_name
from vovnet.limits import limits, too_much
from vovnet.parsing import read_lines

_MAX_FILES_SEARCHED = 200_000


@dataclass(frozen=True)
class Line:
    """One object as a label file has it.

    class_text: the first column.
    box: x1 y1 x2 y2 in fractions of the image, NaN where the file has no number.
    rest: the columns of keypoints.
    points: x1 y1 x2 y2 x3 y3 … of a polygon, in fractions of the image.
    """

    class_text: str
    box: Box
    rest: tuple[str, ...] = ()
    points: tuple[float, ...] = ()

    def label(self, class_count: int) -> int | None:
        """The index of the class; None if there is no such class."""
        number = to_number(self.class_text)
        return int(number) if number.is_integer() and 0 <= number < class_count else None


def read_label_lines(path: Path) -> list[str]:
    """The lines of a label file. ValueError, without the path, if it cannot be read or has too many."""
    lines = read_lines(path)
    if len(lines) > limits().image_objects and sum(bool(line.strip()) for line in lines) > limits().image_objects:
        raise too_much("image_objects")
    return lines


def parse_line(line: str, keypoints: int | None) -> Line:
    """class cx cy w h; with the columns of keypoints; or class x1 y1 x2 y2 x3 y3 … of a polygon or a turned box.

    A polygon gives the box around it. ValueError for any other number of columns: a sixth one may be a score, and
    nothing says what further ones mean.
    """
    class_text, *columns = line.split()
    numbers = [to_number(column) for column in columns]
    if len(columns) == 4 or len(columns) == 4 + (keypoints or 0):
        cx, cy, width, height = numbers[:4]
        box = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
        return Line(class_text, box, tuple(columns[4:]))
    if keypoints is None and len(columns) >= 6 and len(columns) % 2 == 0:
        if any(map(math.isnan, numbers)):
            return Line(class_text, (math.nan,) * 4)
        xs, ys = numbers[0::2], numbers[1::2]
        return Line(class_text, (min(xs), min(ys), max(xs), max(ys)), points=tuple(numbers))
    other = "7, 9, 11, … (class x1 y1 x2 y2 x3 y3 …)" if keypoints is None else f"{5 + keypoints} (box and keypoints)"
    count = f"{1 + len(columns)} {'columns' if columns else 'column'}"
    raise ValueError(f"has {count}, expected 5 (class cx cy w h) or {other}")


def find_labels(folder: Path, images: Sequence[str]) -> tuple[Callable[[str], Path], bool]:
    """What gives the label file of an image, which need not exist; and whether any of the images has one.

    It is …/labels/…/x.txt for …/images/…/x.jpg. If none of the images has one there, they are beside the images.
    """

    def in_labels(image: str) -> Path:
        return _in_labels(folder, Path(image))

    def beside(image: str) -> Path:
        return _with_text_suffix(Path(image))

    for of_image in (in_labels, beside):
        if any(of_image(image).exists() for image in images):
            return of_image, True
    return in_labels, False


def has_labels(folder: Path) -> bool:
    """Whether any image in a folder has a label file; it stops at the first."""
    images = (path for path in folder.rglob("*") if is_image_name(path))
    return any(_in_labels(folder, image).is_file() or _with_text_suffix(image).is_file() for image in images)


def _in_labels(folder: Path, image: Path) -> Path:
    return _with_text_suffix(swap_folder(folder, image, "images", "labels"))


def swap_folder(folder: Path, path: Path, old: str, new: str) -> Path:
    """The path with the last folder called `old` renamed, if there is one below the data folder."""
    before, found, after = f"/{path.relative_to(folder).as_posix()}".rpartition(f"/{old}/")
    return folder / f"{before}/{new}/{after}"[1:] if found else path


def _with_text_suffix(path: Path) -> Path:
    usual = path.with_suffix(".txt")
    if usual.exists():
        return usual
    upper = path.with_suffix(".TXT")
    return upper if upper.exists() else usual


def explain_missing_labels(folder: Path, images: Sequence[Path], expected: Path) -> str:
    """Where labels were looked for, and which folder holds files that look like them.

    expected: where the label file of the first image should be.
    """
    looked = f"looked for {expected.relative_to(folder).as_posix()} and beside the image"
    stems = {image.stem for image in images}
    found = list(islice(folder.rglob("*"), _MAX_FILES_SEARCHED))
    of_others = {_in_labels(folder, path) for path in found if is_image_name(path)}
    files = [path for path in found if path.suffix.lower() in (".txt", ".xml") and path not in of_others]
    named_alike = _fullest_folder(path for path in files if path.stem in stems)
    if named_alike is not None:
        where = named_alike.relative_to(folder).as_posix()
        kind = "XML" if any(path.parent == named_alike and path.suffix.lower() == ".xml" for path in files) else "text"
        remedy = (
            "those are labels in VOC's format: move them to Annotations/"
            if kind == "XML"
            else f"move its files to {expected.parent.relative_to(folder).as_posix()}/"
        )
        return f"{looked}; {where}/ has {kind} files of the images' names: {remedy}"
    in_place = [path for path in files if path.parent == expected.parent and path.suffix.lower() == ".txt"]
    if in_place:
        where = expected.parent.relative_to(folder).as_posix()
        return f"{looked}; {where}/ has {in_place[0].name}, but a label file must have the name of its image"
    return f"{looked}; if the images show no object, give them empty label files"


def _fullest_folder(paths: Iterable[Path]) -> Path | None:
    counts = Counter(path.parent for path in paths)
    return max(counts, key=lambda folder: (counts[folder], str(folder)), default=None)
