"""What PyTorch and an exported file find in the same images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from vovnet.data.images import read_image
from vovnet.engine.detector import Detector
from vovnet.engine.predicting.exported import ExportedDetector
from vovnet.export.parity import BeforeNms, MaskBounds
from vovnet.export.two_stage_reference import mask_bounds, two_stage_before_nms
from vovnet.models.detectors.decoding import OneStageDetector
from vovnet.models.detectors.mask_rcnn import MaskRCNN
from vovnet.structures import Detections

_BATCH = 8
_ALL = 10**6


class FailedError(Exception):
    """An exported file fails on an image; the text says how."""


@dataclass(frozen=True)
class Findings:
    """The detections in each image, down to the detector's own threshold, in pixels of the image.

    expected: by PyTorch, of the pixels that the exported file gets.
    usual: by PyTorch, of the pixels that its own resizing gives; None where only `expected` was asked for.
    found: by the exported file.
    bounds: between which the masks of `found` must lie; None for a detector without masks.
    grey_levels: largest difference of the pixels of both ways to resize.
    """

    expected: list[Detections]
    usual: list[Detections] | None
    found: list[Detections]
    bounds: list[MaskBounds | None]
    grey_levels: int


def find_all(
    detector: Detector,
    candidate: ExportedDetector,
    paths: Sequence[Path],
    *,
    accuracy: bool,
    on_image: Callable[[int], None] = lambda count: None,
) -> Findings:
    """Run both on all images; the exported file on one image at a time, as most use it.

    accuracy: whether to run PyTorch on its own pixels too.

    Raises FailedError if the exported file fails, ValueError or OSError if an image cannot be read.
    """
    expected, usual, found, grey_levels = list[Detections](), list[Detections](), list[Detections](), 0
    bounds = list[MaskBounds | None]()
    remaining = iter(paths)
    while batch := list(islice(remaining, _BATCH)):
        sizes, own, common = [], [], []
        for path in batch:
            image = read_image(path)
            sizes.append((image.shape[1], image.shape[2]))
            own.append(detector.preprocessing.resize(image))
            common.append(candidate.preprocessing.resize(image))
        apart = list(map(_grey_levels, own, common))
        grey_levels = max(grey_levels, *apart)
        expected += detector.detect(common, sizes)
        if accuracy:
            usual += detector.detect(own, sizes) if any(apart) else expected[-len(batch) :]
        for image, size in zip(common, sizes, strict=True):
            try:
                found += candidate.detect([image], [size])
            except ValueError as error:
                raise FailedError(str(error)) from error
            bounds.append(find_bounds(detector, image, found[-1]))
            on_image(len(found))
    return Findings(expected, usual if accuracy else None, found, bounds, grey_levels)


def _grey_levels(a: Tensor, b: Tensor) -> int:
    return int((a.short() - b.short()).abs().max()) if a.shape == b.shape else 255


def find_bounds(detector: Detector, image: Tensor, found: Detections) -> MaskBounds | None:
    """Between which PyTorch's masks those of an exported file must lie; None for a detector without masks.

    image: of the network's input size.
    """
    model = detector.model
    return mask_bounds(model, image.to(detector.device), found) if isinstance(model, MaskRCNN) and model.masks else None


def before_nms(detector: Detector, image: Tensor, size: tuple[int, int], floor: float) -> BeforeNms | None:
    """What PyTorch finds in an image above the score `floor` without NMS; None if there is no such result.

    image: of the network's input size; size: (height, width) of the original.
    """
    model, pixels = detector.model, image[None].to(detector.device)
    if isinstance(model, MaskRCNN):
        return two_stage_before_nms(model, pixels, size, floor)
    if not isinstance(model, OneStageDetector):
        return None
    with torch.inference_mode():
        (detections,) = model.decode(
            model(model.preprocessing.normalize(pixels)),
            [size],
            input_size=(image.shape[1], image.shape[2]),
            score_threshold=max(0.0, floor),
            nms_threshold=1.0,
            candidates=_ALL,
            top_k=_ALL,
        )
    return BeforeNms(detections.cpu())
