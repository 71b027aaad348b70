"""The default boxes of a run that fits them to its training split (`default_boxes: data`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from vovnet.data.dataset import DetectionDataset
from vovnet.data.default_boxes import Floats, LevelShape, PlacedBoxes, fit_default_boxes, matched_share
from vovnet.data.transforms import SSDAugmentation
from vovnet.errors import UsageError
from vovnet.media.pixels import image_header_size
from vovnet.models.anchors import Level
from vovnet.models.detectors.decoding import OneStageDetector
from vovnet.structures import Target
from vovnet.weights.detector import ModelInfo

_MOST_IMAGES = 5000  # whose objects are looked at, from all parts of the split
_DRAWS = 1000  # augmented images: of a small split each is drawn several times
_LEAST_GAIN = 0.01  # for which trained heads get other boxes
_SMALL = 32.0  # pixels of the network's input, √area

Samples = Sequence[tuple[tuple[int, int], Target]]  # (height, width) of an image, and its objects


@dataclass(frozen=True)
class MatchedShares:
    """Shares of the training objects that a default box matches at IoU 0.5, as the images are outside of training.

    small: of the objects below 32 pixels (√area) in the network's input; None without any.
    in_training: of the objects as augmentation shows them.
    """

    objects: float | None
    small: float | None
    in_training: float | None


@dataclass(frozen=True)
class FittedBoxes:
    """Default boxes that suit a dataset.

    anchors: for the model option of this name.
    before, after: what the model's present boxes match, and what these do.
    """

    anchors: list[list[list[float]]]
    before: MatchedShares
    after: MatchedShares

    @property
    def worthwhile(self) -> bool:
        """Whether these match a point more than the present ones, of all objects or of the small ones."""
        pairs = ((self.before.objects, self.after.objects), (self.before.small, self.after.small))
        return any(after - before >= _LEAST_GAIN for before, after in pairs if before is not None and after is not None)

    def to_dict(self) -> dict[str, Any]:
        """For a record."""
        return {"before": asdict(self.before), "after": asdict(self.after)}

    def sentence(self) -> str:
        """For the log."""
        parts = [f"default boxes fitted to the data match {_percent(self.after.objects)} of the training objects"]
        parts.append(f"the model's own {_percent(self.before.objects)}")
        if self.after.small is not None:
            parts.append(f"of those below 32 pixels {_percent(self.after.small)} and {_percent(self.before.small)}")
        return ", ".join(parts) + " (IoU 0.5)"


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.1%}"


def fit_to_data(info: ModelInfo, dataset: DetectionDataset, augment: SSDAugmentation | None = None) -> FittedBoxes:
    """Default boxes for the detector `info` that suit the objects of a training split.

    augment: how training will change the images. Half of the objects that the boxes are fitted to are as they are, half
        as they are drawn with it; None: all as they are.

    Raises UsageError for a two-stage detector, and ValueError for a split without objects.
    """
    model, map_sizes = _seen_on_meta(info)
    size = model.preprocessing.image_size
    samples = _readable(dataset)
    plain, drawn = _boxes(samples, size), np.zeros((0, 4))
    if not len(plain):
        raise ValueError(f"{dataset.root}, split {dataset.split}, has no objects that default boxes could be fitted to")
    if augment is not None:
        rounds = math.ceil(_DRAWS / len(samples))
        drawn = np.concatenate([*_drawn(samples, augment, rounds), drawn])
    repeated = np.tile(plain, (max(1, round(len(drawn) / len(plain))), 1))
    sizes = np.concatenate([boxes[:, 2:] - boxes[:, :2] for boxes in (repeated, drawn)])
    usual = _place(model.anchors.levels, map_sizes, size)
    strides = [LevelShape(min(level.step), level.shapes) for level in usual]
    fitted = fit_default_boxes(sizes, strides, size)
    placed = [level._replace(shapes=tuple(shapes)) for level, shapes in zip(usual, fitted, strict=True)]
    anchors = [[[width, height] for width, height in shapes] for shapes in fitted]
    before, after = (_shares(plain, drawn, levels) for levels in (usual, placed))
    return FittedBoxes(anchors, before, after)


def with_anchors(options: Mapping[str, Any], fitted: FittedBoxes) -> dict[str, Any]:
    """Model options with the fitted boxes."""
    return {**options, "anchors": fitted.anchors}


def _seen_on_meta(info: ModelInfo) -> tuple[OneStageDetector, Sequence[tuple[int, int]]]:
    """The detector without values, and (rows, columns) of its feature maps."""
    model = info.build_on_meta()
    if not isinstance(model, OneStageDetector):
        raise UsageError(
            f"default_boxes=data is for one-stage detectors, {info.name} has two: set default_boxes=published"
        )
    size = model.preprocessing.image_size
    with torch.no_grad():
        model.eval()(torch.empty(1, 3, *size, device="meta"))
    return model, model.anchors.map_sizes[size]


def _place(
    levels: Sequence[Level], map_sizes: Sequence[tuple[int, int]], image_size: tuple[int, int]
) -> list[PlacedBoxes]:
    height, width = image_size
    return [
        PlacedBoxes(tuple(level.shapes()), rows, columns, (level.step or height / rows, level.step or width / columns))
        for level, (rows, columns) in zip(levels, map_sizes, strict=True)
    ]


def _readable(dataset: DetectionDataset) -> list[tuple[tuple[int, int], Target]]:
    """The size of images from all parts of the split, and the objects that training learns from."""
    found = []
    for sample in dataset.samples[:: math.ceil(len(dataset) / _MOST_IMAGES)]:
        with suppress(ValueError, OSError):  # training itself says so when it needs the image
            size = sample.image_size or image_header_size(sample.image_path)
            found.append((size, sample.target[~sample.target.crowd]))
    return found


def _boxes(samples: Samples, size: tuple[int, int]) -> Floats:
    """The objects, (M, 4) in pixels of the network's input."""
    found = [np.zeros((0, 4))]
    for (height, width), target in samples:
        boxes = target.boxes.numpy().astype(np.float64)
        scale = np.tile([size[1] / width, size[0] / height], 2)
        found.append(boxes.clip(0, [width, height] * 2) * scale)
    boxes = np.concatenate(found)
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]


def _drawn(samples: Samples, augment: SSDAugmentation, rounds: int) -> Iterator[Floats]:
    """The objects of augmented images, each drawn in each round."""
    for number in range(rounds):
        for index, (size, target) in enumerate(samples):
            drawn = augment.plan(size, target, np.random.default_rng([number, index]))[1]
            yield drawn.boxes.numpy().astype(np.float64)


def _shares(plain: Floats, drawn: Floats, placed: Sequence[PlacedBoxes]) -> MatchedShares:
    small = np.sqrt((plain[:, 2:] - plain[:, :2]).prod(axis=1)) < _SMALL
    shares = (matched_share(boxes, placed) for boxes in (plain, plain[small], drawn))
    return MatchedShares(*(None if math.isnan(share) else round(share, 4) for share in shares))
