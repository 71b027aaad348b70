"""What a plan needs to know of the data: numbers of images, sizes of objects, names of classes."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from vovnet.data.dataset import DetectionDataset, Sample
from vovnet.data.formats import open_dataset, require_objects
from vovnet.data.tiles import cut_into_tiles
from vovnet.engine.config import TilesConfig
from vovnet.media.pixels import image_header_size
from vovnet.planning.splits import Splits
from vovnet.runtime.tiles import Tiling

_SIDES = {"left", "right"}
_MOST_SAMPLES = 2000  # whose objects are looked at


@dataclass(frozen=True)
class Facts:
    """A dataset as a plan sees it.

    train, val, test: the opened splits; val and test are None where there is none.
    sides: √(box area) of the training objects in pixels of their images, (M,).
    relative_sides: the same as fractions of √(image area), (M,).
    parts: in which an image of val or test is detected on average: itself, and its tiles if there are to be any.
    opening_s: seconds that it took to read all this.
    """

    splits: Splits
    train: DetectionDataset
    val: DetectionDataset | None
    test: DetectionDataset | None
    sides: np.ndarray
    relative_sides: np.ndarray
    parts: float = 1.0
    opening_s: float = 0.0

    @property
    def median_side(self) -> float:
        """Of the training objects, as a fraction of the image's side."""
        return float(np.median(self.relative_sides)) if len(self.relative_sides) else 1.0

    @property
    def sided_classes(self) -> list[str]:
        """Classes that a mirrored image would turn into others, by their names."""
        return [name for name in self.train.class_names if _SIDES & set(re.findall("[a-z]+", name.lower()))]


def read_facts(splits: Splits, tiles: TilesConfig | None, *, seed: int = 0) -> Facts:
    """Open the splits, which have passed the check. ValueError if there is nothing to learn.

    tiles: into which the training images will be cut.
    """
    began = time.monotonic()
    train = open_dataset(splits.root, splits.train)
    require_objects(train)
    val, test = (
        None if name is None else open_dataset(splits.root, name, class_names=train.class_names)
        for name in (splits.val, splits.test)
    )
    parts = 1.0
    if tiles is not None:
        train = cut_into_tiles(train, tiles.tiling, seed=seed)
        parts = _mean_parts([dataset for dataset in (val, test) if dataset is not None], tiles.tiling)
    sizes = [_sides(sample) for sample in _some(train)]
    sides, relative = (np.concatenate([np.empty(0), *(part[index] for part in sizes)]) for index in (0, 1))
    return Facts(splits, train, val, test, sides, relative, parts, time.monotonic() - began)


def _some(dataset: DetectionDataset) -> Sequence[Sample]:
    """Samples from all parts of a split."""
    return dataset.samples[:: max(1, len(dataset) // _MOST_SAMPLES)]


def _mean_parts(datasets: Sequence[DetectionDataset], tiling: Tiling) -> float:
    """In how many parts an image is detected, on average; 1 without images."""
    counts = []
    for sample in (sample for dataset in datasets for sample in _some(dataset)):
        with suppress(ValueError, OSError):
            counts.append(sum(1 for _ in tiling.parts(sample.image_size or image_header_size(sample.image_path))))
    return sum(counts) / len(counts) if counts else 1.0


def _sides(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """√area of the objects of an image in pixels, and as a fraction of the image's."""
    with suppress(ValueError, OSError):
        height, width = sample.image_size or image_header_size(sample.image_path)
        boxes = sample.target.boxes[~sample.target.crowd]
        sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).double().numpy().prod(axis=1))
        return sides, sides / math.sqrt(height * width)
    return np.empty(0), np.empty(0)
