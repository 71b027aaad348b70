"""Load an exported detector and predict, without PyTorch: images, folders and videos in, boxes out."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt
from PIL.Image import Image

from vovnet.media.finding import find_inputs, raise_if_all_failed, raise_unless_images
from vovnet.media.pixels import Pixels, read_pixels, to_pixels
from vovnet.media.reading import Decoder, SourceImage, read_batches
from vovnet.media.results import Failure, raise_failures
from vovnet.runtime.cpu import processors
from vovnet.runtime.detections import Detections, Masks
from vovnet.runtime.opening import open_session
from vovnet.runtime.options import BATCH_SIZE, TOP_K, Selection, check_options, select_by
from vovnet.runtime.resize import to_input
from vovnet.runtime.selection import Arrays, select_images

if TYPE_CHECKING:
    from vovnet.runtime.session import Session

ImageLike: TypeAlias = "str | Path | bytes | npt.NDArray[Any] | Image"
Classes: TypeAlias = "str | int | Sequence[str | int] | None"


def load(path: str | Path, runtime: str | None = None, threads: int | None = None) -> Detector:
    """A detector that is ready to predict, from a file or folder that `vovnet export` wrote.

    runtime: for an ONNX file "onnxruntime" (None) or "openvino", which reads it too.
    threads: CPU threads; None is the runtime's own choice.

    Raises ValueError for a file that is damaged, foreign or newer than this version, FileNotFoundError, and
    ModuleNotFoundError if the runtime is not installed.
    """
    return Detector(open_session(path, runtime=runtime, threads=threads), threads)


class Detector:
    """An exported detector with the names of its classes.

    session: the network in its runtime.
    threads: threads that resize an image; None is one for each processor that this process may use.
    info: what the file says of itself.
    class_names, category_ids: in label order; the ids are those of the dataset that the model was trained on.
    score_thresholds: one for each class, which `predict` uses unless it is given another; None without stored ones.
    """

    def __init__(self, session: Session, threads: int | None = None) -> None:
        self.session = session
        self.threads = threads or processors()
        self.info = session.info
        self.class_names = self.info.class_names
        self.category_ids = self.info.category_ids
        self.score_thresholds = self.info.score_thresholds

    @overload
    def predict(
        self,
        source: list[ImageLike] | tuple[ImageLike, ...],
        *,
        score_threshold: float | None = ...,
        top_k: int = ...,
        classes: Classes = ...,
        batch_size: int = ...,
    ) -> list[Detections]: ...
    @overload
    def predict(
        self,
        source: ImageLike,
        *,
        score_threshold: float | None = ...,
        top_k: int = ...,
        classes: Classes = ...,
        batch_size: int = ...,
    ) -> Detections: ...
    def predict(
        self,
        source: ImageLike | list[ImageLike] | tuple[ImageLike, ...],
        *,
        score_threshold: float | None = None,
        top_k: int = TOP_K,
        classes: Classes = None,
        batch_size: int = BATCH_SIZE,
    ) -> Detections | list[Detections]:
        """The detections in one image, or a list of them for a list of images, folders and patterns.

        source: an image is a path, an http(s) URL, the content of an image file, a PIL image, or a NumPy array (H, W)
            or (H, W, 1|3|4) in RGB(A) order.
        score_threshold: drop detections with a lower score. None is for each class the threshold that came with the
            detector (`score_thresholds`), and 0.3 without any.
        top_k: most detections per image.
        classes: names or labels of the classes to keep; None keeps all.
        batch_size: images per pass.

        Raises ValueError or OSError for the first image that cannot be read; `stream` carries on instead.
        """
        several = isinstance(source, list | tuple)
        inputs = find_inputs(source)
        raise_unless_images(source, inputs, for_videos="predict_video or stream, which give one frame at a time")
        results = self.stream(
            inputs, score_threshold=score_threshold, top_k=top_k, classes=classes, batch_size=batch_size
        )
        found = list(raise_failures(results))
        return found if several else found[0]

    def predict_video(
        self, path: str | Path, output_path: str | Path | None = None, **options: Any
    ) -> Iterator[Detections]:
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
        sources: ImageLike | Sequence[ImageLike],
        *,
        score_threshold: float | None = None,
        top_k: int = TOP_K,
        classes: Classes = None,
        batch_size: int = BATCH_SIZE,
        keep_images: bool = False,
        output: Path | None = None,
    ) -> Iterator[Detections | Failure]:
        """One result per image and per frame of a video, in order; a `Failure` for what cannot be read.

        The other arguments are those of `predict`. A thread reads up to `batch_size` images ahead of the network.

        keep_images: results also hold the pixels of image files, so that drawing does not read the file again.
        output: the folder that results are written to, which is never a source.

        Raises OSError or ValueError at once, before the first image, if none of the sources can be found, and for an
        unknown class or a value out of range.
        """
        check_options(score_threshold, top_k, batch_size)
        selection = select_by(
            score_threshold=score_threshold,
            stored=self.score_thresholds,
            top_k=top_k,
            classes=classes,
            class_names=self.class_names,
        )
        inputs = find_inputs(sources, output=output)
        raise_if_all_failed(inputs)
        decoder = Decoder(read=read_pixels, convert=_convert, frames=_frames, size=_size, resize=self._resize)
        batches = read_batches(inputs, decoder, batch_size, keep_images=keep_images)
        return self._stream(batches, selection)

    def _stream(
        self,
        batches: Generator[list[SourceImage[Pixels] | Failure], None, None],
        selection: Selection,
    ) -> Iterator[Detections | Failure]:
        with closing(batches):
            for batch in batches:
                images = [image for image in batch if isinstance(image, SourceImage)]
                found = iter(self._detect(images, selection.lowest, selection.most))
                for image in batch:
                    if isinstance(image, Failure):
                        yield image
                        continue
                    detections = self._detections(image, next(found))
                    yield detections[selection.keep(detections.labels, detections.scores)]
                del batch, images, image  # large pixels would be held while the next batch is read

    def _detect(self, images: Sequence[SourceImage[Pixels]], score_threshold: float, top_k: int) -> list[Arrays]:
        """The detections of each image. Those of one input size form a batch, without padding."""
        found: dict[int, Arrays] = {}
        sizes = [(image.resized.shape[1], image.resized.shape[2]) for image in images]
        for size in dict.fromkeys(sizes):
            indices = [index for index, other in enumerate(sizes) if other == size]
            batch = [images[index].resized for index in indices]
            rows = self.session.run(np.stack(batch) if len(batch) > 1 else batch[0][None], score_threshold)
            originals = [images[index].image_size for index in indices]
            found |= zip(indices, select_images(rows, originals, size, top_k), strict=True)
        return [found[index] for index in range(len(images))]

    def _detections(self, image: SourceImage[Pixels], found: Arrays) -> Detections:
        masks = None
        if found.masks is not None:
            from vovnet.runtime.masks import paste_codes

            masks = Masks(paste_codes(found.masks, found.boxes, found.image_size), found.image_size)
        return Detections(
            boxes=found.boxes,
            labels=found.labels,
            scores=found.scores,
            image_size=found.image_size,
            class_names=self.class_names,
            category_ids=self.category_ids,
            source=image.source,
            masks=masks,
            frame=image.frame,
            start_s=image.start_s,
            seconds=image.seconds,
            pixels=image.pixels,
        )

    def _resize(self, pixels: Pixels) -> Pixels:
        return to_input(pixels, self.info, threads=self.threads)


def _convert(value: Any) -> Pixels:
    return read_pixels(value) if isinstance(value, bytes) else to_pixels(value)


def _frames(path: str) -> Iterable[tuple[Pixels, float, float]]:
    from vovnet.media.video import read_shown_pixels

    return read_shown_pixels(path)


def _size(pixels: Pixels) -> tuple[int, int]:
    return pixels.shape[0], pixels.shape[1]
