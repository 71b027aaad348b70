"""What a plan needs to know of the data: numbers of images, sizes of objects, names of classes."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from vovnet.data.dataset import DetectionDataset, Sample
from vovnet.data.formats import open_dataset, require_objects
from vovnet.media.pixels import image_header_size
from vovnet.planning.splits import Splits

_SIDES = {"left", "right"}
_MOST_SAMPLES = 2000  # whose objects are looked at


@dataclass(frozen=True)
class Facts:
    """A dataset as a plan sees it.

    train, val, test: the opened splits; val and test are None where there is none.
    relative_sides: √(box area / image area) of the training objects, (M,).
    """

    splits: Splits
    train: DetectionDataset
    val: DetectionDataset | None
    test: DetectionDataset | None
    relative_sides: np.ndarray

    @property
    def median_side(self) -> float:
        """Of the training objects, as a fraction of the image's side."""
        return float(np.median(self.relative_sides)) if len(self.relative_sides) else 1.0

    @property
    def sided_classes(self) -> list[str]:
        """Classes that a mirrored image would turn into others, by their names."""
        return [name for name in self.train.class_names if _SIDES & set(re.findall("[a-z]+", name.lower()))]


def read_facts(splits: Splits) -> Facts:
    """Open the splits, which have passed the check. ValueError if there is nothing to learn."""
    train = open_dataset(splits.root, splits.train)
    require_objects(train)
    val, test = (
        None if name is None else open_dataset(splits.root, name, class_names=train.class_names)
        for name in (splits.val, splits.test)
    )
    stride = max(1, len(train) // _MOST_SAMPLES)
    sides = [_relative_sides(sample) for sample in train.samples[::stride]]
    return Facts(splits, train, val, test, np.concatenate([np.empty(0), *sides]))


def _relative_sides(sample: Sample) -> np.ndarray:
    with suppress(ValueError, OSError):
        height, width = sample.image_size or image_header_size(sample.image_path)
        boxes = sample.target.boxes[~sample.target.crowd]
        sizes = (boxes[:, 2:] - boxes[:, :2]).double().numpy()
        return np.asarray(np.sqrt(sizes.prod(axis=1) / (height * width)))
    return np.empty(0)
