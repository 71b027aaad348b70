"""Read the images that a user names or passes, and resize them, ahead of the network."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from PIL.Image import Image
from torch import Tensor

from vovnet.data.images import to_image_tensor
from vovnet.data.sources import expand_sources, is_video, read_source
from vovnet.data.video import read_frames
from vovnet.download import is_url
from vovnet.engine.prediction import Failure
from vovnet.models.preprocessing import Preprocessing

ImageLike: TypeAlias = str | Path | Tensor | np.ndarray[Any, Any] | Image
T = TypeVar("T")


@dataclass(frozen=True)
class SourceImage:
    """An image, ready for the network.

    source, frame, pixels: as in `Prediction`.
    resized: uint8 RGB (3, *preprocessing.input_size).
    image_size: (height, width) of the original image.
    """

    source: str
    frame: int | None
    resized: Tensor
    image_size: tuple[int, int]
    pixels: Tensor | None


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
            for frame, pixels in _read(item):
                height, width = pixels.shape[1:]
                if height == 0 or width == 0:
                    raise ValueError(f"image {source} has no pixels: its size is {(height, width)}")
                keep = keep_images or not is_file or frame is not None
                resized = preprocessing.resize(pixels)
                yield SourceImage(source, frame, resized, (height, width), pixels if keep else None)
        except (ValueError, OSError) as error:
            yield Failure(source, error)


def _read(item: Any) -> Iterator[tuple[int | None, Tensor]]:
    """Frame index, None for an image, and pixels, uint8 RGB (3, H, W)."""
    if not isinstance(item, str):
        yield None, to_image_tensor(item)
    elif is_video(item):
        yield from enumerate(read_frames(item))
    else:
        yield None, read_source(item)


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
