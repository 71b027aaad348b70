"""Average precision by the rules of the PASCAL VOC devkit, as defined in 2007 and since 2010."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vovnet.boxes import pairwise_iou
from vovnet.metrics.inputs import IOU_THRESHOLD, check_inputs
from vovnet.structures import Detections, Target

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ClassResult:
    """Average precision and precision-recall curve of one class.

    ap11: mean of the best precision at recall ≥ 0, 0.1, … 1 (VOC07); a fraction in [0, 1], or None for a class without
    objects.
    ap_area: area under the precision-recall curve after it is made monotone (VOC10 and later); as `ap11`.
    recall, precision, scores: one value per detection, best score first; ignored detections are left out.
    n_objects: objects to detect, which excludes difficult objects and crowds.
    """

    ap11: float | None
    ap_area: float | None
    recall: FloatArray
    precision: FloatArray
    scores: FloatArray
    n_objects: int

    @property
    def n_detections(self) -> int:
        """True and false positives."""
        return len(self.scores)

    def curve(self) -> tuple[FloatArray, FloatArray]:
        """Recall and precision as they are plotted: from recall 0, and down to precision 0 where detections end."""
        first, last = (self.precision[0], self.recall[-1]) if self.n_detections else (0.0, 0.0)
        return np.concatenate([[0.0], self.recall, [last]]), np.concatenate([[first], self.precision, [0.0]])


@dataclass(frozen=True, eq=False)
class VocResult:
    """All classes, in label order. The means are over the classes that have objects, or None if none has any."""

    classes: tuple[ClassResult, ...]
    iou_threshold: float = IOU_THRESHOLD

    @property
    def mean_ap11(self) -> float | None:
        return _mean([c.ap11 for c in self.classes])

    @property
    def mean_ap_area(self) -> float | None:
        return _mean([c.ap_area for c in self.classes])


def evaluate_voc(detections: Sequence[Detections], targets: Sequence[Target], num_classes: int) -> VocResult:
    """Average precision of every class over a set of images; `detections[i]` and `targets[i]` belong to the same image.

    Rules: The detections of a class are sorted by score, best first, over all images; ties keep their order. Each is
    compared only with the object of its class that it overlaps most. If their IoU is below 0.5, it is a false
    positive. Otherwise it is ignored if the object is difficult or a crowd, a true positive if it is the first
    detection of the object, and a false positive if not. The devkit's inclusive boxes and ours with exclusive x2 and y2
    have the same IoU.

    Source: VOCdevkit, VOCevaldet.m. One deviation: recall levels are compared exactly, whereas the devkit's
    floating-point 0.3 is slightly more than 3 objects in 10.
    """
    check_inputs(detections, targets, num_classes)
    offset = 0
    matches: list[IntArray] = []
    for image_detections, target in zip(detections, targets, strict=True):
        best = _best_objects(image_detections, target)
        matches.append(np.where(best < 0, -1, best + offset))
        offset += len(target)

    scores = _concatenate([d.scores.numpy() for d in detections], np.float64)
    order = np.argsort(-scores, kind="stable")
    scores, labels = scores[order], _concatenate([d.labels.numpy() for d in detections], np.int64)[order]
    matched = _concatenate(matches, np.int64)[order]  # index among the objects of all images, −1 for none

    object_labels = _concatenate([t.labels.numpy() for t in targets], np.int64)
    object_ignored = _concatenate([(t.difficult | t.crowd).numpy() for t in targets], np.bool_)

    first_match = np.zeros(len(matched), dtype=bool)
    first_match[np.unique(matched, return_index=True)[1]] = True
    ignored = np.zeros(len(matched), dtype=bool)
    ignored[matched >= 0] = object_ignored[matched[matched >= 0]]
    true_positive = first_match & (matched >= 0)

    results = []
    for label in range(num_classes):
        counted = (labels == label) & ~ignored
        n_objects = int(np.count_nonzero((object_labels == label) & ~object_ignored))
        results.append(_class_result(true_positive[counted], scores[counted], n_objects))
    return VocResult(tuple(results))


def _best_objects(detections: Detections, target: Target) -> IntArray:
    """For each detection the index of the object of its class with the largest IoU; −1 if that IoU is too small."""
    if not len(target):
        return np.full(len(detections), -1)
    other_class = detections.labels[:, None] != target.labels
    iou = pairwise_iou(detections.boxes.double(), target.boxes.double()).masked_fill(other_class, -1).numpy()  # (D, M)
    best = iou.argmax(axis=1)  # the first of equal values, as in the devkit
    return np.where(iou[np.arange(len(best)), best] >= IOU_THRESHOLD, best, -1)


def _class_result(true_positive: npt.NDArray[np.bool_], scores: FloatArray, n_objects: int) -> ClassResult:
    n_true = np.cumsum(true_positive)
    precision = n_true / np.arange(1, len(true_positive) + 1)
    if not n_objects:
        return ClassResult(None, None, np.full(len(true_positive), np.nan), precision, scores, 0)
    recall = n_true / n_objects
    best_precision = np.maximum.accumulate(precision[::-1])[::-1]
    reaches = np.searchsorted(10 * n_true, np.arange(11) * n_objects)  # first detection with recall ≥ 0, 0.1, … 1
    ap11 = np.append(best_precision, 0.0)[reaches].mean()
    ap_area = (np.diff(recall, prepend=0.0) * best_precision).sum()
    return ClassResult(float(ap11), float(ap_area), recall, precision, scores, n_objects)


def _concatenate(arrays: Sequence[npt.NDArray[np.generic]], dtype: type) -> npt.NDArray:
    return np.concatenate([np.empty(0, dtype), *arrays]).astype(dtype)


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
