"""The one interface to all runtimes: a `Session` runs an exported network on a batch of resized images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vovnet.printing import quoted
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

        images: uint8 RGB (N, 3, H, W), of the size that `info` states, or of any with `keep_ratio`. Then the
            network gets one after the other.

        Several threads may call it at once.

        Raises ValueError for other images, a threshold outside 0…1, or a network that fails; MemoryError if memory ran
        out.
        """


def run_each(run: Callable[[npt.NDArray[np.uint8]], Rows], images: npt.NDArray[np.uint8]) -> Rows:
    """The rows of a batch from a network that takes one image at a time."""
    found = [run(image[None]) for image in images]
    masks = [rows.masks for rows in found if rows.masks is not None]
    return Rows(
        np.repeat(np.arange(len(found)), [len(rows.image) for rows in found]),
        np.concatenate([rows.boxes for rows in found]),
        np.concatenate([rows.labels for rows in found]),
        np.concatenate([rows.scores for rows in found]),
        np.concatenate(masks) if masks else None,
    )


def check_input(images: npt.NDArray[np.uint8], score_threshold: float, info: ExportInfo) -> None:
    """ValueError for arguments that no `Session.run` of this network takes."""
    size = None if info.keep_ratio else info.image_size
    shape: tuple[int, ...] = getattr(images, "shape", ())
    dtype = getattr(images, "dtype", None)
    fits = len(shape) == 4 and shape[1] == 3 and size in (None, tuple(shape[2:])) and min(shape) > 0
    if not (isinstance(images, np.ndarray) and dtype == np.uint8 and fits):
        sides = "H, W" if size is None else f"{size[0]}, {size[1]}"
        found = f"{dtype} {tuple(shape)}" if isinstance(images, np.ndarray) else type(images).__name__
        raise ValueError(f"images must be a NumPy array of uint8 RGB (N, 3, {sides}) with N ≥ 1, got {found}")
    if not 0 <= score_threshold <= 1:
        raise ValueError(f"score_threshold must lie in 0…1, got {quoted(score_threshold)}")


def check_rows(rows: Rows, images: int, info: ExportInfo, name: str) -> None:
    """ValueError if a network's outputs cannot be detections, as those of a changed file.

    images: how many it ran on.
    name: of the file.
    """
    count = len(rows.image)
    shapes = rows.image.shape, rows.boxes.shape, rows.labels.shape, rows.scores.shape
    fits = shapes == ((count,), (count, 4), (count,), (count,))
    if fits and rows.masks is not None:
        fits = rows.masks.ndim == 3 and len(rows.masks) == count
    for index, limit in ((rows.image, images), (rows.labels, len(info.class_names))):
        fits = fits and (not count or (index.min() >= 0 and index.max() < limit))
    if not fits:
        raise ValueError(
            f"{name} finds images or classes that do not exist: its network and its description do not belong "
            "together; export it again"
        )
