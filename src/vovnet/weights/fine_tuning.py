"""What a detector takes over from one that was trained on other classes or with other default boxes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from vovnet.errors import listed
from vovnet.models.anchors import Level
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.detectors.decoding import OneStageDetector
from vovnet.weights.detector import LoadedModel, ModelInfo

_FRESH = -1  # instead of the index of a row that could be taken


@dataclass(frozen=True)
class TakenOver:
    """What a detector has of another.

    classes, new_classes: those of this detector that the other has too, and those that it lacks.
    left_out: classes of the other one that this detector lacks.
    other_boxes: whether their default boxes differ.
    fresh: tensors that are as they were, because nothing in the other fits.
    """

    classes: tuple[str, ...]
    new_classes: tuple[str, ...]
    left_out: tuple[str, ...]
    other_boxes: bool
    fresh: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether this detector has all that the other has, and nothing else."""
        return not (self.new_classes or self.left_out or self.other_boxes or self.fresh)

    def sentence(self, source: str) -> str:
        """For the log: what was taken and what was not."""
        known = f" and {listed(self.classes, 10, 150)}" if self.classes else ""
        parts = [f"fine-tunes {source}: takes over backbone, neck, box heads and the logits of the background{known}"]
        if self.new_classes:
            parts.append(f"new, from random logits: {listed(self.new_classes, 10, 150)}")
        if self.left_out:
            parts.append(f"left out: {listed(self.left_out, 10, 150)}")
        if self.other_boxes:
            parts.append("other default boxes: each starts as the one that is most like it")
        if self.fresh:
            parts.append(f"random: {listed(self.fresh, 3, 150)}")
        return "; ".join(parts)


@torch.no_grad()
def take_over(model: DetectionModel, info: ModelInfo, other: LoadedModel) -> TakenOver:
    """Give `model` all that fits of the weights of another detector with the same architecture.

    The logits of the background and of classes with the same name come from the other one; those of other classes stay
    as they are. Where the default boxes differ, each takes the logits and deltas of a box of the other on the same
    feature map: that with the largest IoU, unless another box is still more like it.

    info: of `model`. The architecture is the same if the names are, and the options apart from `anchors`.
    """
    names, theirs = info.class_names, other.info.class_names
    classes = [0, *(theirs.index(name) + 1 if name in theirs else _FRESH for name in names)]
    alike = _alike_boxes(model, other.model)
    by_class, by_box = _class_tensors(info), _box_tensors(info, model) if alike else frozenset[str]()
    state, fresh = other.model.state_dict(), list[str]()
    for name, tensor in model.state_dict().items():
        rows = _Rows(
            classes=classes if name in by_class else [0],
            their_classes=len(theirs) + 1 if name in by_class else 1,
            boxes=alike[_level(name)] if name in by_box else None,
            classes_first=model.two_stage,
        )
        if name not in state or not rows.copy(state[name], tensor):
            fresh.append(name)
    return TakenOver(
        classes=tuple(name for name in names if name in theirs),
        new_classes=tuple(name for name in names if name not in theirs),
        left_out=tuple(name for name in theirs if name not in names),
        other_boxes=bool(alike),
        fresh=tuple(fresh),
    )


@dataclass(frozen=True)
class _Rows:
    """Which rows (first dimension) of a tensor are taken from which rows of another.

    Rows are those of P default boxes, and of each those of C classes; of a two-stage detector just those of classes.

    classes: for each class the index of the other's, or `_FRESH`.
    their_classes: how many classes the other has.
    boxes: for each default box the index of the other's, and how many these are; None if they are the same.
    """

    classes: Sequence[int]
    their_classes: int
    boxes: tuple[Sequence[int], int] | None
    classes_first: bool

    def copy(self, source: Tensor, target: Tensor) -> bool:
        """Whether the tensors fit; if they do, the rows are copied."""
        own, theirs = len(self.classes), self.their_classes
        if self.boxes is None and (own, theirs) == (1, 1):
            if source.shape != target.shape:
                return False
            target.copy_(source)
            return True
        boxes: Sequence[int]
        if self.classes_first:
            boxes, their_boxes = [0], 1
        elif self.boxes is None:
            boxes, their_boxes = range(len(target) // own), len(source) // theirs
        else:
            boxes, their_boxes = self.boxes
        if len(target) % (len(boxes) * own) or len(source) % (their_boxes * theirs) or max(boxes) >= their_boxes:
            return False
        rows, their_rows = target.unflatten(0, (len(boxes), own, -1)), source.unflatten(0, (their_boxes, theirs, -1))
        if rows.shape[2:] != their_rows.shape[2:]:
            return False
        known = [index for index, other in enumerate(self.classes) if other != _FRESH]
        taken = their_rows[list(boxes)][:, [self.classes[index] for index in known]]
        rows[:, known] = taken.to(rows)
        return True


def _level(name: str) -> int:
    """The feature map of a head: "odm.2.cls.weight" belongs to the third."""
    number = re.search(r"\.(\d+)\.", name)
    return int(number[1]) if number else 0


def _class_tensors(info: ModelInfo) -> frozenset[str]:
    """The tensors with rows for each class."""
    more = replace(info, class_names=(*info.class_names, ""), category_ids=(*info.category_ids, -1))
    return _changed(info.build_on_meta(), more.build_on_meta())


def _box_tensors(info: ModelInfo, model: DetectionModel) -> frozenset[str]:
    """The tensors with rows for each default box."""
    more = [[*shapes, shapes[0]] for shapes in (level.shapes() for level in _levels(model))]
    return _changed(info.build_on_meta(), replace(info, options={**info.options, "anchors": more}).build_on_meta())


def _changed(a: nn.Module, b: nn.Module) -> frozenset[str]:
    shapes = {name: tensor.shape for name, tensor in b.state_dict().items()}
    return frozenset(name for name, tensor in a.state_dict().items() if shapes[name] != tensor.shape)


def _levels(model: DetectionModel) -> Sequence[Level]:
    return model.anchors.levels if isinstance(model, OneStageDetector) else ()


def _alike_boxes(model: DetectionModel, other: DetectionModel) -> list[tuple[list[int], int]]:
    """For each feature map, the index of the other's box that is most like each box, and how many the other has.

    Nothing if all are the same.
    """
    own, theirs = ([level.shapes() for level in _levels(detector)] for detector in (model, other))
    if own == theirs:
        return []
    pairs = (map(torch.tensor, shapes) for shapes in zip(own, theirs, strict=True))
    return [(_partners(_centred_iou(a, b)), len(b)) for a, b in pairs]


def _partners(iou: Tensor) -> list[int]:
    """For each box (row) the other (column) that it starts as, best pairs first.

    No other is taken twice while some are free: boxes with the same logits would tie in every image.
    """
    partners, free = iou.argmax(dim=1).tolist(), iou.clone()
    for _ in range(min(iou.shape)):
        box, other = divmod(int(free.argmax()), iou.shape[1])
        partners[box] = other
        free[box], free[:, other] = -1.0, -1.0
    return partners


def _centred_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes (P, 2) and (Q, 2) of these widths and heights around one centre, (P, Q)."""
    overlap = torch.minimum(a[:, None], b).prod(dim=-1)
    return overlap / (a.prod(dim=-1)[:, None] + b.prod(dim=-1) - overlap)
