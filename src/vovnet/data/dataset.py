"""What a dataset's files say, and the dataset as training and evaluation see it, whatever its format.

Each format's module reads its files as `SplitAnnotations`, problems included; `formats` makes a `DetectionDataset` of
them, and `check` reports their problems.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

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
    """

    image_path: Path
    annotation_path: Path
    image_id: int | str
    objects: tuple[ObjectAnnotation, ...]
    image_size: tuple[int, int] | None = None
    unusable_objects: int = 0


@dataclass(frozen=True)
class SplitAnnotations:
    """One split of a dataset, problems included; the fields have the meaning that they have in `DetectionDataset`."""

    root: Path
    format: str
    split: str
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    images: tuple[ImageAnnotation, ...]


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
    samples: tuple[Sample, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)


def with_unique_ids(folder: Path, images: Sequence[ImageAnnotation]) -> tuple[ImageAnnotation, ...]:
    """Images with the same stem get their path in the data folder as id, with the suffix if nothing else differs."""
    paths = {image.image_path: image.image_path.relative_to(folder) for image in images}
    whole = {path.as_posix() for path in paths.values()}
    stems = Counter(image.image_id for image in images)
    bare = Counter(path.with_suffix("").as_posix() for path in paths.values())

    def with_unique_id(image: ImageAnnotation) -> ImageAnnotation:
        path = paths[image.image_path]
        name = path.with_suffix("").as_posix()
        if stems[image.image_id] == 1 and image.image_id not in whole:
            return image
        return replace(image, image_id=name if bare[name] == 1 and name not in whole else path.as_posix())

    return tuple(map(with_unique_id, images))


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
