"""The images and videos that a user names or passes: find them, read them, and resize them ahead of the network."""

from __future__ import annotations

import glob
import logging
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from threading import Condition
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import numpy as np
from PIL.Image import Image
from torch import Tensor

from vovnet.data.image_files import may_be_image
from vovnet.data.images import read_image, to_image_tensor
from vovnet.data.video import read_shown_frames
from vovnet.download import download
from vovnet.engine.prediction import Failure
from vovnet.files import is_below
from vovnet.media.pixels import IMAGE_SUFFIXES
from vovnet.models.preprocessing import Preprocessing
from vovnet.printing import line
from vovnet.urls import check_url, is_url, shown_url, without_user
from vovnet.weights.find import weights_hint

ImageLike: TypeAlias = str | Path | Tensor | np.ndarray[Any, Any] | Image
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".mts")
STREAM_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "udp", "tcp", "mms")
NOT_YET = (
    "cameras and streams are not read yet; record a video, as with `ffmpeg -i SOURCE -t 60 clip.mp4`, and name that"
)
DRAWN, DETECTION_FILES = "drawn", ("detections.json", "detections.csv")  # what `vovnet predict` writes
FIGURE, PAGE = "figure.jpg", "comparison.html"  # and `vovnet compare`
_MOST_AHEAD, _MOST_IN_BATCH = 50_000_000, 100_000_000  # bytes of pixels: two and four frames of 4K
_LOG = logging.getLogger("vovnet")


@dataclass(frozen=True)
class SourceImage:
    """An image, ready for the network.

    source, frame, start_s, seconds, pixels: as in `Prediction`.
    resized: uint8 RGB (3, *preprocessing.input_size).
    image_size: (height, width) of the original image.
    """

    source: str
    frame: int | None
    start_s: float | None
    seconds: float | None
    resized: Tensor
    image_size: tuple[int, int]
    pixels: Tensor | None


def is_video(source: str | Path) -> bool:
    """Whether a file has the suffix of a video."""
    return not is_url(str(source)) and Path(source).suffix.lower() in VIDEO_SUFFIXES


def expand_sources(sources: Iterable[str | Path], *, output: Path | None = None) -> list[str]:
    """Files, folders, patterns and URLs → paths of images and videos, and http(s) URLs, in the order given.

    A folder gives all images and videos in and below it, a pattern those that it matches; both sorted by path, without
    hidden files and without the results of `vovnet predict` and `vovnet compare`. A file that is named directly is
    taken whatever its suffix. A source named twice appears twice.

    output: the folder that results are written to, which is never a source.

    Raises the error of the first `Failure` of `find_sources`.
    """
    found = find_sources(sources, output=output)
    for item in found:
        if isinstance(item, Failure):
            raise item.error
    return [item for item in found if isinstance(item, str)]


def find_sources(sources: Iterable[str | Path], *, output: Path | None = None) -> list[str | Failure]:
    """As `expand_sources`, but a `Failure` takes the place of what cannot be found.

    That is a path that does not exist, a folder that cannot be read, a folder or pattern without images, a URL that is
    not http(s), a camera or a stream.
    """
    found: list[str | Failure] = []
    for source in map(str, sources):
        try:
            found += _find(source, output)
        except (OSError, ValueError) as error:
            found.append(Failure(without_user(source) if is_url(source) else source, error))
    return found


def _find(source: str, output: Path | None) -> list[str | Failure]:
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
    raise FileNotFoundError(
        f"expected an image, video, folder or pattern, but {source!r} does not exist{weights_hint(source)}"
    )


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


def read_source(source: str) -> Tensor:
    """uint8 RGB (3, H, W): the image at a path or http(s) URL. Raises ValueError or OSError that names the source."""
    if not is_url(source):
        return read_image(Path(source))
    check_url(source)
    shown = shown_url(source)
    try:
        content = download(source)
        try:
            return read_image(content)
        except ValueError as error:
            raise ValueError(f"{shown} did not send an image that can be read ({line(str(error), 300)})") from None
    except ValueError:
        if Path(urlsplit(source).path).suffix.lower() in VIDEO_SUFFIXES:
            raise ValueError(f"{shown} is a video; videos are read from files: download it first") from None
        raise


def find_inputs(inputs: ImageLike | Sequence[ImageLike], *, output: Path | None = None) -> list[Any]:
    """Names become paths, URLs and failures, see `find_sources`; images in memory stay as they are."""
    found: list[Any] = []
    for item in inputs if isinstance(inputs, list | tuple) else [inputs]:
        is_name = isinstance(item, str | Path | int)  # a number would be that of a camera
        found += find_sources([str(item)], output=output) if is_name else [item]
    return found


def raise_if_all_failed(found: Sequence[Any]) -> None:
    """If nothing was found at all, that is one error with all reasons."""
    failures = [item for item in found if isinstance(item, Failure)]
    if len(failures) == 1 == len(found):
        raise failures[0].error
    if failures and len(failures) == len(found):
        kind = ValueError if all(isinstance(failure.error, ValueError) for failure in failures) else OSError
        raise kind("; ".join(failure.reason for failure in failures))


def read_batches(
    inputs: Sequence[Any], preprocessing: Preprocessing, batch_size: int, *, keep_images: bool
) -> Generator[list[SourceImage | Failure]]:
    """The images of `find_inputs` in lists of `batch_size`, resized for the network; a `Failure` for unreadable ones.

    A thread reads at most `batch_size` images ahead, and fewer if they are so large that their pixels would fill the
    memory; so are the lists.

    keep_images: also hold the pixels of image files. Those of other images are always held.
    """
    with closing(_read_ahead(_read_inputs(inputs, preprocessing, keep_images), batch_size)) as images:
        batch: list[SourceImage | Failure] = []
        for image in images:
            batch.append(image)
            del image  # nothing holds an image that the caller has let go
            if len(batch) == batch_size or sum(map(_held_bytes, batch)) >= _MOST_IN_BATCH:
                yield batch
                batch = []
        if batch:
            yield batch


def _held_bytes(image: SourceImage | Failure) -> int:
    return 0 if isinstance(image, Failure) or image.pixels is None else image.pixels.nbytes


def _read_inputs(
    inputs: Sequence[Any], preprocessing: Preprocessing, keep_images: bool
) -> Iterator[SourceImage | Failure]:
    for index, item in enumerate(inputs):
        if isinstance(item, Failure):
            yield item
            continue
        source = item if isinstance(item, str) else str(index)
        is_file = isinstance(item, str) and not is_url(item)
        try:
            for frame, pixels, start_s, seconds in _read(item):
                height, width = pixels.shape[1:]
                if height == 0 or width == 0:
                    raise ValueError(f"image {source} has no pixels: its size is {(height, width)}")
                resized, size = preprocessing.resize(pixels), (height, width)
                kept = pixels if keep_images or not is_file or frame is not None else None
                del pixels  # or it would be held while the next is decoded
                yield SourceImage(source, frame, start_s, seconds, resized, size, kept)
        except (ValueError, OSError) as error:
            yield Failure(source, error)


def _read(item: Any) -> Iterator[tuple[int | None, Tensor, float | None, float | None]]:
    """Frame index, pixels, uint8 RGB (3, H, W), and when and for how long it is shown; only pixels of an image."""
    if isinstance(item, str) and is_video(item):
        for index, (pixels, start_s, seconds) in enumerate(read_shown_frames(item)):
            yield index, pixels, start_s, seconds
            del pixels
    else:
        yield None, read_source(item) if isinstance(item, str) else to_image_tensor(item), None, None


def _read_ahead(items: Iterator[SourceImage | Failure], depth: int) -> Generator[SourceImage | Failure]:
    """The same items in order, made by a thread that is at most `depth` of them and _MOST_AHEAD bytes ahead."""
    end: Any = object()
    changed, held, closed = Condition(), 0, False

    def read() -> Any:
        nonlocal held
        with changed:
            changed.wait_for(lambda: closed or held < _MOST_AHEAD)
        item = next(items, end)
        with changed:
            held += 0 if item is end else _held_bytes(item)
        return item

    with ThreadPoolExecutor(1, thread_name_prefix="reader") as pool:
        try:
            waiting = deque(pool.submit(read) for _ in range(depth))
            while (item := waiting.popleft().result()) is not end:
                with changed:
                    held -= _held_bytes(item)
                    changed.notify()
                waiting.append(pool.submit(read))
                yield item
                del item
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            with changed:
                closed = True
                changed.notify()
