"""From images to detections: what a detector does with anything that holds images, whatever runs its network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vovnet.engine.predicting.prediction import Prediction
from vovnet.engine.predicting.sources import find_inputs, read_batches
from vovnet.engine.predicting.tiling import detect_tiled
from vovnet.media.reading import SourceImage
from vovnet.media.results import Failure
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.preprocessing import Resizing
from vovnet.runtime.options import Selection
from vovnet.runtime.predicting import Predicting, run_batches
from vovnet.runtime.thresholds import ScoreThreshold
from vovnet.runtime.tiles import Tiling
from vovnet.structures import Detections

TITLES = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "mnn": "MNN"}


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


class Predictor(Predicting[Prediction]):
    """A detector that is ready to predict: a PyTorch model (`Detector`) or an exported file (`ExportedDetector`).

    class_names, category_ids: in label order; the ids are those of the dataset that the model was trained on.
    metadata: what the weights say of the training.
    device: where the network runs.
    running: what runs it.
    exported_on: the date of an export that runs in place of the weights that were asked for.
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
        score_threshold: ScoreThreshold | None,
        top_k: int | None,
    ) -> list[Detections]:
        """`detect` for resized images of one size."""

    def _find_inputs(self, sources: Any, output: Path | None = None) -> list[Any]:
        return find_inputs(sources, output=output)

    def _results(
        self, inputs: Sequence[Any], *, selection: Selection, tiling: Tiling | None, batch_size: int, keep_images: bool
    ) -> Iterator[Prediction | Failure]:
        if tiling is None:
            find = partial(self._find, selection)
            batches = read_batches(inputs, self.preprocessing, batch_size, keep_images=keep_images)
        else:
            find = partial(self._find_in_tiles, selection, tiling, batch_size)
            batches = read_batches(inputs, None, 1, keep_images=keep_images)
        return run_batches(batches, find, self._prediction)

    def _find(self, selection: Selection, images: Sequence[SourceImage[Tensor]]) -> list[Detections]:
        resized, sizes = [image.resized for image in images], [image.image_size for image in images]
        return self.detect(resized, sizes, score_threshold=selection.score_threshold, top_k=selection.top_k)

    def _find_in_tiles(
        self, selection: Selection, tiling: Tiling, batch_size: int, images: Sequence[SourceImage[Tensor]]
    ) -> list[Detections]:
        threshold, top_k = selection.score_threshold, selection.top_k
        return [
            detect_tiled(
                self.detect, image.resized, tiling, batch_size=batch_size, score_threshold=threshold, top_k=top_k
            )
            for image in images
        ]

    def _prediction(self, image: SourceImage[Tensor], detections: Detections) -> Prediction:
        # Copies, so that no tensor of inference mode reaches the caller.
        kept = detections[torch.arange(len(detections))]
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
        score_threshold: ScoreThreshold | None = None,
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
