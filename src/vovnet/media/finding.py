"""The images and videos that a user names: files, folders, patterns and URLs."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from vovnet.errors import nearest_beside
from vovnet.files import is_below
from vovnet.media.pixels import IMAGE_SUFFIXES
from vovnet.media.results import Failure
from vovnet.urls import check_url, is_url, shown_url, without_user

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".mts")
STREAM_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "udp", "tcp", "mms")
NOT_YET = (
    "cameras and streams are not read yet; record a video, as with `ffmpeg -i SOURCE -t 60 clip.mp4`, and name that"
)
DRAWN, DETECTION_FILES = "drawn", ("detections.json", "detections.csv")  # what `vovnet predict` writes
FIGURE, PAGE = "figure.jpg", "comparison.html"  # and `vovnet compare`
# Files that are expected beside images. Any other file may be an image in a format that cannot be read, such as HEIC.
_NOT_IMAGES = frozenset((
    ".txt", ".xml", ".json", ".jsonl", ".csv", ".tsv", ".md", ".rst", ".html", ".pdf", ".yaml", ".yml", ".toml", ".cfg",
    ".names", ".labels", ".data", ".cache", ".log", ".ini", ".db", ".py", ".sh", ".npy", ".npz", ".pt", ".pth", ".pkl",
    ".zip", ".tar", ".gz",
))  # fmt: skip
_NOTES = ("readme", "licen", "copying", "notice", "thumbs.db", "desktop.ini")
_LOG = logging.getLogger("vovnet")


def is_video(source: str | Path) -> bool:
    """Whether a file has the suffix of a video."""
    return not is_url(str(source)) and Path(source).suffix.lower() in VIDEO_SUFFIXES


def find_sources(
    sources: Iterable[str | Path], *, output: Path | None = None, hint: Callable[[str], str] = lambda name: ""
) -> list[str | Failure]:
    """Files, folders, patterns and URLs → paths of images and videos, and http(s) URLs, in the order given.

    A folder gives all images and videos in and below it, a pattern those that it matches; both sorted by path, without
    hidden files and without the results of `vovnet predict` and `vovnet compare`. A file that is named directly is
    taken whatever its suffix. A source named twice appears twice. A `Failure` takes the place of what cannot be found.

    That is a path that does not exist, a folder that cannot be read, a folder or pattern without images, a URL that is
    not http(s), a camera or a stream.

    output: the folder that results are written to, which is never a source.
    hint: what to say further of a name that does not exist.
    """
    found: list[str | Failure] = []
    for source in map(str, sources):
        try:
            found += _find(source, output, hint)
        except (OSError, ValueError) as error:
            found.append(Failure(without_user(source) if is_url(source) else source, error))
    return found


def _find(source: str, output: Path | None, hint: Callable[[str], str]) -> list[str | Failure]:
    path = Path(source)
    if not source.strip():
        raise ValueError("a source is empty, as that of an unset variable: name a file, folder, pattern or URL")
    is_stream = source.partition("://")[0].lower() in STREAM_SCHEMES
    if is_url(source) and not is_stream:  # before it is looked for as a file, for which it may be too long
        check_url(source)
        return [source]
    if is_stream or source.startswith("/dev/video") or path.is_char_device():
        shown = shown_url(source) if is_url(source) else source
        raise ValueError(f"{shown} is a camera or a stream: {NOT_YET}")
    if path.is_dir():
        files, unreadable = _walk(path)
        _warn_of_skipped(files, path)
        complaint = f"folder {source} holds no image or video; looked in it and below for"
        return [*unreadable, *_media(files, path, output, None if unreadable else complaint)]
    if path.exists():
        if output is not None and is_below(path, output / DRAWN):
            raise ValueError(f"{source} is a result in the output folder: copy it elsewhere or choose another output")
        return [source]
    if glob.has_magic(source):
        fixed = takewhile(lambda part: not glob.has_magic(part), path.parts)
        matches = map(Path, glob.glob(source, recursive=True))
        return [*_media(matches, Path(*fixed), output, f"{source} matches no image or video; looked for")]
    if source.isdecimal():
        raise ValueError(f"{source} is no file, and if it is the number of a camera: {NOT_YET}")
    near = hint(source) or nearest_beside(Path(source))
    raise FileNotFoundError(f"expected an image, video, folder or pattern, but {source!r} does not exist{near}")


def _walk(folder: Path) -> tuple[list[Path], list[Failure]]:
    """The files in and below a folder that are not hidden, and the folders that cannot be read."""
    files: list[Path] = []
    unreadable: list[Failure] = []

    def fail(error: OSError) -> None:
        reason = f"folder {error.filename} cannot be read ({error.strerror}): allow it with chmod, or leave it out"
        unreadable.append(Failure(str(error.filename), OSError(reason)))

    for parent, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if name[0] != "."]
        files += [Path(parent, name) for name in names if name[0] != "."]
    return files, unreadable


def _warn_of_skipped(files: Iterable[Path], folder: Path) -> None:
    """Says aloud how many files of a folder may be images or videos but are not read as such, as HEIC."""
    readable = IMAGE_SUFFIXES + VIDEO_SUFFIXES
    skipped = sorted(path for path in files if path.suffix.lower() not in readable and may_be_image(path))
    if skipped:
        names = f"{len(skipped)} {'file' if len(skipped) == 1 else 'files'} (the first is {skipped[0].name})"
        _LOG.warning("%s: skipped %s that cannot be read as images or videos", folder, names)


def may_be_image(path: Path) -> bool:
    """Whether a file that is no image by its name is none of those that are expected beside images."""
    return (
        not path.name.startswith(".")
        and path.suffix.lower() not in _NOT_IMAGES
        and not path.name.lower().startswith(_NOTES)
    )


def _media(paths: Iterable[Path], root: Path, output: Path | None, complaint: str | None) -> list[str]:
    """The images and videos among `paths`, which are below `root`, sorted and without results.

    FileNotFoundError with the `complaint` if there are none.
    """
    suffixes = IMAGE_SUFFIXES + VIDEO_SUFFIXES
    # A broken link stays in the list, so that reading it reports the error.
    media = sorted(path for path in paths if path.suffix.lower() in suffixes and not path.is_dir())
    chosen = [path for path in media if not _is_result(path, root, output)]
    if left_out := len(media) - len(chosen):
        _LOG.warning("left out %d of %d files in %s: they are results of vovnet", left_out, len(media), root)
    if not chosen and complaint:
        raise FileNotFoundError(f"{complaint} {' '.join(suffixes)}" + (", without results" if left_out else ""))
    return [str(path) for path in chosen]


def _is_result(path: Path, root: Path, output: Path | None) -> bool:
    """Whether a file found below `root` was written by `vovnet predict` or `vovnet compare`, now or earlier.

    All of the output folder is, unless the user named that folder or one in it: then only what is written there is.
    """
    if output is not None and is_below(path, output / DRAWN if is_below(root, output) else output):
        return True
    if path.name == FIGURE and path.with_name(PAGE).exists():
        return True
    inside = path.relative_to(root).parts if path.is_relative_to(root) else path.parts
    folders = [parent for parent in list(path.parents)[: len(inside) - 1] if parent.name == DRAWN]
    return any(all((folder.parent / name).exists() for name in DETECTION_FILES) for folder in folders)


def find_inputs(inputs: Any, *, output: Path | None = None, hint: Callable[[str], str] = lambda name: "") -> list[Any]:
    """Names become paths, URLs and failures, see `find_sources`; images in memory stay as they are.

    inputs: one of them, or a list or tuple of them.
    """
    found: list[Any] = []
    for item in inputs if isinstance(inputs, list | tuple) else [inputs]:
        is_name = isinstance(item, str | Path | int)  # a number would be that of a camera
        found += find_sources([str(item)], output=output, hint=hint) if is_name else [item]
    return found


def raise_if_all_failed(found: Sequence[Any]) -> None:
    """If nothing was found at all, that is one error with all reasons."""
    failures = [item for item in found if isinstance(item, Failure)]
    if len(failures) == 1 == len(found):
        raise failures[0].error
    if failures and len(failures) == len(found):
        kind = ValueError if all(isinstance(failure.error, ValueError) for failure in failures) else OSError
        raise kind("; ".join(failure.reason for failure in failures))


def raise_unless_images(source: Any, found: Sequence[Any], *, for_videos: str) -> None:
    """ValueError, or the error of a `Failure`, unless all that `find_inputs` found are images; one, if one was named.

    for_videos: what takes videos.
    """
    for item in found:
        if isinstance(item, Failure):
            raise item.error
    if isinstance(source, str | Path) and found != [str(source)]:
        raise ValueError(f"{source} may hold several images: pass a list, predict([{str(source)!r}]), to get a list")
    if videos := [path for path in found if isinstance(path, str) and is_video(path)]:
        raise ValueError(f"{videos[0]} is a video: use {for_videos}")
