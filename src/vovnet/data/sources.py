"""Expand what a user names on the command line to image files, video files and URLs."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from vovnet.data.images import IMAGE_SUFFIXES
from vovnet.download import check_scheme, is_url

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")


def is_video(source: str | Path) -> bool:
    """Whether the name of a file ends like a video's."""
    return not is_url(str(source)) and Path(source).suffix.lower() in VIDEO_SUFFIXES


def expand_sources(inputs: Iterable[str | Path]) -> list[str]:
    """Files, folders, globs and addresses → paths of images and videos, and http(s) addresses, in the order given.

    A folder gives all images and videos in and below it, a glob those that it matches; both sorted by path, hidden
    files left out. A file named directly is taken whatever its suffix. A source named twice comes twice.

    Raises FileNotFoundError for a path or glob that leads to nothing, ValueError for an address that is not http(s).
    """
    sources: list[str] = []
    for given in map(str, inputs):
        path = Path(given)
        if is_url(given):
            check_scheme(given)
            sources.append(given)
        elif path.is_dir():
            below = (
                file for file in path.rglob("*") if not any(part[0] == "." for part in file.relative_to(path).parts)
            )
            sources += _media(below, f"folder {given} holds no image or video; looked in it and below for")
        elif path.exists():
            sources.append(given)
        elif glob.has_magic(given):
            matches = map(Path, glob.glob(given, recursive=True))
            sources += _media(matches, f"{given} matches no image or video; looked for")
        else:
            raise FileNotFoundError(f"expected an image, video, folder or pattern, but {given!r} does not exist")
    return sources


def _media(paths: Iterable[Path], complaint: str) -> list[str]:
    suffixes = IMAGE_SUFFIXES + VIDEO_SUFFIXES
    # A broken link is no folder: it stays in the list, so that the reader reports it.
    found = sorted(path for path in paths if path.suffix.lower() in suffixes and not path.is_dir())
    if not found:
        raise FileNotFoundError(f"{complaint} {' '.join(suffixes)}")
    return [str(path) for path in found]
