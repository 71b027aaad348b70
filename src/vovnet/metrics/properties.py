"""Average precision by a property of the objects: their size, their shape, and how crowded they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vovnet.metrics.coco import make_evaluation
from vovnet.metrics.inputs import check_inputs
from vovnet.structures import Detections, Target

FloatArray = npt.NDArray[np.float64]

FEW = 20  # objects, of which average precision says little
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}  # COCO's areas
SHAPES = ("very tall", "tall", "square", "wide", "very wide")
_RATIOS = (1 / 2, 4 / 5, 5 / 4, 2.0)  # width to height; each belongs to the shape below it
NEIGHBOURS = ("0", "1", "2", "3 or more")


@dataclass(frozen=True)
class Group:
    """The objects with a property.

    objects: how many there are to detect.
    missed: how many of them no detection finds at IoU 0.5, whatever its score.
    ap, ap50: COCO's, as a mean over the classes that have such objects; None without any.
    """

    name: str
    objects: int
    missed: int
    ap: float | None
    ap50: float | None

    @property
    def is_few(self) -> bool:
        """Whether there are too few objects for the average precision to say much."""
        return self.objects < FEW

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "few": self.is_few}


@dataclass(frozen=True)
class Property:
    """All objects, grouped by one property. rule: what the groups mean."""

    title: str
    rule: str
    groups: tuple[Group, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"rule": self.rule, "groups": [group.to_dict() for group in self.groups]}


def evaluate_by_property(
    detections: Sequence[Detections], targets: Sequence[Target], num_classes: int
) -> tuple[Property, ...]:
    """The average precision of boxes by size, shape and neighbours of the objects.

    That of a group is found as COCO finds that of a size. Objects outside of the group are ignored: a detection that
    matches one counts neither for nor against. A detection that matches nothing is a false positive of the group to
    which it would belong as an object, by the size, shape or neighbours of its own box, and of no other. So each object
    and each false positive counts in one group of each property; only those at a limit of COCO's sizes count on both
    sides, as COCO has it. Difficult objects and crowds are ignored in every group, and are no neighbours.
    """
    check_inputs(detections, targets, num_classes)
    limits = {name: (float(place), float(place)) for place, name in enumerate(SHAPES)}
    most = len(NEIGHBOURS) - 1
    counts = {name: (float(count), float(count)) for count, name in enumerate(NEIGHBOURS)}
    neighbours_of_objects, neighbours_of_found = [], []
    for item, target in zip(detections, targets, strict=True):
        others = target.boxes[~(target.difficult | target.crowd)]
        neighbours_of_objects.append(_neighbours(target.boxes, others))
        neighbours_of_found.append(_neighbours(item.boxes, others))
    object_sides, found_sides = _sides([t.boxes for t in targets]), _sides([d.boxes for d in detections])
    rows = (
        (
            "size",
            "area in pixels of the original image: small up to 32², medium up to 96², large above",
            SIZES,
            (_concatenate([target.area.double().numpy() for target in targets]), found_sides.prod(axis=1)),
        ),
        (
            "shape",
            "width to height: very tall up to 1/2, tall up to 4/5, square up to 5/4, wide up to 2, very wide above",
            limits,
            (_shapes(object_sides), _shapes(found_sides)),
        ),
        (
            "neighbours",
            "other objects, of any class, whose boxes overlap that of the object",
            counts,
            (
                np.minimum(_concatenate(neighbours_of_objects), most),
                np.minimum(_concatenate(neighbours_of_found), most),
            ),
        ),
    )
    return tuple(
        Property(title, rule, _evaluate(detections, targets, num_classes, ranges=ranges, values=values))
        for title, rule, ranges, values in rows
    )


def _evaluate(
    detections: Sequence[Detections],
    targets: Sequence[Target],
    num_classes: int,
    *,
    ranges: dict[str, tuple[float, float]],
    values: tuple[FloatArray, FloatArray],
) -> tuple[Group, ...]:
    """values: a number for each object and each detection; what COCO does with their area. ranges: with both ends."""
    evaluation = make_evaluation(detections, targets, num_classes, areas=values)
    evaluation.params.area_rng = [list(limits) for limits in ranges.values()]
    evaluation.params.area_rng_lbl = list(ranges)
    evaluation.evaluate()
    evaluation.accumulate()
    assert evaluation.eval is not None
    precision = evaluation.eval["precision"][..., -1]  # (IoU, recall, class, group)
    recall = evaluation.eval["recall"][0, ..., -1]  # (class, group), at IoU 0.5

    labels = _concatenate([target.labels.numpy() for target in targets]).astype(np.int64)
    ignored = _concatenate([(target.difficult | target.crowd).numpy() for target in targets]).astype(np.bool_)
    groups = []
    for number, (name, (low, high)) in enumerate(ranges.items()):
        own = (values[0] >= low) & (values[0] <= high) & ~ignored
        objects = np.bincount(labels[own], minlength=num_classes)
        found = int(np.rint(np.where(objects > 0, objects * recall[:, number], 0)).sum())
        total = int(objects.sum())
        groups.append(
            Group(name, total, total - found, _mean(precision[..., number]), _mean(precision[0, ..., number]))
        )
    return tuple(groups)


def _sides(boxes: Sequence[Tensor]) -> FloatArray:
    """Width and height of all boxes."""
    corners = _concatenate([item.double().numpy().reshape(-1) for item in boxes]).reshape(-1, 4)
    return corners[:, 2:] - corners[:, :2]


def _shapes(sides: FloatArray) -> FloatArray:
    """The index of the shape of each box; one without height is very wide."""
    width, height = sides.T
    ratio = np.divide(width, height, out=np.full(len(sides), np.inf), where=height > 0)
    return np.searchsorted(np.array(_RATIOS), ratio).astype(np.float64)


def _neighbours(boxes: Tensor, objects: Tensor) -> FloatArray:
    """For each box how many of the objects it overlaps, besides one, which is taken for its own."""
    first, second = boxes.double().numpy()[:, None], objects.double().numpy()
    sides = np.minimum(first[..., 2:], second[:, 2:]) - np.maximum(first[..., :2], second[:, :2])  # (D, M, 2)
    return np.maximum((sides > 0).all(axis=2).sum(axis=1) - 1, 0).astype(np.float64)


def _concatenate(columns: Sequence[npt.NDArray[Any]]) -> FloatArray:
    return np.concatenate([np.empty(0), *columns])


def _mean(precision: FloatArray) -> float | None:
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else None
