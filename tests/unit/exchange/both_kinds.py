"""The same detections as tensors and as arrays: three objects of two classes in an image of 8 × 6 pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vovnet import run_lengths
from vovnet.engine.predicting.prediction import Prediction
from vovnet.masks import RleMasks
from vovnet.runtime.detections import Detections, Masks

SIZE = (6, 8)
BOXES = [[0.5, 1.0, 4.0, 5.25], [2.0, 2.0, 8.0, 6.0], [6.0, 0.0, 7.0, 1.0]]
LABELS, SCORES = [1, 0, 1], [0.9, 0.5, 0.25]
NAMES, IDS = ("red cell", "platelet"), (7, 3)
BITMAPS = np.zeros((3, *SIZE), dtype=np.bool_)
BITMAPS[0, 1:5, 1:4] = True
BITMAPS[1, 2:6, 2:8] = np.arange(24).reshape(4, 6) % 3 > 0
BITMAPS[2, 0, 6] = True
CODES = tuple(run_lengths.encode_crop(bitmap, 0, 0, SIZE) for bitmap in BITMAPS)


def make(kind: str, *, masks: bool = True, count: int = 3, **changes: Any) -> Any:
    """The first `count` detections. kind: "tensors" or "arrays"."""
    rest = {"image_size": SIZE, "class_names": NAMES, "category_ids": IDS, "source": "images/a.jpg", **changes}
    boxes = np.array(BOXES[:count], dtype=np.float32).reshape(-1, 4)
    labels, scores = np.array(LABELS[:count], dtype=np.int64), np.array(SCORES[:count], dtype=np.float32)
    if kind == "arrays":
        held = Masks(CODES[:count], SIZE) if masks else None
        return Detections(boxes=boxes, labels=labels, scores=scores, masks=held, **rest)
    return Prediction(
        boxes=torch.from_numpy(boxes),
        labels=torch.from_numpy(labels),
        scores=torch.from_numpy(scores),
        masks=RleMasks(CODES[:count], SIZE) if masks else None,
        **rest,
    )
