"""Average precision by the rules of the PASCAL VOC devkit, its 2007 and its 2010 form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vovnet.boxes import pairwise_iou
from vovnet.metrics.inputs import check_inputs
from vovnet.structures import Detections, Target

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ClassResult:
    """One class. Average precisions are fractions in [0, 1], or None for a class without objects to find.

    ap11: mean of the best precision at recall ≥ 0, 0.1, … 1 (VOC07).
    ap_area: area under the precision-recall curve made monotone (VOC10 and later).
    recall, precision, scores: one value a detection, best score first; ignored detections are left out.
    n_objects: objects to find, without difficult ones and crowds.
    """

    ap11: float | None
    ap_area: float | None
    recall: FloatArray
    precision: FloatArray
    scores: FloatArray
    n_objects: int

    @property
    def n_detections(self) -> int:
        """Detections that count as right or wrong."""
        return len(self.scores)


@dataclass(frozen=True, eq=False)
class VocResult:
    """All classes, in label order. The means are over the classes that have objects; None if there is no such class."""

    classes: tuple[ClassResult, ...]
    iou_threshold: float

    @property
    def mean_ap11(self) -> float | None:
        return _mean([c.ap11 for c in self.classes])

    @property
    def mean_ap_area(self) -> float | None:
        return _mean([c.ap_area for c in self.classes])


def evaluate_voc(
    detections: Sequence[Detections], targets: Sequence[Target], num_classes: int, *, iou_threshold: float = 0.5
) -> VocResult:
    """Average precision of every class over a set of images, `detections[i]` and `targets[i]` of the same image.

    Rules: a class's detections are taken by falling score over all images, ties in the given order. Each is compared
    only with the object of its class that it overlaps most. It is right if that IoU is at least `iou_threshold` and
    the object has not been found before; ignored, as the object is, if the object is difficult or a crowd; else wrong.
    The devkit's inclusive boxes and ours with exclusive x2 and y2 give the same IoU.

    Source: VOCdevkit, VOCevaldet.m. One deviation: recall levels are compared exactly, where the devkit's
    floating-point 0.3 is slightly above 3 objects in 10.
    """
    check_inputs(detections, targets, num_classes)
    offset = 0
    found: list[IntArray] = []
    for image_detections, target in zip(detections, targets, strict=True):
        best = _most_overlapping(image_detections, target, iou_threshold)
        found.append(np.where(best < 0, -1, best + offset))
        offset += len(target)

    scores = _concatenate([d.scores.numpy() for d in detections], np.float64)
    order = np.argsort(-scores, kind="stable")
    scores, labels = scores[order], _concatenate([d.labels.numpy() for d in detections], np.int64)[order]
    hit = _concatenate(found, np.int64)[order]  # index of an object among those of all images, −1 for none

    object_labels = _concatenate([t.labels.numpy() for t in targets], np.int64)
    object_ignored = _concatenate([(t.difficult | t.crowd).numpy() for t in targets], np.bool_)

    first_hit = np.zeros(len(hit), dtype=bool)
    first_hit[np.unique(hit, return_index=True)[1]] = True
    ignored = np.zeros(len(hit), dtype=bool)
    ignored[hit >= 0] = object_ignored[hit[hit >= 0]]
    right = first_hit & (hit >= 0)

    results = []
    for label in range(num_classes):
        counted = (labels == label) & ~ignored
        n_objects = int(np.count_nonzero((object_labels == label) & ~object_ignored))
        results.append(_class_result(right[counted], scores[counted], n_objects))
    return VocResult(tuple(results), iou_threshold)


def _most_overlapping(detections: Detections, target: Target, iou_threshold: float) -> IntArray:
    """For each detection the object of its class with the largest IoU, −1 where that IoU is below the threshold."""
    if not len(target):
        return np.full(len(detections), -1)
    other_class = detections.labels[:, None] != target.labels
    iou = pairwise_iou(detections.boxes.double(), target.boxes.double()).masked_fill(other_class, -1).numpy()  # (D, M)
    best = iou.argmax(axis=1)  # of equal ones the first, as in the devkit
    return np.where(iou[np.arange(len(best)), best] >= iou_threshold, best, -1)


def _class_result(right: BoolArray, scores: FloatArray, n_objects: int) -> ClassResult:
    n_right = np.cumsum(right)
    precision = n_right / np.arange(1, len(right) + 1)
    if not n_objects:
        return ClassResult(None, None, np.full(len(right), np.nan), precision, scores, 0)
    recall = n_right / n_objects
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    reaches = np.searchsorted(10 * n_right, np.arange(11) * n_objects)  # first detection with recall ≥ 0, 0.1, … 1
    ap11 = np.append(best_from_here, 0.0)[reaches].mean()
    ap_area = (np.diff(recall, prepend=0.0) * best_from_here).sum()
    return ClassResult(float(ap11), float(ap_area), recall, precision, scores, n_objects)


def _concatenate(arrays: Sequence[npt.NDArray[np.generic]], dtype: type) -> npt.NDArray:
    return np.concatenate([np.empty(0, dtype), *arrays]).astype(dtype)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
