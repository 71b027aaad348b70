"""Default boxes that suit a dataset: k-means by IoU over the sizes of its objects, and the share of them that match.

All sizes are widths and heights in pixels of the network's input.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Shape = tuple[float, float]

MATCHED_IOU = 0.5  # of an object and a default box, from which SSD and RefineDet learn the object from the box
_SURE_OFFSET = 1 - math.sqrt(2 / 3)  # of two equal squares in x and in y, as a share of the side: their IoU is 0.5
_MOST_SIZES = 100_000  # that k-means sees: a larger sample changes no box by a pixel
_LEAST_SIDE = 1.0  # of a default box
_TRIES, _ROUNDS = 4, 100
_SEED = 0


class LevelShape(NamedTuple):
    """A feature map for which default boxes are wanted; the finest comes first.

    stride: pixels from one cell to the next.
    usual: (width, height) of the boxes that a cell has now. Their number stays; they remain themselves where no object
        suits the map.
    """

    stride: float
    usual: tuple[Shape, ...]

    @property
    def per_cell(self) -> int:
        return len(self.usual)


class PlacedBoxes(NamedTuple):
    """The default boxes of a feature map where they stand.

    shapes: (width, height) of the boxes of a cell.
    rows, columns: of cells.
    step: pixels between the centres of neighbouring cells, in y and in x; the first is half a step from the edge.
    """

    shapes: tuple[Shape, ...]
    rows: int
    columns: int
    step: tuple[float, float]


def fit_default_boxes(sizes_wh: Floats, levels: Sequence[LevelShape], image_size: tuple[int, int]) -> list[list[Shape]]:
    """The (width, height) of the default boxes of each feature map, rounded to a tenth of a pixel, smallest first.

    An object belongs to the coarsest map whose grid is fine enough for it: a square box matches a square object of its
    size at IoU 0.5 wherever it lies if the size is 2.72 strides or more, or 73 % of the image's side, so that the
    middle of the image is near enough. The finest map has all smaller objects. Among the objects of a map, k-means
    finds as many boxes as its cells have. The result is the same each time.

    sizes_wh: (M, 2), of the objects that will be trained on. Those that are not finite or not positive do not count.
    image_size: (height, width) of the network's input.
    """
    sizes = _usable(sizes_wh, image_size)
    sides = np.sqrt(sizes.prod(axis=1))
    bounds = _smallest_sides(levels, image_size)
    random = np.random.default_rng(_SEED)
    fitted: list[list[Shape]] = []
    for bound, numbers in groupby(range(len(levels)), key=bounds.__getitem__):
        group = [levels[number] for number in numbers]
        end = min((other for other in bounds if other > bound), default=math.inf)
        shapes = _fit_group(sizes[(sides >= bound) & (sides < end)], group, random)
        for level in group:
            fitted.append(shapes[: level.per_cell])
            shapes = shapes[level.per_cell :]
    return fitted


def matched_share(boxes: Floats, placed: Sequence[PlacedBoxes]) -> float:
    """The share of objects that have an IoU of 0.5 or more with some default box; NaN without objects.

    boxes: (M, 4), x1 y1 x2 y2.
    """
    return float((best_iou(boxes, placed) >= MATCHED_IOU).mean()) if len(boxes) else math.nan


def best_iou(boxes: Floats, placed: Sequence[PlacedBoxes]) -> Floats:
    """The largest IoU of each object (M, 4) with a default box, (M,).

    Of equal boxes the one whose centre is nearest, in x and in y, overlaps most: no other cell has to be looked at.
    """
    best = np.zeros(len(boxes))
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    for level in placed:
        step = np.array(level.step[::-1])
        cells = np.clip(np.floor(centres / step), 0, [level.columns - 1, level.rows - 1])
        offsets = np.abs((cells + 0.5) * step - centres)
        for shape in level.shapes:
            np.maximum(best, _iou_at(sizes, np.array(shape), offsets), out=best)
    return best


def _iou_at(sizes: Floats, shape: Floats, offsets: Floats) -> Floats:
    """IoU of boxes with another, whose centres are `offsets` apart; (…, 2) each → (…,)."""
    overlap = np.minimum(np.minimum(sizes, shape), (sizes + shape) / 2 - offsets).clip(min=0).prod(axis=-1)
    return np.asarray(overlap / (sizes.prod(axis=-1) + shape.prod(axis=-1) - overlap))


def _usable(sizes_wh: Floats, image_size: tuple[int, int]) -> Floats:
    sizes = np.asarray(sizes_wh, np.float64).reshape(-1, 2)
    sizes = sizes[(np.isfinite(sizes) & (sizes > 0)).all(axis=1)].clip(_LEAST_SIDE, image_size[::-1])
    if len(sizes) > _MOST_SIZES:
        sizes = sizes[np.random.default_rng(_SEED).choice(len(sizes), _MOST_SIZES, replace=False)]
    return sizes


def _smallest_sides(levels: Sequence[LevelShape], image_size: tuple[int, int]) -> list[float]:
    """√area of the smallest objects of each feature map."""
    largest = math.sqrt(math.prod(image_size)) / (1 + 2 * _SURE_OFFSET)
    bounds = [0.0, *(min(level.stride / (2 * _SURE_OFFSET), largest) for level in levels[1:])]
    if levels[1:] and levels[1].stride == levels[0].stride:  # two heads on one map share its objects
        bounds[1] = 0.0
    return np.maximum.accumulate(bounds).tolist()


def _fit_group(sizes: Floats, levels: Sequence[LevelShape], random: np.random.Generator) -> list[Shape]:
    """The boxes of feature maps that share their objects, smallest first."""
    count = sum(level.per_cell for level in levels)
    distinct = np.unique(sizes.round(1), axis=0)
    centres = distinct if len(distinct) <= count else _k_means(sizes, count, random)
    usual = np.array([shape for level in levels for shape in level.usual])
    while len(centres) < count:  # of the present boxes, those that are least like the others
        likeness = _iou(usual, centres).max(axis=1) if len(centres) else np.zeros(len(usual))
        chosen = int(likeness.argmin())
        centres, usual = np.concatenate([centres, usual[[chosen]]]), np.delete(usual, chosen, axis=0)
    order = np.lexsort((centres[:, 0], centres.prod(axis=1)))
    return [(width, height) for width, height in centres[order].round(1).tolist()]


def _iou(sizes: Floats, centres: Floats) -> Floats:
    """IoU of boxes (M, 2) and (P, 2) around the same centre, (M, P)."""
    return _iou_at(sizes[:, None], centres[None], np.zeros(2))


def _k_means(sizes: Floats, count: int, random: np.random.Generator) -> Floats:
    """The boxes (count, 2) with the largest mean IoU with the sizes (M, 2) that are nearest to them, of a few tries."""
    found = [_lloyd(sizes, _spread(sizes, count, random)) for _ in range(_TRIES)]
    return max(found, key=lambda centres: float(_iou(sizes, centres).max(axis=1).mean()))


def _spread(sizes: Floats, count: int, random: np.random.Generator) -> Floats:
    """Start values as in k-means++: each drawn with a probability that grows with its distance from those before."""
    chosen = [int(random.integers(len(sizes)))]
    distance = 1 - _iou(sizes, sizes[chosen])[:, 0]
    for _ in range(count - 1):
        weights = distance**2
        chosen.append(int(random.choice(len(sizes), p=weights / weights.sum())))
        distance = np.minimum(distance, 1 - _iou(sizes, sizes[chosen[-1:]])[:, 0])
    return sizes[chosen]


def _lloyd(sizes: Floats, centres: Floats) -> Floats:
    for _ in range(_ROUNDS):
        iou = _iou(sizes, centres)
        nearest, alone = iou.argmax(axis=1), iou.max(axis=1).argsort(kind="stable")
        free = iter(sizes[alone])  # for a box without objects: those that are worst off
        moved = [
            _best_centre(sizes[nearest == number], centre) if (nearest == number).any() else next(free)
            for number, centre in enumerate(centres)
        ]
        before, centres = centres, np.array(moved)
        if np.abs(before - centres).max() < 0.01:
            break
    return centres


def _best_centre(sizes: Floats, centre: Floats) -> Floats:
    """Of the present box and the means of these sizes, the one with the largest mean IoU with them."""
    candidates = np.array(list(_candidates(sizes, centre)))
    return np.asarray(candidates[_iou(sizes, candidates).mean(axis=0).argmax()])


def _candidates(sizes: Floats, centre: Floats) -> Iterator[Floats]:
    yield centre
    yield np.median(sizes, axis=0)
    yield sizes.mean(axis=0)
    yield np.exp(np.log(sizes).mean(axis=0))
