"""The problems that a dataset can have, and how readers report them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Kind of problem → what it is, what the cleaned copy does about it.
KINDS: dict[str, tuple[str, str]] = {
    "unreadable-image": ("a file is not an image, or is damaged or truncated", "image left out"),
    "missing-image": ("an annotation or list names an image that does not exist", "annotation left out"),
    "missing-annotation": ("a list names an image that has no annotation file", "image left out"),
    "annotation-without-image": ("the image of an annotation is not listed or does not exist", "annotation left out"),
    "bad-annotation": ("an annotation is malformed", "annotation left out"),
    "listed-twice": ("a split lists the same image twice", "the first is kept"),
    "size-mismatch": ("the annotation states a different image size", "true size written"),
    "unknown-class": ("the class of an object is not among the class names", "object left out"),
    "not-a-number": ("a corner of a box is missing or not a finite number", "object left out"),
    "inverted-box": ("a box ends before it begins", "object left out"),
    "empty-box": ("a box has no width or no height", "object left out"),
    "box-outside": ("less than a pixel of a box's width or height is inside the image", "object left out"),
    "box-partly-outside": ("a box extends beyond the edge of the image", "box clipped"),
    "missing-mask": ("an object has no mask, although most objects of its split have one", "object left out"),
    "bad-mask": ("a mask is malformed", "object left out"),
    "mask-size": ("a mask and its image differ in size", "object left out; the image, if the mask is a PNG"),
    "empty-mask": ("a mask covers no pixel", "object left out"),
    "mask-elsewhere": ("a mask does not overlap the box of its object", "object left out"),
    "mask-box-mismatch": ("the box of an object does not fit its mask", "box of the mask written"),
    "duplicate-box": ("two objects have the same class and box, and the same mask if any", "the first is kept"),
    "duplicate-image": ("two images of a split have the same pixels", "the first is kept"),
    "split-leak": ("two splits contain an image with the same pixels", "kept in the test split only, else in val"),
}

OnProblem = Callable[[str, Path, str], None]
"""Called with (kind, file, detail) for a problem that leaves an image or object without a usable annotation."""


@dataclass(frozen=True)
class Problem:
    """One problem of a dataset.

    kind: a key of KINDS.
    split: "" if the problem lies in a file itself, whichever splits use it.
    image: the image or annotation file, relative to the data folder.
    """

    kind: str
    split: str
    image: str
    detail: str


def raise_problem(kind: str, path: Path, detail: str) -> None:
    """The `OnProblem` of readers that need a dataset without problems."""
    error = FileNotFoundError if kind in ("missing-image", "missing-annotation") else ValueError
    raise error(f"{path}: {detail}; `vovnet data check` lists all problems and, with --fix, writes a cleaned copy")
