"""The images and videos that a user names or passes: find them, read them, and resize them ahead of the network."""

from __future__ import annotations

import glob
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from PIL.Image import Image
from torch import Tensor

from vovnet.data.images import IMAGE_SUFFIXES, read_image, to_image_tensor
from vovnet.data.video import read_shown_frames
from vovnet.download import check_scheme, download, is_url
from vovnet.engine.prediction import Failure
from vovnet.models.preprocessing import Preprocessing

ImageLike: TypeAlias = str | Path | Tensor | np.ndarray[Any, Any] | Image
T = TypeVar("T")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")


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


def expand_inputs(inputs: ImageLike | Sequence[ImageLike]) -> list[Any]:
    """Names become paths and URLs, see `expand_sources`; images in memory stay as they are."""
    expanded: list[Any] = []
    for item in inputs if isinstance(inputs, list | tuple) else [inputs]:
        expanded += expand_sources([item]) if isinstance(item, str | Path) else [item]
    return expanded


def read_batches(
    inputs: Sequence[Any], preprocessing: Preprocessing, batch_size: int, *, keep_images: bool
) -> Generator[list[SourceImage | Failure]]:
    """The images of `expand_inputs` in lists of `batch_size`, resized for the network; a `Failure` for unreadable ones.

    A thread reads at most `batch_size` images ahead.

    keep_images: also hold the pixels of image files. Those of other images are always held.
    """
    with closing(_read_ahead(_read_inputs(inputs, preprocessing, keep_images), batch_size)) as images:
        while batch := list(islice(images, batch_size)):
            yield batch


def _read_inputs(
    inputs: Sequence[Any], preprocessing: Preprocessing, keep_images: bool
) -> Iterator[SourceImage | Failure]:
    for index, item in enumerate(inputs):
        source = item if isinstance(item, str) else str(index)
        is_file = isinstance(item, str) and not is_url(item)
        try:
            for frame, pixels, start_s, seconds in _read(item):
                height, width = pixels.shape[1:]
                if height == 0 or width == 0:
                    raise ValueError(f"image {source} has no pixels: its size is {(height, width)}")
                keep = keep_images or not is_file or frame is not None
                resized = preprocessing.resize(pixels)
                yield SourceImage(source, frame, start_s, seconds, resized, (height, width), pixels if keep else None)
        except (ValueError, OSError) as error:
            yield Failure(source, error)


def _read(item: Any) -> Iterator[tuple[int | None, Tensor, float | None, float | None]]:
    """Frame index, pixels, uint8 RGB (3, H, W), and when and for how long it is shown; only pixels of an image."""
    if isinstance(item, str) and is_video(item):
        for index, frame in enumerate(read_shown_frames(item)):
            yield index, *frame
    else:
        yield None, read_source(item) if isinstance(item, str) else to_image_tensor(item), None, None


def _read_ahead(items: Iterator[T], depth: int) -> Generator[T]:
    """The same items in order, made by a thread that is at most `depth` of them ahead."""
    end: Any = object()
    with ThreadPoolExecutor(1, thread_name_prefix="reader") as pool:
        try:
            waiting = deque(pool.submit(next, items, end) for _ in range(depth))
            while (item := waiting.popleft().result()) is not end:
                waiting.append(pool.submit(next, items, end))
                yield item
        finally:
            pool.shutdown(cancel_futures=True)
