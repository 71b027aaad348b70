"""What other libraries get to know of the detections in an image, as arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from vovnet import run_lengths


def box_array(found: Any) -> npt.NDArray[np.float32]:
    """(D, 4): the boxes, whatever holds them on whatever device."""
    return np.array(found.boxes.tolist(), dtype=np.float32).reshape(-1, 4)


def class_names_of(found: Any) -> list[str] | None:
    """The class name of each detection; None if the detections know no classes."""
    return getattr(found, "names", None)


def bitmaps(masks: Any) -> Iterator[npt.NDArray[np.bool_]]:
    """The mask of one detection after the other, (H, W)."""
    for code in masks.to_coco():
        height, width = code["size"]
        yield run_lengths.decode(code["counts"].encode(), (height, width))
