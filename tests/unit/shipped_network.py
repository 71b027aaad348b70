"""The shipped detector as an ONNX model, which takes seconds to make, and images for it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from vovnet.export.onnx_file import add_nms, make_network
from vovnet.export.source import describe_export
from vovnet.runtime.export_info import ExportInfo
from vovnet.runtime.session import Rows
from vovnet.weights.detector import load_weights

BCCD = Path(__file__).parents[2] / "samples/bccd"


@cache
def bccd_network() -> tuple[Any, ExportInfo]:
    """The ONNX model with NMS inside, and the description. Nobody may change them."""
    loaded = load_weights("bccd")
    info = describe_export(loaded, "float32")
    network = make_network(loaded.model)
    add_nms(network, info)
    return network, info


def bccd_images(split: str, count: int | None = None) -> npt.NDArray[np.uint8]:
    """The first images of a split at network size, uint8 RGB (N, 3, 300, 300)."""
    names = (BCCD / f"ImageSets/Main/{split}.txt").read_text().split()[:count]
    pictures = (Image.open(BCCD / f"JPEGImages/{name}.jpg").convert("RGB") for name in names)
    resized = [np.asarray(picture.resize((300, 300), Image.Resampling.BILINEAR)) for picture in pictures]
    return np.stack(resized).transpose(0, 3, 1, 2).copy()


def ordered(rows: Rows) -> Rows:
    """The rows by image, label and score, to compare them with those of another runtime."""
    order = np.lexsort((rows.scores, rows.labels, rows.image))
    return Rows(rows.image[order], rows.boxes[order], rows.labels[order], rows.scores[order])
