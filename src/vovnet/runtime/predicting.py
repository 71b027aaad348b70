"""What every detector does with images, folders and videos, whatever runs its network and holds its results."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypedDict, TypeVar, overload

from vovnet.media.finding import raise_if_all_failed, raise_unless_images
from vovnet.media.reading import SourceImage
from vovnet.media.results import Failure, raise_failures
from vovnet.runtime.options import BATCH_SIZE, TOP_K, Selection, check_options, select_by
from vovnet.runtime.tiles import Tiling, tiling_of

if TYPE_CHECKING:
    from typing import TypeAlias, Unpack

    from vovnet.media.pixels import Pixels

    Classes: TypeAlias = str | int | Sequence[str | int] | None


class Options(TypedDict, total=False):
    """Keyword arguments of `Predicting.predict`."""

    score_threshold: float | None
    top_k: int
    classes: Classes
    batch_size: int
    tiles: int | None
    overlap: float | None


class Result(Protocol):
    """The detections of one image or frame, as far as a video is written from them."""

    @property
    def start_s(self) -> float | None: ...

    @property
    def seconds(self) -> float | None: ...

    def draw_array(self) -> Pixels: ...


Found = TypeVar("Found", bound=Result)
Image = TypeVar("Image")
Raw = TypeVar("Raw")


class Predicting(ABC, Generic[Found]):
    """A detector that is ready to predict.

    class_names: in label order.
    score_thresholds: one for each class, which `predict` uses unless it is given another; None without stored ones.
    """

    class_names: tuple[str, ...]
    score_thresholds: tuple[float, ...] | None

    @abstractmethod
    def _find_inputs(self, sources: Any, output: Path | None = None) -> list[Any]:
        """As `vovnet.media.finding.find_inputs`."""

    @abstractmethod
    def _results(
        self, inputs: Sequence[Any], *, selection: Selection, tiling: Tiling | None, batch_size: int, keep_images: bool
    ) -> Iterator[Found | Failure]:
        """`stream` for what has been found."""

    @overload
    def predict(self, source: list[Any] | tuple[Any, ...], **options: Unpack[Options]) -> list[Found]: ...
    @overload
    def predict(self, source: Any, **options: Unpack[Options]) -> Found: ...
    def predict(
        self,
        source: Any,
        *,
        score_threshold: float | None = None,
        top_k: int = TOP_K,
        classes: Classes = None,
        batch_size: int = BATCH_SIZE,
        tiles: int | None = None,
        overlap: float | None = None,
    ) -> Found | list[Found]:
        """The detections in one image, or a list of them for a list of images, folders and patterns.

        source: an image is a path, an http(s) URL, a PIL image, or a NumPy array (H, W) or (H, W, 1|3|4) in RGB(A)
            order; with PyTorch also a uint8 RGB tensor (3, H, W), and without it also the content of an image file.
        score_threshold: drop detections with a lower score. None is for each class the threshold that came with the
            detector (`score_thresholds`), and 0.3 without any.
        top_k: most detections per image.
        classes: names or labels of the classes to keep; None keeps all.
        batch_size: images per pass.
        tiles: side in pixels of the tiles in which images are detected too, beside the whole; None: only the whole.
        overlap: share of its side that a tile has in common with the next one; None is 0.2.

        Raises ValueError or OSError for the first image that cannot be read; `stream` carries on instead.
        """
        inputs = self._find_inputs(source)
        raise_unless_images(source, inputs, for_videos="predict_video or stream, which give one frame at a time")
        results = self.stream(
            inputs,
            score_threshold=score_threshold,
            top_k=top_k,
            classes=classes,
            batch_size=batch_size,
            tiles=tiles,
            overlap=overlap,
        )
        found = list(raise_failures(results))
        return found if isinstance(source, list | tuple) else found[0]

    def predict_video(
        self, path: str | Path, output_path: str | Path | None = None, **options: Unpack[Options]
    ) -> Iterator[Found]:
        """One result per frame, while the video is read; also writes the annotated video to `output_path`.

        Nothing happens until the results are taken. The annotated video appears after the last of them. `options` are
        those of `predict`. Raises ValueError or FileNotFoundError for a video that cannot be read.
        """
        from vovnet.media.video import VideoWriter, video_info

        if output_path is not None and os.path.realpath(output_path) == os.path.realpath(path):
            raise ValueError(f"the annotated video would replace its source {path}; choose another output_path")
        writer = None if output_path is None else VideoWriter(output_path, video_info(path).fps)
        with writer or nullcontext():
            for result in raise_failures(self.stream(path, **options)):
                if writer is not None:
                    writer.write_pixels(result.draw_array(), result.start_s, result.seconds)
                yield result

    def stream(
        self,
        sources: Any,
        *,
        score_threshold: float | None = None,
        top_k: int = TOP_K,
        classes: Classes = None,
        batch_size: int = BATCH_SIZE,
        tiles: int | None = None,
        overlap: float | None = None,
        keep_images: bool = False,
        output: Path | None = None,
    ) -> Iterator[Found | Failure]:
        """One result per image and per frame of a video, in order; a `Failure` for what cannot be read.

        The other arguments are those of `predict`. A thread reads up to `batch_size` images ahead of the network, with
        tiles one.

        keep_images: results also hold the pixels of image files, so that drawing does not read the file again.
        output: the folder that results are written to, which is never a source.

        Raises OSError or ValueError at once, before the first image, if none of the sources can be found, and for an
        unknown class or a value out of range.
        """
        check_options(score_threshold, top_k, batch_size)
        tiling = tiling_of(tiles, overlap)
        selection = select_by(
            score_threshold=score_threshold,
            stored=self.score_thresholds,
            top_k=top_k,
            classes=classes,
            class_names=self.class_names,
        )
        inputs = self._find_inputs(sources, output)
        raise_if_all_failed(inputs)
        return self._results(inputs, selection=selection, tiling=tiling, batch_size=batch_size, keep_images=keep_images)


def run_batches(
    batches: Generator[list[SourceImage[Image] | Failure], None, None],
    find: Callable[[Sequence[SourceImage[Image]]], Sequence[Raw]],
    finish: Callable[[SourceImage[Image], Raw], Found],
) -> Iterator[Found | Failure]:
    """One result per image, in order. find: what is in the images of a batch. finish: makes the result of an image."""
    with closing(batches):
        for batch in batches:
            images = [image for image in batch if isinstance(image, SourceImage)]
            found = iter(find(images))
            for image in batch:
                yield image if isinstance(image, Failure) else finish(image, next(found))
            del batch, images, image  # large pixels would be held while the next batch is read
