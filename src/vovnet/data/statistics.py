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
_SMALL, _MEDIUM = 32**2, 96**2  # COCO's limits: areas in pixels


@dataclass(frozen=True)
class SplitStatistics:
    """Counts of one split, with valid boxes only.

    objects_per_class, images_per_class: class name → count.
    """

    split: str
    images: int
    images_without_objects: int
    objects: int
    difficult: int
    crowd: int
    with_mask: int
    objects_per_class: dict[str, int]
    images_per_class: dict[str, int]


@dataclass(frozen=True)
class BoxStatistics:
    """Sizes of the boxes in all splits; an image of two splits counts once.

    small, medium, large: numbers of boxes by COCO's limits, areas of 32² and 96² pixels.
    relative_size: percentile → √(box area / image area).
    aspect_ratio: percentile → width / height.
    """

    small: int
    medium: int
    large: int
    relative_size: dict[int, float]
    aspect_ratio: dict[int, float]


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
            areas.append((x2 - x1) * (y2 - y1))
            relative_sizes.append(math.sqrt(areas[-1] / (height * width)))
            aspect_ratios.append((x2 - x1) / (y2 - y1))
    return BoxStatistics(
        small=sum(area < _SMALL for area in areas),
        medium=sum(_SMALL <= area < _MEDIUM for area in areas),
        large=sum(area >= _MEDIUM for area in areas),
        relative_size=_percentiles(relative_sizes),
        aspect_ratio=_percentiles(aspect_ratios),
    )


def _percentiles(values: Sequence[float]) -> dict[int, float]:
    return dict(zip(_PERCENTILES, np.percentile(values, _PERCENTILES).tolist(), strict=True)) if values else {}
