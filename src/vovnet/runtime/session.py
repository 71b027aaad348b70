"""The one interface to all runtimes: a `Session` runs an exported network on a batch of resized images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vovnet.runtime.export_info import ExportInfo


@dataclass(frozen=True)
class Rows:
    """The detections of a batch after NMS, in no particular order; S of them.

    image: int64 (S,), index in the batch.
    boxes: float32 (S, 4), x1 y1 x2 y2 in pixels of the network's input, not clipped.
    labels: int64 (S,).
    scores: float32 (S,).
    masks: float32 (S, 28, 28), probabilities in the box; None if the detector has no masks.
    """

    image: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    masks: npt.NDArray[np.float32] | None = None


class Session(Protocol):
    """An exported network that is ready to run.

    info: its description.
    runtime: "onnxruntime", "openvino" or "mnn".
    """

    info: ExportInfo
    runtime: str

    def run(self, images: npt.NDArray[np.uint8], score_threshold: float) -> Rows:
        """The detections with a score above the threshold, after NMS per class.

        images: uint8 RGB (N, 3, H, W), of the size that `info` states.
        """
