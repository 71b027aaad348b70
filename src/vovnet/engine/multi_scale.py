"""The multi-scale test of RefineDet ("+" in Table 6): many sizes, each plain and mirrored, merged by box voting.

Source: the test script of RefineDet (arXiv 1711.06897).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vovnet.errors import UsageError
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.detectors.merging import mirror, select_sizes, vote_boxes
from vovnet.structures import Detections


@dataclass(frozen=True)
class Scale:
    """One size of the network's input, and which of its detections count.

    side: of a square, in pixels. short: makes it a rectangle, whose longer side is `side`, lying or standing as the
    image does. shorter_below, longer_above: bounds of a detection's shorter and longer side, in the image's pixels.
    """

    side: int
    short: int | None = None
    shorter_below: float | None = None
    longer_above: float | None = None

    def input_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the input for an image of (height, width); a square image stands."""
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
    """A multi-scale test: its scales, and whether boxes vote softly, as COCO's do (`vote_boxes`)."""

    scales: tuple[Scale, ...]
    soft_vote: bool = False

    def __post_init__(self) -> None:
        if not self.scales:
            raise ValueError("a multi-scale test needs at least one scale, got none")


# By input size and data set.
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
            "give scales of your own"
        )
    return PUBLISHED[height, data]


@torch.inference_mode()
def detect_multi_scale(model: DetectionModel, image: Tensor, test: MultiScale) -> Detections:
    """The detections of one image, from all scales together.

    image: uint8 RGB (3, H, W) in its own size; model: in evaluation mode. Every run is the whole single-scale test.
    They follow one another and leave only detections, on the CPU, so the most memory is that of the largest scale. It
    comes first: what it frees serves the others, where memory that grows step by step would be left in pieces.
    """
    _check_takes_any_size(model)
    sizes = [scale.input_size((image.shape[1], image.shape[2])) for scale in test.scales]
    order = sorted(range(len(sizes)), key=lambda place: -sizes[place][0] * sizes[place][1])
    found = {place: _detect_at(test.scales[place], model, image) for place in order}
    return vote_boxes([one for place in sorted(found) for one in found[place]], soft=test.soft_vote)


def _detect_at(scale: Scale, model: DetectionModel, image: Tensor) -> list[Detections]:
    """What counts of the image and of the mirrored image at one scale."""
    image_size = (image.shape[1], image.shape[2])
    input_size = scale.input_size(image_size)
    resized = model.preprocessing.resize(image, input_size)
    both = torch.stack([resized, resized.flip(-1)]).to(next(model.parameters()).device)
    outputs = model(model.preprocessing.normalize(both))
    plain, mirrored = model.decode(outputs, [image_size] * 2, input_size=input_size)
    return [
        select_sizes(found, shorter_below=scale.shorter_below, longer_above=scale.longer_above)
        for found in (plain.cpu(), mirror(mirrored.cpu()))
    ]


def _check_takes_any_size(model: DetectionModel) -> None:
    if model.input_multiple is None:
        height, width = model.preprocessing.image_size
        raise UsageError(
            "a multi-scale test needs a RefineDet, which takes inputs of any multiple of 64; "
            f"{type(model).__name__} takes only {height}×{width}: test it at that scale"
        )
