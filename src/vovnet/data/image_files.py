"""Finds the images in a dataset's folders, and says which files are not among them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from vovnet.data.dataset import OnProblem, raise_problem
from vovnet.data.spooled import in_order
from vovnet.media.finding import may_be_image
from vovnet.media.pixels import IMAGE_SUFFIXES
from vovnet.printing import line

_LOG = logging.getLogger("vovnet")
_SUFFIXES = frozenset(IMAGE_SUFFIXES)


def is_image_name(path: Path | str) -> bool:
    """Whether the suffix is that of an image, and the file none of macOS's `._x.jpg`, which hold no pixels."""
    name = os.path.basename(path)
    return os.path.splitext(name)[1].lower() in _SUFFIXES and not name.startswith("._")


def find_images(folder: Path, on_problem: OnProblem, *, below: bool = True) -> list[Path]:
    """The images in a folder, and in the folders below it unless `below` is False, sorted by path.

    Files that may be images but cannot be read as such are reported as skipped files; they do not stop training.
    """
    return [Path(path) for path in walk_images(folder, on_problem, below=below)]


def walk_images(folder: Path, on_problem: OnProblem, *, below: bool = True) -> Iterator[str]:
    """The paths of `find_images`, one after the other, as text: objects of 100,000 paths take 100 MB."""
    others: list[Path] = []
    for path, is_file in walk_files(folder, below=below):
        # Opening a pipe would wait for ever; a broken link is an image that cannot be read.
        if is_image_name(path) and (is_file or not os.path.exists(path)):
            yield path
        elif not is_file or may_be_image(Path(path)):
            others.append(Path(path))
    report_skipped(others, on_problem)


def walk_files(folder: Path, *, below: bool, suffix: str = "") -> Iterator[tuple[str, bool]]:
    """The path of what is no folder, sorted, and whether it is a file. Links to folders are not followed.

    suffix: of the files that are wanted; a folder called so is given too, as what is no file.
    """
    return _walk("" if str(folder) == "." else str(folder), below=below, suffix=suffix)


def _walk(folder: str, *, below: bool, suffix: str) -> Iterator[tuple[str, bool]]:
    odd, folders = set[str](), set[str]()

    def names() -> Iterator[str]:
        with os.scandir(folder or ".") as entries:
            for entry in entries:
                if _answers(entry.is_file):
                    yield entry.name
                elif not _answers(entry.is_dir) or (suffix and entry.name.endswith(suffix)):
                    odd.add(entry.name)
                    yield entry.name
                elif below and not entry.is_symlink():
                    folders.add(entry.name)
                    yield entry.name

    try:
        ordered = in_order(names())
    except (PermissionError, FileNotFoundError):
        return
    for name in ordered:
        path = os.path.join(folder, name)
        if name in folders:
            yield from _walk(path, below=below, suffix=suffix)
        else:
            yield path, name not in odd


def some_files(folder: Path, suffix: str, *, below: bool = False) -> Iterator[Path]:
    """What is called so in a folder, in no order: the folder is read only as far as it is asked for."""
    folders = list[str]()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(suffix):
                    yield Path(folder, entry.name)
                if below and not entry.is_symlink() and _answers(entry.is_dir):
                    folders.append(entry.name)
    except OSError:
        return
    for name in folders:
        yield from some_files(folder / name, suffix, below=True)


def _answers(question: Callable[[], bool]) -> bool:
    """What the system says of a file; False where it cannot, as for a loop of links."""
    try:
        return question()
    except OSError:
        return False


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
