"""Numbers of objects of each class and size in a dataset."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vovnet.data.dataset import SplitAnnotations, is_valid_box

_PERCENTILES = (0, 5, 25, 50, 75, 95, 100)
_INPUT_SIDES = (300, 320, 512)  # of the detectors that resize every image to one size
_TOO_SMALL = 10.0  # pixels: a third of the smallest default box of 30 pixels, which then has an IoU of 0.1 at most
_LARGEST = 1e9  # pixels
SMALL, MEDIUM = 32**2, 96**2  # COCO's limits: areas in pixels


@dataclass(frozen=True)
class SplitStatistics:
    """Counts of one split, with valid boxes only.

    annotated_objects: those with invalid boxes too, and those that could not be read.
    objects_per_class, images_per_class: class name → count.
    """

    split: str
    images: int
    images_without_objects: int
    objects: int
    annotated_objects: int
    difficult: int
    crowd: int
    with_mask: int
    objects_per_class: dict[str, int]
    images_per_class: dict[str, int]


@dataclass(frozen=True)
class InputBoxSizes:
    """√(box area) in pixels of a network's input: the median, and the fractions of boxes below 8 and 16 pixels."""

    median: float
    below_8: float
    below_16: float


@dataclass(frozen=True)
class BoxStatistics:
    """Sizes of the boxes in all splits; an image of two splits counts once.

    small, medium, large: numbers of boxes by COCO's limits, areas of 32² and 96² pixels.
    relative_size: percentile → √(box area / image area).
    aspect_ratio: percentile → width / height.
    at_input_size: side of a network's square input in pixels → sizes of the boxes in it.
    """

    small: int
    medium: int
    large: int
    relative_size: dict[int, float]
    aspect_ratio: dict[int, float]
    at_input_size: dict[int, InputBoxSizes]

    def hints(self) -> list[str]:
        """A sentence if the boxes are too small for the smallest input sizes."""
        sizes = self.at_input_size
        if not sizes or sizes[min(sizes)].median > _TOO_SMALL:
            return []
        medians = ", ".join(f"{box.median:.1f} at {side} × {side}" for side, box in sizes.items())
        return [
            f"half of the objects are smaller than this many pixels (√area) in a network's input: {medians}; detectors "
            "hardly learn objects of 10 pixels or less: use a larger input (RefineDet512), or Mask R-CNN or Faster "
            "R-CNN, whose input is larger still and keeps the aspect ratio"
        ]


@dataclass(frozen=True)
class Statistics:
    splits: tuple[SplitStatistics, ...]
    boxes: BoxStatistics


def compute_statistics(splits: Sequence[SplitAnnotations], image_sizes: Mapping[Path, tuple[int, int]]) -> Statistics:
    """Statistics of the valid boxes.

    image_sizes: (height, width) of each readable image.
    """
    return Statistics(tuple(map(_split_statistics, splits)), _box_statistics(splits, image_sizes))


def _split_statistics(split: SplitAnnotations) -> SplitStatistics:
    by_image = [[obj for obj in image.objects if is_valid_box(obj.box)] for image in split.images]
    objects = [obj for image_objects in by_image for obj in image_objects]
    objects_per_class = Counter(obj.class_name for obj in objects)
    images_per_class = Counter(name for image_objects in by_image for name in {obj.class_name for obj in image_objects})
    return SplitStatistics(
        split=split.split,
        images=len(by_image),
        images_without_objects=sum(not image_objects for image_objects in by_image),
        objects=len(objects),
        annotated_objects=sum(len(image.objects) + image.unusable_objects for image in split.images),
        difficult=sum(obj.difficult for obj in objects),
        crowd=sum(obj.crowd for obj in objects),
        with_mask=sum(obj.mask is not None for obj in objects),
        objects_per_class={name: objects_per_class[name] for name in split.class_names},
        images_per_class={name: images_per_class[name] for name in split.class_names},
    )


def _box_statistics(splits: Sequence[SplitAnnotations], image_sizes: Mapping[Path, tuple[int, int]]) -> BoxStatistics:
    images = {image.image_path: image for split in splits for image in split.images if image.image_path in image_sizes}
    areas, relative_sizes, aspect_ratios = [], [], []
    for path, image in images.items():
        height, width = image_sizes[path]
        for x1, y1, x2, y2 in (obj.box for obj in image.objects if is_valid_box(obj.box)):
            if max(x2 - x1, y2 - y1) > _LARGEST:  # not meant, and its area may be infinite
                continue
            areas.append((x2 - x1) * (y2 - y1))
            relative_sizes.append(math.sqrt(areas[-1] / (height * width)))
            aspect_ratios.append((x2 - x1) / (y2 - y1))
    return BoxStatistics(
        small=sum(area < SMALL for area in areas),
        medium=sum(SMALL <= area < MEDIUM for area in areas),
        large=sum(area >= MEDIUM for area in areas),
        relative_size=_percentiles(relative_sizes),
        aspect_ratio=_percentiles(aspect_ratios),
        at_input_size={side: _sizes_at(side, relative_sizes) for side in _INPUT_SIDES} if relative_sizes else {},
    )


def _sizes_at(side: int, relative_sizes: Sequence[float]) -> InputBoxSizes:
    sizes = side * np.asarray(relative_sizes)
    return InputBoxSizes(float(np.median(sizes)), float((sizes < 8).mean()), float((sizes < 16).mean()))


def _percentiles(values: Sequence[float]) -> dict[int, float]:
    return dict(zip(_PERCENTILES, np.percentile(values, _PERCENTILES).tolist(), strict=True)) if values else {}
