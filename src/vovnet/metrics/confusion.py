"""Detections matched to objects at one score threshold: the confusion matrix, and the errors of each image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vovnet.boxes import xyxy_to_xywh
from vovnet.masks import RleMasks
from vovnet.metrics.inputs import IOU_THRESHOLD, check_inputs
from vovnet.structures import Detections, Target

IntArray = npt.NDArray[np.int64]

FALSE_POSITIVE = -1
IGNORED = -2


def match_objects(detections: Detections, target: Target) -> IntArray:
    """For each detection the index of the object that it matches, or FALSE_POSITIVE, or IGNORED; shape (D,).

    A detection can match an object of any class, and each object is matched once. Of all one-to-one assignments of
    pairs with IoU ≥ 0.5, the one with the most correct classes is chosen, and of those the one with the largest sum of
    IoUs. A detection without a match is ignored if it overlaps a difficult object or a crowd of its class: an object
    with IoU ≥ 0.5, a crowd if it contains half of the detection. IoU is that of the masks if both sides have run-length
    masks, else that of the boxes.
    """
    from hotcoco.primitives import bbox_iou, lsap, mask_iou

    matched = np.full(len(detections), FALSE_POSITIVE)
    crowd = target.crowd.numpy()
    if isinstance(detections.masks, RleMasks) and isinstance(target.masks, RleMasks):
        overlap = mask_iou(detections.masks.to_coco(), target.masks.to_coco(), crowd)  # (D, M)
    else:
        detected, annotated = (xyxy_to_xywh(item.boxes.double()).numpy() for item in (detections, target))
        overlap = bbox_iou(detected, annotated, crowd)
    ignored = (target.difficult | target.crowd).numpy()
    same_class = detections.labels.numpy()[:, None] == target.labels.numpy()
    above_threshold = overlap >= IOU_THRESHOLD

    matched[(above_threshold & same_class & ignored).any(axis=1)] = IGNORED
    # The IoUs of an assignment sum to at most its size. With one more, the number of correct classes decides first.
    bonus = min(overlap.shape) + 1.0
    weight = np.where(above_threshold & ~ignored, overlap + bonus * same_class, 0.0)
    rows, columns = (indices.astype(np.int64) for indices in lsap(weight, maximize=True))
    chosen = weight[rows, columns] > 0
    matched[rows[chosen]] = columns[chosen]
    return matched


def confusion_matrix(
    detections: Sequence[Detections], targets: Sequence[Target], num_classes: int, *, score_threshold: float
) -> IntArray:
    """Counts of shape (K + 1, K + 1): rows are the true class, columns the predicted class, the last is background.

    So the last column counts missed objects and the last row false positives. Detections below `score_threshold`,
    difficult objects and crowds do not count; see `match_objects`.
    """
    check_inputs(detections, targets, num_classes)
    matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    for image_detections, target in zip(detections, targets, strict=True):
        np.add.at(matrix, _label_pairs(image_detections, target, score_threshold), 1)
    return matrix


def image_errors(detections: Sequence[Detections], targets: Sequence[Target], *, score_threshold: float) -> IntArray:
    """For each image the numbers of missed objects, false positives and objects of confused class; shape (N, 3)."""
    errors = np.zeros((len(detections), 3), dtype=np.int64)
    for row, image_detections, target in zip(errors, detections, targets, strict=True):
        truth, predicted = _label_pairs(image_detections, target, score_threshold)
        missed, false_positive = predicted < 0, truth < 0
        confused = (truth != predicted) & ~missed & ~false_positive
        row[:] = missed.sum(), false_positive.sum(), confused.sum()
    return errors


def _label_pairs(detections: Detections, target: Target, score_threshold: float) -> tuple[IntArray, IntArray]:
    """True and predicted label of every object and false positive of an image.

    Background is −1, which also indexes the last row and column of a matrix.
    """
    detections = detections[detections.scores >= score_threshold]
    matched = match_objects(detections, target)
    labels = np.append(target.labels.numpy(), FALSE_POSITIVE)  # FALSE_POSITIVE, −1, indexes the background
    missed = np.setdiff1d(np.flatnonzero(~(target.difficult | target.crowd).numpy()), matched)

    counted = matched != IGNORED
    truth = np.concatenate([labels[matched[counted]], labels[missed]])
    predicted = np.concatenate([detections.labels.numpy()[counted], np.full(len(missed), -1)])
    return truth, predicted
