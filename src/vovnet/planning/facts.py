"""What a plan needs to know of the data: numbers of images, sizes of objects, names of classes."""

from __future__ import annotations

import math
import re
import time
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from vovnet.data.dataset import DetectionDataset, Sample
from vovnet.data.formats import open_dataset, require_objects
from vovnet.data.tiles import cut_into_tiles
from vovnet.engine.config import TilesConfig
from vovnet.media.pixels import image_header_size
from vovnet.planning.splits import Splits

_SIDES = {"left", "right"}
_MOST_SAMPLES = 2000  # whose objects are looked at


@dataclass(frozen=True)
class Facts:
    """A dataset as a plan sees it.

    train, val, test: the opened splits; val and test are None where there is none.
    sides: √(box area) of the training objects in pixels of their images, (M,).
    relative_sides: the same as fractions of √(image area), (M,).
    opening_s: seconds that it took to read all this.
    """

    splits: Splits
    train: DetectionDataset
    val: DetectionDataset | None
    test: DetectionDataset | None
    sides: np.ndarray
    relative_sides: np.ndarray
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
    if tiles is not None:
        train = cut_into_tiles(train, tiles.tiling, seed=seed)
    stride = max(1, len(train) // _MOST_SAMPLES)
    sizes = [_sides(sample) for sample in train.samples[::stride]]
    sides, relative = (np.concatenate([np.empty(0), *(part[index] for part in sizes)]) for index in (0, 1))
    return Facts(splits, train, val, test, sides, relative, time.monotonic() - began)


def _sides(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """√area of the objects of an image in pixels, and as a fraction of the image's."""
    with suppress(ValueError, OSError):
        height, width = sample.image_size or image_header_size(sample.image_path)
        boxes = sample.target.boxes[~sample.target.crowd]
        sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).double().numpy().prod(axis=1))
        return sides, sides / math.sqrt(height * width)
    return np.empty(0), np.empty(0)
