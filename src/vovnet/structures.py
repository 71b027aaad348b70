"""The objects annotated in an image (`Target`) and those that a detector reports (`Detections`).

Letters in shapes, for the whole package: N images, C channels, H and W height and width, A anchors, K classes,
M objects in an image, D detections in an image, R proposals of all images. Boxes are x1 y1 x2 y2 in pixels unless
their name says otherwise.
Labels count foreground classes from 0; only the logits of a network include the background, at index 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from vovnet.exchange.detections import Exchangeable
from vovnet.exchange.supervision import from_supervision
from vovnet.masks import RleMasks
from vovnet.polygons import Integers, Polygons

_COLUMNS = ("boxes", "labels", "difficult", "crowd", "area")


@dataclass(frozen=True, eq=False)
class TrainingMasks:
    """What each object of a training image covers, in pixels of the batch: its polygons, or a bitmap if it has none.

    polygons: of all M objects.
    bitmaps: uint8 (·, H, W) of 0 and 1, of the objects without polygons, in their order.
    """

    polygons: Polygons
    bitmaps: Tensor

    def __post_init__(self) -> None:
        if len(self.bitmaps) != (without := int((self.polygons.parts == 0).sum())):
            raise ValueError(
                f"expected a bitmap of each of {without} objects without polygons, got {len(self.bitmaps)}"
            )

    @classmethod
    def of(cls, masks: Tensor | TrainingMasks) -> TrainingMasks:
        """The same masks, if they are a bitmap of every object."""
        return masks if isinstance(masks, TrainingMasks) else cls(Polygons.make([[]] * len(masks)), masks)

    def __len__(self) -> int:
        return len(self.polygons)

    def __getitem__(self, index: Tensor) -> TrainingMasks:
        """The masks that a boolean mask or an index tensor of shape (M,) selects."""
        objects = np.arange(len(self))[index.cpu().numpy()]
        bitmaps = self.bitmap_indices()[objects]
        return TrainingMasks(self.polygons[objects], self.bitmaps[torch.from_numpy(bitmaps[bitmaps >= 0])])

    def bitmap_indices(self) -> Integers:
        """(M,): the index of each object's bitmap; -1 for objects with polygons."""
        without = self.polygons.parts == 0
        return np.where(without, np.cumsum(without) - 1, -1)


Masks = Tensor | RleMasks | TrainingMasks


def _check_shapes(boxes: Tensor, masks: Masks | None, **columns: Tensor) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must have shape (M, 4), got {tuple(boxes.shape)}")
    if masks is not None and len(masks) != len(boxes):
        raise ValueError(f"expected one mask per box, got {len(masks)} masks and {len(boxes)} boxes")
    for name, column in columns.items():
        if column.shape != boxes.shape[:1]:
            raise ValueError(f"{name} must have shape ({len(boxes)},), one entry per box, got {tuple(column.shape)}")


@dataclass(frozen=True, eq=False)
class Target:
    """The objects of one image.

    boxes: (M, 4) float32, x1 y1 x2 y2 in pixels, 0-based, x2 and y2 exclusive.
    labels: (M,) int64, indices into the class names of the dataset.
    difficult: (M,) bool, VOC's flag: evaluation ignores these objects.
    crowd: (M,) bool, COCO's iscrowd: a region with many objects. Training ignores it, and any number of detections may
    match it in evaluation.
    area: (M,) float32, pixels of the original image that the object covers if the dataset states it, else the area of
    the box. Evaluation sorts objects into small, medium and large by it; nothing else uses it.
    masks: None, or what each object covers: run-length codes in pixels of the original image in datasets and metrics;
    in training `TrainingMasks`, or just bitmaps, uint8 (M, H, W) of 0 and 1 in pixels of the batch.
    image_size: (height, width) of the image within a padded batch; None if the image fills the batch.
    """

    boxes: Tensor
    labels: Tensor
    difficult: Tensor
    crowd: Tensor
    area: Tensor
    masks: Masks | None = None
    image_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        _check_shapes(
            self.boxes, self.masks, labels=self.labels, difficult=self.difficult, crowd=self.crowd, area=self.area
        )

    @classmethod
    def make(
        cls,
        boxes: object = (),
        labels: object = (),
        difficult: object | None = None,
        crowd: object | None = None,
        area: object | None = None,
        masks: Masks | None = None,
    ) -> Target:
        """A target from anything array-like. Omitted flags are False, omitted areas those of the boxes."""

        def column(values: object, dtype: torch.dtype) -> Tensor:
            return torch.as_tensor(values, dtype=dtype).reshape(-1)

        boxes_t = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        unset = [False] * len(boxes_t)
        return cls(
            boxes_t,
            column(labels, torch.int64),
            column(unset if difficult is None else difficult, torch.bool),
            column(unset if crowd is None else crowd, torch.bool),
            (boxes_t[:, 2:] - boxes_t[:, :2]).prod(dim=1) if area is None else column(area, torch.float32),
            masks,
        )

    @classmethod
    def cat(cls, targets: Sequence[Target]) -> Target:
        """The objects of several images in one target, without their masks."""
        columns = {name: torch.cat([getattr(target, name) for target in targets]) for name in _COLUMNS}
        return replace(targets[0], **columns, masks=None, image_size=None)

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Tensor) -> Target:
        """The objects that a boolean mask or an index tensor of shape (M,) selects."""
        if index.dtype == torch.bool and index.device.type == "cpu" and len(index) == len(self) and bool(index.all()):
            return self  # masks, which may be on a GPU, need not be copied
        columns = {name: getattr(self, name)[index] for name in _COLUMNS}
        return replace(self, **columns, masks=None if self.masks is None else self.masks[index])


@dataclass(frozen=True, eq=False)
class Detections(Exchangeable):
    """The objects that a detector reports for one image, best score first.

    boxes: (D, 4) float32, x1 y1 x2 y2 in pixels of the original image.
    labels: (D,) int64, indices into the class names of the detector.
    scores: (D,) float32 in [0, 1].
    image_size: (height, width) of the original image.
    masks: what each detection covers, in pixels of the original image; None if the detector has no masks.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    image_size: tuple[int, int]
    masks: RleMasks | None = None

    def __post_init__(self) -> None:
        _check_shapes(self.boxes, self.masks, labels=self.labels, scores=self.scores)

    @staticmethod
    def from_supervision(found: Any, image_size: tuple[int, int]) -> Detections:
        """The detections in `supervision.Detections`, best score first: those of any detector, for our metrics.

        Class ids become labels, so they must be indices into the class names of the ground truth.

        image_size: (height, width) of the image.

        Raises ValueError if class ids or scores are missing or can be none of ours, or masks have another size than the
        image.
        """
        columns = from_supervision(found, image_size)
        boxes, labels, scores = map(torch.from_numpy, columns[:3])
        masks = None if columns.codes is None else RleMasks(columns.codes, image_size)
        return Detections(boxes, labels, scores, image_size, masks)

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Tensor) -> Self:
        """The detections that a boolean mask or an index tensor selects."""
        masks = None if self.masks is None else self.masks[index]
        return replace(self, boxes=self.boxes[index], labels=self.labels[index], scores=self.scores[index], masks=masks)

    def cpu(self) -> Self:
        return replace(self, boxes=self.boxes.cpu(), labels=self.labels.cpu(), scores=self.scores.cpu())
