"""Load an exported detector and predict, without PyTorch: images, folders and videos in, boxes out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vovnet.media.finding import find_inputs
from vovnet.media.pixels import Pixels, read_pixels, to_pixels
from vovnet.media.reading import Decoder, SourceImage, read_batches
from vovnet.media.results import Failure
from vovnet.runtime.detections import Detections, Masks
from vovnet.runtime.masks import paste_codes
from vovnet.runtime.opening import open_session
from vovnet.runtime.options import Selection
from vovnet.runtime.predicting import Predicting, run_batches
from vovnet.runtime.resize import to_input
from vovnet.runtime.selection import Arrays, select_images
from vovnet.runtime.thresholds import lowest, threshold_of_parts
from vovnet.runtime.tiles import Tiling, Window
from vovnet.runtime.tiling import Codes, Part, detect_in_parts

if TYPE_CHECKING:
    from vovnet.runtime.session import Session


def load(path: str | Path, runtime: str | None = None, threads: int | None = None) -> Detector:
    """A detector that is ready to predict, from a file or folder that `vovnet export` wrote.

    runtime: for an ONNX file "onnxruntime" (None) or "openvino", which reads it too.
    threads: CPU threads; None is the runtime's own choice.

    Raises ValueError for a file that is damaged, foreign or newer than this version, FileNotFoundError, and
    ModuleNotFoundError if the runtime is not installed.
    """
    return Detector(open_session(path, runtime=runtime, threads=threads))


class Detector(Predicting[Detections]):
    """An exported detector with the names of its classes.

    session: the network in its runtime.
    info: what the file says of itself.
    class_names, category_ids: in label order; the ids are those of the dataset that the model was trained on.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.info = session.info
        self.class_names = self.info.class_names
        self.category_ids = self.info.category_ids
        self.score_thresholds = self.info.score_thresholds

    def _find_inputs(self, sources: Any, output: Path | None = None) -> list[Any]:
        return find_inputs(sources, output=output)

    def _results(
        self, inputs: Sequence[Any], *, selection: Selection, tiling: Tiling | None, batch_size: int, keep_images: bool
    ) -> Iterator[Detections | Failure]:
        decoder = Decoder(read=read_pixels, convert=_convert, frames=_frames, size=_size, resize=self._resize)
        if tiling is None:
            find = partial(self._find, selection)
        else:
            find = partial(self._find_in_tiles, selection, tiling, batch_size)
            decoder = replace(decoder, resize=None)
        batches = read_batches(inputs, decoder, batch_size if tiling is None else 1, keep_images=keep_images)
        return run_batches(batches, find, self._detections)

    def _find(self, selection: Selection, images: Sequence[SourceImage[Pixels]]) -> list[tuple[Arrays, Codes | None]]:
        found = self._run([image.resized for image in images], [image.image_size for image in images], selection)
        return [(arrays, codes_of(arrays)) for arrays in found]

    def _find_in_tiles(
        self, selection: Selection, tiling: Tiling, batch_size: int, images: Sequence[SourceImage[Pixels]]
    ) -> list[tuple[Arrays, Codes | None]]:
        return [self._detect_tiled(image.resized, tiling, batch_size, selection) for image in images]

    def _detect_tiled(
        self, pixels: Pixels, tiling: Tiling, batch_size: int, selection: Selection
    ) -> tuple[Arrays, Codes | None]:
        size, threshold = _size(pixels), selection.score_threshold
        if tiling.fits(size):
            (found,) = self._detect([pixels], selection)
            return found, codes_of(found)
        in_parts = replace(selection, score_threshold=threshold_of_parts(threshold))

        def detect_parts(windows: Sequence[Window]) -> list[Part]:
            tiles = [pixels[y1:y2, x1:x2] for x1, y1, x2, y2 in windows]
            return list(map(_to_part, self._detect(tiles, in_parts)))

        merged, codes = detect_in_parts(
            detect_parts, size, tiling, batch_size=batch_size, score_threshold=threshold, top_k=selection.top_k
        )
        return Arrays(merged.boxes, merged.labels, merged.scores, size), codes

    def _detect(self, images: Sequence[Pixels], selection: Selection) -> list[Arrays]:
        return self._run([self._resize(image) for image in images], list(map(_size, images)), selection)

    def _run(
        self, resized: Sequence[Pixels], image_sizes: Sequence[tuple[int, int]], selection: Selection
    ) -> list[Arrays]:
        """The detections of each image, resized (3, H, W). Those of one input size form a batch, without padding."""
        found: dict[int, Arrays] = {}
        sizes = [(planes.shape[1], planes.shape[2]) for planes in resized]
        for size in dict.fromkeys(sizes):
            indices = [index for index, other in enumerate(sizes) if other == size]
            batch = [resized[index] for index in indices]
            stacked = np.stack(batch) if len(batch) > 1 else batch[0][None]
            rows = self.session.run(stacked, lowest(selection.score_threshold))
            originals = [image_sizes[index] for index in indices]
            kept = select_images(
                rows, originals, size, score_threshold=selection.score_threshold, top_k=selection.top_k
            )
            found |= zip(indices, kept, strict=True)
        return [found[index] for index in range(len(resized))]

    def _detections(self, image: SourceImage[Pixels], raw: tuple[Arrays, Codes | None]) -> Detections:
        found, codes = raw
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
        return to_input(pixels, self.info)


def _convert(value: Any) -> Pixels:
    return read_pixels(value) if isinstance(value, bytes) else to_pixels(value)


def _frames(path: str) -> Iterable[tuple[Pixels, float, float]]:
    from vovnet.media.video import read_shown_pixels

    return read_shown_pixels(path)


def _size(pixels: Pixels) -> tuple[int, int]:
    return pixels.shape[0], pixels.shape[1]


def _to_part(found: Arrays) -> Part:
    masks = found.masks
    if masks is None:
        return Part(found.boxes, found.labels, found.scores, None)

    def code_of(index: int) -> bytes:
        own = slice(index, index + 1)
        return paste_codes(masks[own], found.boxes[own], found.image_size)[0]

    return Part(found.boxes, found.labels, found.scores, code_of)


def codes_of(found: Arrays) -> Codes | None:
    """COCO's run-length codes of the masks in an image; None if the detector has no masks."""
    return None if found.masks is None else paste_codes(found.masks, found.boxes, found.image_size)
