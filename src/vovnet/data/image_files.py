"""Finds the images in a dataset's folders, and says which files are not among them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from vovnet.data.dataset import OnProblem, raise_problem
from vovnet.media.finding import may_be_image
from vovnet.media.pixels import IMAGE_SUFFIXES
from vovnet.printing import line

_LOG = logging.getLogger("vovnet")


def is_image_name(path: Path) -> bool:
    """Whether the suffix is that of an image, and the file none of macOS's `._x.jpg`, which hold no pixels."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("._")


def find_images(folder: Path, on_problem: OnProblem, *, below: bool = True) -> list[Path]:
    """The images in a folder, and in the folders below it unless `below` is False, sorted by path.

    Files that may be images but cannot be read as such are reported as skipped files; they do not stop training.
    """
    images: list[Path] = []
    others: list[Path] = []
    paths = folder.rglob("*") if below else folder.iterdir()
    for path in sorted(paths, key=lambda path: path.parts):  # as paths compare, but sooner
        if path.is_file():
            (images if is_image_name(path) else others).append(path)
        elif not path.is_dir():  # opening a pipe would wait for ever; a broken link is an image that cannot be read
            (images if is_image_name(path) and not path.exists() else others).append(path)
    report_skipped(others, on_problem)
    return images


def report_skipped(paths: Iterable[Path], on_problem: OnProblem) -> None:
    """Reports those of the paths, none of them an image that can be read, that may hold an image."""
    skipped = [path for path in paths if may_be_image(path)]
    if skipped and on_problem is raise_problem:
        names = f"{len(skipped)} {'file' if len(skipped) == 1 else 'files'} (the first is {line(skipped[0].name)})"
        _LOG.warning("%s: skipped %s that cannot be read as images", skipped[0].parent, names)
        return
    for path in skipped:
        kind = f"a {line(path.suffix, 20)} file" if path.suffix else "a file without a suffix"
        kind = "a special file, such as a pipe or a device," if path.exists() and not path.is_file() else kind
        on_problem("skipped-file", path, f"{kind} is not read as an image: convert it to JPEG or PNG, or remove it")


def ignore_problem(kind: str, path: Path, detail: str) -> None:
    """The `OnProblem` where problems are reported elsewhere, or do not matter yet."""
