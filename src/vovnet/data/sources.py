"""The images and videos that a user names: expand files, folders, patterns and URLs, and read one image."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from vovnet.data.images import IMAGE_SUFFIXES, read_image
from vovnet.download import check_scheme, download, is_url

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")


def is_video(source: str | Path) -> bool:
    """Whether a file has the suffix of a video."""
    return not is_url(str(source)) and Path(source).suffix.lower() in VIDEO_SUFFIXES


def expand_sources(sources: Iterable[str | Path]) -> list[str]:
    """Files, folders, patterns and URLs → paths of images and videos, and http(s) URLs, in the order given.

    A folder gives all images and videos in and below it, a pattern those that it matches; both sorted by path, without
    hidden files. A file that is named directly is taken whatever its suffix. A source named twice appears twice.

    Raises FileNotFoundError for a path that does not exist and for a folder or pattern without images, ValueError for
    a URL that is not http(s).
    """
    expanded: list[str] = []
    for source in map(str, sources):
        path = Path(source)
        if is_url(source):
            check_scheme(source)
            expanded.append(source)
        elif path.is_dir():
            files = (
                file for file in path.rglob("*") if not any(part[0] == "." for part in file.relative_to(path).parts)
            )
            expanded += _media(files, f"folder {source} holds no image or video; looked in it and below for")
        elif path.exists():
            expanded.append(source)
        elif glob.has_magic(source):
            matches = map(Path, glob.glob(source, recursive=True))
            expanded += _media(matches, f"{source} matches no image or video; looked for")
        else:
            raise FileNotFoundError(f"expected an image, video, folder or pattern, but {source!r} does not exist")
    return expanded


def _media(paths: Iterable[Path], complaint: str) -> list[str]:
    """The images and videos among `paths`, sorted. FileNotFoundError with the `complaint` if there are none."""
    suffixes = IMAGE_SUFFIXES + VIDEO_SUFFIXES
    # A broken link stays in the list, so that reading it reports the error.
    media = sorted(path for path in paths if path.suffix.lower() in suffixes and not path.is_dir())
    if not media:
        raise FileNotFoundError(f"{complaint} {' '.join(suffixes)}")
    return [str(path) for path in media]


def read_source(source: str) -> Tensor:
    """uint8 RGB (3, H, W): the image at a path or http(s) URL. Raises ValueError or OSError that names the source."""
    if not is_url(source):
        return read_image(Path(source))
    content = download(source)
    try:
        return read_image(content)
    except ValueError as error:
        raise ValueError(f"{source} did not send an image that can be read ({error})") from None
