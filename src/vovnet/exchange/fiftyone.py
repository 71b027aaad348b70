"""Detections, and objects of a dataset, as labels of FiftyOne."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from vovnet.exchange.columns import bitmaps, box_array, class_names_of
from vovnet.libraries import import_extra


def import_fiftyone(what: str) -> ModuleType:
    """The package, which reports its use to its makers unless a variable forbids it; a user's own choice stays.

    what: needs it.
    """
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")
    return import_extra("fiftyone", what)


def to_fiftyone(found: Any) -> Any:
    names = class_names_of(found)
    if names is None:
        raise ValueError(
            "FiftyOne's labels are class names, and these detections have none: take what a detector's predict() "
            "returns, not what model.decode() does"
        )
    return make_labels(found, names, scores=found.scores.tolist())


def make_labels(
    found: Any,
    names: Sequence[str],
    *,
    image_size: tuple[int, int] | None = None,
    scores: Sequence[float] | None = None,
    **attributes: Sequence[Any],
) -> Any:
    """`fiftyone.Detections` of anything with boxes and masks.

    names: of the class of each.
    image_size: (height, width); None takes that of `found`.
    attributes: further values of each.
    """
    fiftyone = import_fiftyone("to_fiftyone()")
    height, width = found.image_size if image_size is None else image_size
    boxes = box_array(found).astype(np.float64)
    columns: dict[str, Sequence[Any]] = {
        "label": names,
        "bounding_box": (_xywh(boxes) / [width, height, width, height]).tolist(),
        **attributes,
    }
    if scores is not None:
        columns["confidence"] = scores
    if found.masks is not None:
        columns["mask"] = [_cut(bitmap, box) for bitmap, box in zip(bitmaps(found.masks), boxes.tolist(), strict=True)]
    rows = zip(*columns.values(), strict=True)
    return fiftyone.Detections(detections=[fiftyone.Detection(**dict(zip(columns, row, strict=True))) for row in rows])


def _xywh(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _cut(bitmap: npt.NDArray[np.bool_], box: Sequence[float]) -> npt.NDArray[np.bool_]:
    """The part of a mask in its box, its corners rounded as FiftyOne's reader of COCO does; at least one pixel."""
    (left, right), (top, bottom) = (
        _rounded(low, high, length) for low, high, length in zip(box[:2], box[2:], bitmap.shape[::-1], strict=True)
    )
    return np.ascontiguousarray(bitmap[top:bottom, left:right])


def _rounded(low: float, high: float, length: int) -> tuple[int, int]:
    start = min(max(round(low), 0), length - 1)
    return start, min(max(round(high), start + 1), length)
