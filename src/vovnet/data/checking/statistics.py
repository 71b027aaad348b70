"""Numbers of objects of each class and size in a dataset."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vovnet.data.checking.image_scan import Scans
from vovnet.data.checking.quantiles import Numbers
from vovnet.data.dataset import ImageAnnotation, SplitAnnotations, is_valid_box
from vovnet.data.keys import are_repeated
from vovnet.data.spooled import Spool

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


def compute_statistics(splits: Sequence[SplitAnnotations], scans: Scans) -> Statistics:
    """Statistics of the valid boxes. The sizes of the images are those of the scans."""
    return Statistics(tuple(map(_split_statistics, splits)), _box_statistics(splits, scans))


def _split_statistics(split: SplitAnnotations) -> SplitStatistics:
    counts: Counter[str] = Counter()
    objects_per_class: Counter[str] = Counter()
    images_per_class: Counter[str] = Counter()
    for image in split.images:
        objects = [obj for obj in image.objects if is_valid_box(obj.box)]
        counts["empty"] += not objects
        counts["annotated"] += len(image.objects) + image.unusable_objects
        for obj in objects:
            objects_per_class[obj.class_name] += 1
            counts["difficult"] += obj.difficult
            counts["crowd"] += obj.crowd
            counts["mask"] += obj.mask is not None
        images_per_class.update({obj.class_name for obj in objects})
    return SplitStatistics(
        split=split.split,
        images=len(split.images),
        images_without_objects=counts["empty"],
        objects=objects_per_class.total(),
        annotated_objects=counts["annotated"],
        difficult=counts["difficult"],
        crowd=counts["crowd"],
        with_mask=counts["mask"],
        objects_per_class={name: objects_per_class[name] for name in split.class_names},
        images_per_class={name: images_per_class[name] for name in split.class_names},
    )


def _box_statistics(splits: Sequence[SplitAnnotations], scans: Scans) -> BoxStatistics:
    spool, limits = Spool(), (SMALL, MEDIUM)
    relative_sizes, aspect_ratios, by_area = Numbers(spool), Numbers(spool), [0, 0, 0]
    for image in _each_once(splits):
        scan = scans[image.image_path]
        if scan.error:
            continue
        height, width = scan.image_size
        for x1, y1, x2, y2 in (obj.box for obj in image.objects if is_valid_box(obj.box)):
            area, ratio = (x2 - x1) * (y2 - y1), (x2 - x1) / (y2 - y1)
            if max(x2 - x1, y2 - y1) > _LARGEST or math.isinf(ratio):  # not meant, and its area may be infinite
                continue
            by_area[bisect_right(limits, area)] += 1
            relative_sizes.add(math.sqrt(area / (height * width)))
            aspect_ratios.add(ratio)
    small, medium, large = by_area
    return BoxStatistics(
        small=small,
        medium=medium,
        large=large,
        relative_size=relative_sizes.percentiles(_PERCENTILES),
        aspect_ratio=aspect_ratios.percentiles(_PERCENTILES),
        at_input_size={side: _sizes_at(side, relative_sizes) for side in _INPUT_SIDES} if len(relative_sizes) else {},
    )


def _each_once(splits: Sequence[SplitAnnotations]) -> Iterator[ImageAnnotation]:
    """The image of two splits as the last one has it."""
    keys = np.concatenate([np.empty(0, np.int64), *(split.images.keys for split in splits)])
    is_last = ~are_repeated(keys)
    repeated = np.flatnonzero(~is_last)
    _, position_from_end = np.unique(keys[repeated][::-1], return_index=True)
    is_last[repeated[len(repeated) - 1 - position_from_end]] = True
    start = 0
    for split in splits:
        yield from split.images.select(is_last[start : start + len(split.images)])
        start += len(split.images)


def _sizes_at(side: int, sizes: Numbers) -> InputBoxSizes:
    return InputBoxSizes(sizes.median(side), sizes.fraction_below(8, side), sizes.fraction_below(16, side))
