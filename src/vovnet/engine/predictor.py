"""From images to detections: what a detector does with anything that holds images, whatever runs its network."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, Unpack, overload

import torch
from torch import Tensor

from vovnet.data.video import VideoWriter
from vovnet.engine.prediction import Prediction
from vovnet.engine.sources import ImageLike, find_inputs, read_batches
from vovnet.engine.tiling import detect_tiled
from vovnet.media.finding import raise_if_all_failed, raise_unless_images
from vovnet.media.reading import SourceImage
from vovnet.media.results import Failure, raise_failures
from vovnet.media.video import video_info
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.preprocessing import Resizing
from vovnet.runtime.options import BATCH_SIZE, TOP_K, Selection, check_options, select_by
from vovnet.runtime.tiles import Tiling, tiling_of
from vovnet.structures import Detections

TITLES = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "mnn": "MNN"}


class Options(TypedDict, total=False):
    """Keyword arguments of `Predictor.predict`."""

    score_threshold: float | None
    top_k: int
    classes: str | int | Sequence[str | int] | None
    batch_size: int
    tiles: int | None
    overlap: float | None


@dataclass(frozen=True)
class Running:
    """What runs a detector's network.

    runtime: "torch", "onnxruntime", "openvino" or "mnn".
    precision: "float32", "bf16" or "int8".
    file: of an exported detector.
    """

    runtime: str = "torch"
    precision: str = "float32"
    file: str | None = None

    def __str__(self) -> str:
        """For example "int8 in OpenVINO"."""
        return f"{self.precision} in {TITLES[self.runtime]}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Predictor(ABC):
    """A detector that is ready to predict: a PyTorch model (`Detector`) or an exported file (`ExportedDetector`).

    class_names, category_ids: in label order; the ids are those of the dataset that the model was trained on.
    metadata: what the weights say of the training.
    device: where the network runs.
    running: what runs it.
    exported_on: the date of an export that runs in place of the weights that were asked for.
    score_thresholds: one for each class, which `predict` uses unless it is given another; None without stored ones.
    """

    device: torch.device
    running: Running
    exported_on: str | None = None

    def __init__(
        self,
        class_names: Sequence[str],
        category_ids: Sequence[int],
        metadata: Mapping[str, Any] | None,
        score_thresholds: Sequence[float] | None = None,
    ) -> None:
        if len(class_names) != len(category_ids):
            raise ValueError(
                f"expected one category id per class, got {len(category_ids)} for {len(class_names)} classes"
            )
        self.class_names = tuple(class_names)
        self.category_ids = tuple(category_ids)
        self.metadata = dict(metadata or {})
        self.score_thresholds = None if score_thresholds is None else tuple(score_thresholds)

    @property
    @abstractmethod
    def model(self) -> DetectionModel:
        """The PyTorch model. UsageError if an exported file runs."""

    @property
    @abstractmethod
    def preprocessing(self) -> Resizing:
        """How images are resized."""

    @property
    @abstractmethod
    def masks(self) -> bool:
        """Whether detections have masks."""

    @abstractmethod
    def _detect_batch(
        self,
        images: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
        *,
        score_threshold: float | None,
        top_k: int | None,
    ) -> list[Detections]:
        """`detect` for resized images of one size."""

    @overload
    def predict(
        self, source: list[ImageLike] | tuple[ImageLike, ...], **options: Unpack[Options]
    ) -> list[Prediction]: ...
    @overload
    def predict(self, source: ImageLike, **options: Unpack[Options]) -> Prediction: ...
    def predict(
        self,
        source: ImageLike | list[ImageLike] | tuple[ImageLike, ...],
        *,
        score_threshold: float | None = None,
        top_k: int = TOP_K,
        classes: str | int | Sequence[str | int] | None = None,
        batch_size: int = BATCH_SIZE,
        tiles: int | None = None,
        overlap: float | None = None,
    ) -> Prediction | list[Prediction]:
        """The prediction for one image, or a list of predictions for a list of images, folders and patterns.

        source: an image is a path, an http(s) URL, a NumPy array, a PIL image or a uint8 RGB tensor (3, H, W).
        score_threshold: drop detections with a lower score. None is for each class the threshold that came with the
            weights (`score_thresholds`), and 0.3 without any.
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
        predictions = list(raise_failures(results))
        return predictions if several else predictions[0]

    def predict_video(
        self, path: str | Path, output_path: str | Path | None = None, **options: Unpack[Options]
    ) -> Iterator[Prediction]:
        """One prediction per frame, while the video is read; also writes the annotated video to `output_path`.

        Nothing happens until the predictions are taken. The annotated video appears after the last of them.
        `options` are those of `predict`. Raises ValueError or FileNotFoundError for a video that cannot be read.
        """
        if output_path is not None and os.path.realpath(output_path) == os.path.realpath(path):
            raise ValueError(f"the annotated video would replace its source {path}; choose another output_path")
        writer = None if output_path is None else VideoWriter(output_path, video_info(path).fps)
        with writer or nullcontext():
            for prediction in raise_failures(self.stream(path, **options)):
                if writer is not None:
                    writer.write(prediction.draw_pixels(), prediction.start_s, prediction.seconds)
                yield prediction

    def stream(
        self,
        sources: ImageLike | Sequence[ImageLike],
        *,
        score_threshold: float | None = None,
        top_k: int = TOP_K,
        classes: str | int | Sequence[str | int] | None = None,
        batch_size: int = BATCH_SIZE,
        tiles: int | None = None,
        overlap: float | None = None,
        keep_images: bool = False,
        output: Path | None = None,
    ) -> Iterator[Prediction | Failure]:
        """One result per image and per frame of a video, in order; a `Failure` for what cannot be read.

        The other arguments are those of `predict`. A thread reads up to `batch_size` images ahead of the network, with
        tiles one.

        keep_images: predictions also hold the pixels of image files, so that drawing does not read the file again.
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
        if tiling is None:
            find = partial(self._find, selection)
            batches = read_batches(inputs, self.preprocessing, batch_size, keep_images=keep_images)
        else:
            find = partial(self._find_in_tiles, selection, tiling, batch_size)
            batches = read_batches(inputs, None, 1, keep_images=keep_images)
        return self._stream(batches, find, selection)

    def _find(self, selection: Selection, images: Sequence[SourceImage[Tensor]]) -> list[Detections]:
        resized, sizes = [image.resized for image in images], [image.image_size for image in images]
        return self.detect(resized, sizes, score_threshold=selection.lowest, top_k=selection.most)

    def _find_in_tiles(
        self, selection: Selection, tiling: Tiling, batch_size: int, images: Sequence[SourceImage[Tensor]]
    ) -> list[Detections]:
        threshold, top_k = selection.lowest, selection.most
        return [
            detect_tiled(
                self.detect, image.resized, tiling, batch_size=batch_size, score_threshold=threshold, top_k=top_k
            )
            for image in images
        ]

    def _stream(
        self,
        batches: Generator[list[SourceImage[Tensor] | Failure]],
        find: Callable[[Sequence[SourceImage[Tensor]]], list[Detections]],
        selection: Selection,
    ) -> Iterator[Prediction | Failure]:
        with closing(batches):
            for batch in batches:
                images = [image for image in batch if isinstance(image, SourceImage)]
                detections = iter(find(images))
                for image in batch:
                    if isinstance(image, Failure):
                        yield image
                    else:
                        yield self._prediction(image, next(detections), selection)
                del batch, images, image  # large pixels would be held while the next batch is read

    def _prediction(self, image: SourceImage[Tensor], detections: Detections, selection: Selection) -> Prediction:
        keep = selection.keep(detections.labels.numpy(), detections.scores.numpy())
        kept = detections[
            torch.from_numpy(keep)
        ]  # makes copies too, so that no tensor of inference mode reaches the caller
        return Prediction(
            **vars(kept),
            class_names=self.class_names,
            category_ids=self.category_ids,
            source=image.source,
            frame=image.frame,
            start_s=image.start_s,
            seconds=image.seconds,
            pixels=image.pixels,
        )

    def detect(
        self,
        images: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]] | None = None,
        *,
        score_threshold: float | None = None,
        top_k: int | None = None,
    ) -> list[Detections]:
        """The detections of each image, in order, on the CPU and in pixels of the original image.

        Images of one input size form a batch. None is padded to the size of another, which would change what a
        detector that keeps the aspect ratio finds.

        images: uint8 RGB (3, H, W). They are resized here unless `image_sizes` is given.
        image_sizes: (height, width) of the original images; says that `images` are resized already.
        score_threshold, top_k: None is the model's own default, the value its paper evaluates with.

        Raises MemoryError if a batch does not fit into the memory of the device.
        """
        if image_sizes is None:
            image_sizes = [(image.shape[-2], image.shape[-1]) for image in images]
            images = [self.preprocessing.resize(image) for image in images]
        if len(image_sizes) != len(images):
            raise ValueError(f"expected one image size per image, got {len(image_sizes)} for {len(images)} images")
        input_sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        detections: dict[int, Detections] = {}
        for input_size in dict.fromkeys(input_sizes):
            indices = [index for index, size in enumerate(input_sizes) if size == input_size]
            own, originals = [images[index] for index in indices], [image_sizes[index] for index in indices]
            batch = self._detect_batch(own, originals, score_threshold=score_threshold, top_k=top_k)
            detections |= zip(indices, batch, strict=True)
        return [detections[index] for index in range(len(images))]
