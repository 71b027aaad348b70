"""Load an exported detector and predict, without PyTorch: images, folders and videos in, boxes out."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
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
from vovnet.runtime.tiles import Tiling, tiling_of
from vovnet.runtime.tiling import Codes, codes_of, detect_tiled

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
        tiles: int | None = ...,
        overlap: float | None = ...,
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
        tiles: int | None = ...,
        overlap: float | None = ...,
    ) -> Detections: ...
    def predict(
        self,
        source: ImageLike | list[ImageLike] | tuple[ImageLike, ...],
        *,
        score_threshold: float | None = None,
        top_k: int = TOP_K,
        classes: Classes = None,
        batch_size: int = BATCH_SIZE,
        tiles: int | None = None,
        overlap: float | None = None,
    ) -> Detections | list[Detections]:
        """The detections in one image, or a list of them for a list of images, folders and patterns.

        source: an image is a path, an http(s) URL, the content of an image file, a PIL image, or a NumPy array (H, W)
            or (H, W, 1|3|4) in RGB(A) order.
        score_threshold: drop detections with a lower score. None is for each class the threshold that came with the
            detector (`score_thresholds`), and 0.3 without any.
        top_k: most detections per image.
        classes: names or labels of the classes to keep; None keeps all.
        batch_size: images per pass.
        tiles: side in pixels of the tiles in which images are detected too, beside the whole; None: only the whole.
        overlap: share of its side that a tile has in common with the next one; None is 0.2.

        Raises ValueError or OSError for the first image that cannot be read; `stream` carries on instead.
        """
        several = isinstance(source, list | tuple)
        inputs = find_inputs(source)
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
        tiles: int | None = None,
        overlap: float | None = None,
        keep_images: bool = False,
        output: Path | None = None,
    ) -> Iterator[Detections | Failure]:
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
        inputs = find_inputs(sources, output=output)
        raise_if_all_failed(inputs)
        decoder = Decoder(read=read_pixels, convert=_convert, frames=_frames, size=_size, resize=self._resize)
        if tiling is None:
            find = partial(self._find, selection)
        else:
            find = partial(self._find_in_tiles, selection, tiling, batch_size)
            decoder = replace(decoder, resize=None)
        batches = read_batches(inputs, decoder, batch_size if tiling is None else 1, keep_images=keep_images)
        return self._stream(batches, find, selection)

    def _stream(
        self,
        batches: Generator[list[SourceImage[Pixels] | Failure], None, None],
        find: Callable[[Sequence[SourceImage[Pixels]]], list[tuple[Arrays, Codes | None]]],
        selection: Selection,
    ) -> Iterator[Detections | Failure]:
        with closing(batches):
            for batch in batches:
                images = [image for image in batch if isinstance(image, SourceImage)]
                found = iter(find(images))
                for image in batch:
                    if isinstance(image, Failure):
                        yield image
                        continue
                    detections = self._detections(image, *next(found))
                    yield detections[selection.keep(detections.labels, detections.scores)]
                del batch, images, image  # large pixels would be held while the next batch is read

    def _find(self, selection: Selection, images: Sequence[SourceImage[Pixels]]) -> list[tuple[Arrays, Codes | None]]:
        resized, sizes = [image.resized for image in images], [image.image_size for image in images]
        return [(found, codes_of(found)) for found in self._run(resized, sizes, selection.lowest, selection.most)]

    def _find_in_tiles(
        self, selection: Selection, tiling: Tiling, batch_size: int, images: Sequence[SourceImage[Pixels]]
    ) -> list[tuple[Arrays, Codes | None]]:
        def detect(tiles: Sequence[Pixels], score_threshold: float, top_k: int) -> list[Arrays]:
            return self._run([self._resize(tile) for tile in tiles], list(map(_size, tiles)), score_threshold, top_k)

        threshold, top_k = selection.lowest, selection.most
        return [
            detect_tiled(detect, image.resized, tiling, batch_size=batch_size, score_threshold=threshold, top_k=top_k)
            for image in images
        ]

    def _run(
        self, resized: Sequence[Pixels], image_sizes: Sequence[tuple[int, int]], score_threshold: float, top_k: int
    ) -> list[Arrays]:
        """The detections of each image, resized (3, H, W). Those of one input size form a batch, without padding."""
        found: dict[int, Arrays] = {}
        sizes = [(planes.shape[1], planes.shape[2]) for planes in resized]
        for size in dict.fromkeys(sizes):
            indices = [index for index, other in enumerate(sizes) if other == size]
            batch = [resized[index] for index in indices]
            rows = self.session.run(np.stack(batch) if len(batch) > 1 else batch[0][None], score_threshold)
            originals = [image_sizes[index] for index in indices]
            found |= zip(indices, select_images(rows, originals, size, top_k), strict=True)
        return [found[index] for index in range(len(resized))]

    def _detections(self, image: SourceImage[Pixels], found: Arrays, codes: Codes | None) -> Detections:
        masks = None if codes is None else Masks(codes, found.image_size)
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
