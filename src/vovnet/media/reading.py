"""Reads the images and videos of a run ahead of the network, in a thread, with a bound on what waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Condition
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from vovnet.media.finding import VIDEO_SUFFIXES, is_video
from vovnet.media.results import Failure
from vovnet.printing import line
from vovnet.urls import check_url, is_url, shown_url

T = TypeVar("T")  # pixels: an array or a tensor, with `nbytes`
_MOST_AHEAD, _MOST_IN_BATCH = 50_000_000, 100_000_000  # bytes of pixels: two and four frames of 4K


@dataclass(frozen=True)
class SourceImage(Generic[T]):
    """An image, ready for the network.

    source, frame, start_s, seconds, pixels: as in `vovnet.engine.predicting.prediction.Prediction`.
    resized: uint8 RGB pixels of the size of the network's input; the image itself if the decoder resizes none.
    image_size: (height, width) of the original image.
    whole: whether `resized` is the image itself.
    """

    source: str
    frame: int | None
    start_s: float | None
    seconds: float | None
    resized: T
    image_size: tuple[int, int]
    pixels: T | None
    whole: bool = False


@dataclass(frozen=True)
class Decoder(Generic[T]):
    """How images become pixels of one form: arrays (H, W, 3), or tensors (3, H, W).

    read: an image file, or its content.
    convert: an image in memory.
    frames: the frames of a video, each with the time from which it is shown, and for how long.
    size: (height, width) of pixels.
    resize: pixels for the network; None leaves the images as they are.
    """

    read: Callable[[Path | bytes], T]
    convert: Callable[[Any], T]
    frames: Callable[[str], Iterable[tuple[T, float, float]]]
    size: Callable[[T], tuple[int, int]]
    resize: Callable[[T], T] | None


def read_source(source: str, read: Callable[[Path | bytes], T]) -> T:
    """The image at a path or http(s) URL. Raises ValueError or OSError that names the source."""
    if not is_url(source):
        return read(Path(source))
    check_url(source)
    from vovnet.download import download

    shown = shown_url(source)
    try:
        content = download(source)
        try:
            return read(content)
        except ValueError as error:
            raise ValueError(f"{shown} did not send an image that can be read ({line(str(error), 300)})") from None
    except ValueError:
        if Path(urlsplit(source).path).suffix.lower() in VIDEO_SUFFIXES:
            raise ValueError(f"{shown} is a video; videos are read from files: download it first") from None
        raise


def read_batches(
    inputs: Sequence[Any], decoder: Decoder[T], batch_size: int, *, keep_images: bool
) -> Generator[list[SourceImage[T] | Failure], None, None]:
    """The images of `find_inputs` in lists of `batch_size`, resized for the network; a `Failure` for unreadable ones.

    A thread reads at most `batch_size` images ahead, and fewer if they are so large that their pixels would fill the
    memory; so are the lists. A single image needs none: to start it would take a millisecond.

    keep_images: also hold the pixels of image files. Those of other images are always held.
    """
    images = _read_inputs(inputs, decoder, keep_images)
    if len(inputs) > 1 or any(isinstance(item, str) and is_video(item) for item in inputs):
        images = _read_ahead(images, batch_size)
    with closing(images):
        batch: list[SourceImage[T] | Failure] = []
        for image in images:
            batch.append(image)
            del image  # nothing holds an image that the caller has let go
            if len(batch) == batch_size or sum(map(_held_bytes, batch)) >= _MOST_IN_BATCH:
                yield batch
                batch = []
        if batch:
            yield batch


def _held_bytes(image: SourceImage[Any] | Failure) -> int:
    if isinstance(image, Failure):
        return 0
    pixels = image.resized if image.whole else image.pixels
    return 0 if pixels is None else pixels.nbytes


def _read_inputs(
    inputs: Sequence[Any], decoder: Decoder[T], keep_images: bool
) -> Generator[SourceImage[T] | Failure, None, None]:
    for index, item in enumerate(inputs):
        if isinstance(item, Failure):
            yield item
            continue
        source = item if isinstance(item, str) else str(index)
        is_file = isinstance(item, str) and not is_url(item)
        try:
            for frame, pixels, start_s, seconds in _read(item, decoder):
                height, width = decoder.size(pixels)
                if height == 0 or width == 0:
                    raise ValueError(f"image {source} has no pixels: its size is {(height, width)}")
                resized, size = pixels if decoder.resize is None else decoder.resize(pixels), (height, width)
                kept = pixels if keep_images or not is_file or frame is not None else None
                del pixels  # or it would be held while the next is decoded
                image = SourceImage(source, frame, start_s, seconds, resized, size, kept, decoder.resize is None)
                del resized, kept
                yield image
                del image
        except (ValueError, OSError) as error:
            yield Failure(source, error)


def _read(item: Any, decoder: Decoder[T]) -> Iterator[tuple[int | None, T, float | None, float | None]]:
    """Frame index, pixels, and when and for how long it is shown; only pixels of an image."""
    if isinstance(item, str) and is_video(item):
        for index, (pixels, start_s, seconds) in enumerate(decoder.frames(item)):
            yield index, pixels, start_s, seconds
            del pixels
    else:
        yield None, read_source(item, decoder.read) if isinstance(item, str) else decoder.convert(item), None, None


def _read_ahead(
    items: Iterator[SourceImage[T] | Failure], depth: int
) -> Generator[SourceImage[T] | Failure, None, None]:
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
