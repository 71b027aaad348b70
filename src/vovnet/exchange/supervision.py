"""Detections as those of supervision, and back."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vovnet.exchange.columns import bitmaps, box_array, class_names_of
from vovnet.libraries import import_extra
from vovnet.run_lengths import encode_crop

_NAMES = "class_name"  # where supervision's annotators look for class names


class Columns(NamedTuple):
    """Detections as arrays, best score first; `codes` are COCO's run-length codes, None without masks."""

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    codes: tuple[bytes, ...] | None


def to_supervision(found: Any) -> Any:
    supervision = import_extra("supervision", "to_supervision()")
    names, masks = class_names_of(found), None
    if found.masks is not None:
        masks = np.zeros((len(found.masks), *found.image_size), dtype=np.bool_)
        for mask, bitmap in zip(masks, bitmaps(found.masks), strict=True):
            mask[:] = bitmap
    return supervision.Detections(
        xyxy=box_array(found),
        confidence=np.array(found.scores.tolist(), dtype=np.float32),
        class_id=np.array(found.labels.tolist(), dtype=np.int64),
        mask=masks,
        data={} if names is None else {_NAMES: np.array(names, dtype=np.str_)},
    )


def from_supervision(found: Any, image_size: tuple[int, int]) -> Columns:
    """The arrays of `supervision.Detections`.

    image_size: (height, width) of the image, which supervision does not keep.

    Raises ValueError if class ids or scores are missing or can be none of ours, or masks have another size than the
    image.
    """
    missing = [name for name in ("class_id", "confidence") if getattr(found, name) is None]
    if missing and len(found):
        raise ValueError(f"expected detections with class_id and confidence, got None for {' and '.join(missing)}")
    scores = np.asarray([] if found.confidence is None else found.confidence, dtype=np.float32)
    class_ids = np.asarray([] if found.class_id is None else found.class_id, dtype=np.float64)
    possible = (class_ids >= 0) & (class_ids < 2**31) & (class_ids % 1 == 0)
    if not possible.all():
        raise ValueError(f"class_id must be whole numbers from 0, which become labels, got {class_ids[~possible][0]:g}")
    if not np.isfinite(scores).all():
        raise ValueError(f"confidence must be finite numbers, got {scores[~np.isfinite(scores)][0]}")
    labels, order = class_ids.astype(np.int64), np.argsort(-scores, kind="stable")
    boxes = np.asarray(found.xyxy, dtype=np.float32).reshape(-1, 4)
    codes = None
    if found.mask is not None:
        codes = tuple(_encode(np.asarray(found.mask[int(index)]), image_size) for index in order)
    return Columns(boxes[order], labels[order], scores[order], codes)


def _encode(bitmap: npt.NDArray[Any], image_size: tuple[int, int]) -> bytes:
    if bitmap.shape != tuple(image_size):
        raise ValueError(f"masks must have the image's size {tuple(image_size)} (height, width), got {bitmap.shape}")
    return encode_crop(bitmap.astype(np.bool_), 0, 0, image_size)
