"""What an annotation file says, before anybody decides what to do about its faults.

Each format's module turns its files into a `RawSplit` and hands each fault it meets to a `Complain`: the readers'
raises, the check's takes a note. So a format is parsed in one place for both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Box = tuple[float, float, float, float]
Complain = Callable[[str, Path, str], None]
"""(kind of fault, file, what is wrong) of something that leaves no record behind."""


@dataclass(frozen=True)
class RawObject:
    """One object as annotated.

    index: its place in the annotation file: which <object>, which line, which entry of "annotations".
    box: x1 y1 x2 y2 in pixels, 0-based, x2 and y2 exclusive; NaN where the file has no number.
    area: pixels that the object covers, where the annotation states it.
    mask: COCO's segmentation (polygons or a run-length object) as it stands in the file, good or bad; None for none.
    """

    index: int
    class_name: str
    box: Box
    difficult: bool = False
    crowd: bool = False
    area: float | None = None
    mask: object = field(default=None, repr=False)


@dataclass(frozen=True)
class RawImage:
    """An image that is there, with what is annotated in it.

    image_size: (height, width) as the annotation states it, or None where it does not.
    """

    image_path: Path
    annotation_path: Path
    image_id: int | str
    objects: tuple[RawObject, ...]
    image_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class RawSplit:
    """One split of a data set, faults included; the fields are those of `DetectionDataset`."""

    root: Path
    format: str
    split: str
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    images: tuple[RawImage, ...]


def raise_complaint(kind: str, path: Path, detail: str) -> None:
    """The readers' `Complain`."""
    error = FileNotFoundError if kind in ("missing-image", "missing-annotation") else ValueError
    raise error(f"{path}: {detail}; `vovnet data check` lists all such faults and writes a cleaned copy")


def is_proper(box: Box) -> bool:
    """Whether a box has finite corners and an inside."""
    x1, y1, x2, y2 = box
    return all(map(math.isfinite, box)) and x2 > x1 and y2 > y1


def to_number(text: object) -> float:
    """The number that a file states, NaN where it states none."""
    try:
        return float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan
