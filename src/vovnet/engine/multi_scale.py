"""The multi-scale test of RefineDet ("+" in Table 6): several input sizes, each also mirrored, merged by box voting.

Source: the test script of RefineDet (arXiv 1711.06897).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vovnet.engine.predicting.predictor import Predictor
from vovnet.errors import UsageError
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.detectors.merging import mirror, select_sizes, vote_boxes
from vovnet.structures import Detections


@dataclass(frozen=True)
class Scale:
    """One input size of the network, and which of its detections count.

    side: side of a square input, in pixels; with `short` the longer side of a rectangle.
    short: shorter side of a rectangle, which is landscape or portrait as the image is.
    shorter_below: the shorter side of a detection must be less, in pixels of the image.
    longer_above: the longer side of a detection must be more, in pixels of the image.
    """

    side: int
    short: int | None = None
    shorter_below: float | None = None
    longer_above: float | None = None

    def input_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the input for an image of (height, width); a square image counts as portrait."""
        short = self.short or self.side
        height, width = image_size
        return (short, self.side) if height < width else (self.side, short)


SCALES_320 = (
    Scale(320),
    Scale(320, short=192),  # × 0.6
    Scale(192, longer_above=32),
    Scale(384, shorter_below=160),
    Scale(448, shorter_below=128),
    Scale(512, shorter_below=96),
    Scale(576, shorter_below=64),
    Scale(640, shorter_below=48),  # COCO only
    Scale(704, shorter_below=32),
)
SCALES_512 = (
    Scale(512),
    Scale(512, short=384),  # × 0.75
    Scale(256),
    Scale(384),
    Scale(640, shorter_below=224),  # COCO only
    Scale(768, shorter_below=192),
    Scale(896, shorter_below=128),
    Scale(1024, shorter_below=96),  # COCO only
    Scale(1152, shorter_below=64),  # COCO only
)


@dataclass(frozen=True)
class MultiScale:
    """The scales of a test, and whether boxes vote softly, as for COCO (see `vote_boxes`)."""

    scales: tuple[Scale, ...]
    soft_vote: bool = False

    def __post_init__(self) -> None:
        if not self.scales:
            raise ValueError("a multi-scale test needs at least one scale, got none")


# (input size, dataset) → test
PUBLISHED = {
    (320, "coco"): MultiScale(SCALES_320, soft_vote=True),
    (320, "voc"): MultiScale(tuple(scale for scale in SCALES_320 if scale.side != 640)),
    (512, "coco"): MultiScale(SCALES_512, soft_vote=True),
    (512, "voc"): MultiScale(tuple(scale for scale in SCALES_512 if scale.side not in (640, 1024, 1152))),
}


def published_multi_scale(model: DetectionModel, data: Literal["voc", "coco"]) -> MultiScale:
    """The published test of RefineDet320 and RefineDet512 on VOC or COCO."""
    _check_takes_any_size(model)
    height, width = model.preprocessing.image_size
    if height != width or (height, data) not in PUBLISHED:
        raise UsageError(
            f"the published multi-scale tests are for inputs of 320×320 and 512×512, the model's is {height}×{width}; "
            "pass scales of your own"
        )
    return PUBLISHED[height, data]


def detect_multi_scale(detector: Predictor, image: Tensor, test: MultiScale) -> Detections:
    """The detections of one image, uint8 RGB (3, H, W) in its own size, merged from all scales.

    Each scale runs the whole single-scale test. Only its detections are kept, on the CPU, so peak memory is that of the
    largest scale. The largest runs first: later scales reuse its memory, while growing sizes would fragment it.
    """
    _check_takes_any_size(detector.model)
    image_size = (image.shape[1], image.shape[2])
    largest_first = sorted(test.scales, key=lambda scale: math.prod(scale.input_size(image_size)), reverse=True)
    runs = {scale: _detect_at(scale, detector, image) for scale in largest_first}
    return vote_boxes([run for scale in test.scales for run in runs[scale]], soft=test.soft_vote)


def _detect_at(scale: Scale, detector: Predictor, image: Tensor) -> list[Detections]:
    """The detections that count at one scale, in the image and in the mirrored image."""
    image_size = (image.shape[1], image.shape[2])
    resized = detector.model.preprocessing.resize(image, scale.input_size(image_size))
    plain, mirrored = detector.detect([resized, resized.flip(-1)], [image_size] * 2)
    return [
        select_sizes(detections, shorter_below=scale.shorter_below, longer_above=scale.longer_above)
        for detections in (plain, mirror(mirrored))
    ]


def _check_takes_any_size(model: DetectionModel) -> None:
    if model.input_multiple is None:
        height, width = model.preprocessing.image_size
        raise UsageError(
            "a multi-scale test needs a model that takes several input sizes, as a RefineDet does; "
            f"{type(model).__name__} takes only {height}×{width}: test it at that scale"
        )
