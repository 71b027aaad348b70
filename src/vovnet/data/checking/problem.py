"""What the check of a dataset reports: its problems, and what a cleaned copy lacks because of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# What only decoded pixels show, of some kinds of problems.
DECODED_KINDS = {
    "unreadable-image": "damage behind the header",
    "duplicate-image": "copies in other files",
    "split-leak": "copies in other files",
}
NEEDS_PIXELS = "a cleaned copy is of images that were decoded: check without --headers to write one with --fix"


@dataclass(frozen=True)
class Problem:
    """One problem of a dataset.

    kind: a key of `check.KINDS`.
    split: "" if the problem lies in a file itself, whichever splits use it.
    image: the image or annotation file, relative to the data folder; "" for a problem of a whole split.
    """

    kind: str
    split: str
    image: str
    detail: str


@dataclass(frozen=True)
class Removal:
    """One thing that the cleaned copy lacks.

    what: an image of a split, an object of an image, an entry of an annotation file, or a file of neither.
    kind: the kind of problem it is left out for; "no-object-left" for an image whose objects are all left out;
        "not-copied" for a file.
    split, image: as in `Problem`.
    """

    what: Literal["image", "object", "annotation", "file"]
    kind: str
    split: str
    image: str
    detail: str


def name_in(path: Path, folder: Path) -> str:
    """What a problem calls a file: its path in the data folder, or all of it for a split file elsewhere."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
