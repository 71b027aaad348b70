"""A detector in an exported file, which a runtime other than PyTorch runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from vovnet.engine.predicting.predictor import Predictor, Running
from vovnet.errors import UsageError
from vovnet.masks import RleMasks
from vovnet.runtime.export_info import ExportInfo
from vovnet.runtime.masks import paste_codes
from vovnet.runtime.resize import input_size, resize
from vovnet.runtime.selection import Arrays, select_images
from vovnet.runtime.session import Session
from vovnet.runtime.thresholds import ScoreThreshold, lowest
from vovnet.structures import Detections


@dataclass(frozen=True)
class ExportedResizing:
    """As the runner without PyTorch resizes, to the same pixels. See `vovnet.models.preprocessing.Resizing`."""

    info: ExportInfo

    @property
    def image_size(self) -> tuple[int, int]:
        return self.info.image_size

    @property
    def keep_ratio(self) -> bool:
        return self.info.keep_ratio

    @property
    def least_pixels(self) -> int:
        height, width = self.info.image_size
        return min(height, width) ** 2 if self.keep_ratio else height * width

    def input_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        return input_size(image_size, self.info)

    def resize(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        size = size or self.input_size((image.shape[1], image.shape[2]))
        if tuple(image.shape[1:]) == size:
            return image
        pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        resized = resize(pixels, size, antialias=self.info.antialias)
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1)


class ExportedDetector(Predictor):
    """A detector that a runtime runs from a file. See `Predictor`.

    session: the network.
    path: the file or folder.
    exported_on: the date, if it runs in place of its weights.
    """

    def __init__(self, session: Session, path: Path, *, exported_on: str | None = None) -> None:
        info = session.info
        super().__init__(info.class_names, info.category_ids, info.record, info.score_thresholds)
        self.session = session
        self.path = path
        self.exported_on = exported_on
        self.device = torch.device("cpu")
        self.running = Running(session.runtime, info.precision, str(path))
        self._resizing = ExportedResizing(info)

    @property
    def model(self) -> NoReturn:
        raise UsageError(
            f"this needs the network in PyTorch, and {self.path} is exported for other runtimes: "
            "name the weights that it was exported from"
        )

    @property
    def preprocessing(self) -> ExportedResizing:
        return self._resizing

    @property
    def masks(self) -> bool:
        return self.session.info.masks

    def _detect_batch(
        self,
        images: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
        *,
        score_threshold: ScoreThreshold | None,
        top_k: int | None,
    ) -> list[Detections]:
        info = self.session.info
        size = (images[0].shape[-2], images[0].shape[-1])
        if size != info.image_size and not info.keep_ratio:
            (height, width), (own_height, own_width) = size, info.image_size
            raise ValueError(f"{self.path} takes images of {own_height}×{own_width}, got {height}×{width}")
        batch = np.stack([image.numpy() for image in images])
        threshold = info.score_threshold if score_threshold is None else score_threshold
        rows = self.session.run(batch, lowest(threshold))
        most = info.top_k if top_k is None else top_k
        found = select_images(rows, image_sizes, size, score_threshold=threshold, top_k=most)
        return list(map(_detections, found))


def _detections(found: Arrays) -> Detections:
    boxes, labels, scores = (torch.from_numpy(array) for array in (found.boxes, found.labels, found.scores))
    masks = None
    if found.masks is not None:
        masks = RleMasks(paste_codes(found.masks, found.boxes, found.image_size), found.image_size)
    return Detections(boxes, labels, scores, found.image_size, masks)
