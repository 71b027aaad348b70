"""Draw detections or the objects of a target on an image: masks, boxes, class names, scores and errors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from vovnet.masks import RleMasks, decode
from vovnet.media.drawing import WHITE, Colour, Item, Region, annotate, colours, shown_names
from vovnet.metrics.confusion import FALSE_POSITIVE, match_objects
from vovnet.structures import Detections, Masks, Target


def draw_detections(
    image: Tensor, detections: Detections, class_names: Sequence[str], *, target: Target | None = None
) -> Tensor:
    """A copy of `image` with the mask, box, class name and score of each detection, the highest score on top.

    image: uint8 RGB (3, H, W), as is the result. Detections of one class that have masks differ in tone.
    target: also marks errors. Every object of the target gets a dashed white box. If no detection of its class
        matches it, the box is thick and says "missed", and its mask is outlined. A "?" follows the score of a
        detection that matches no object of its class.

    Raises ValueError for an image of another type or shape, and for masks of another size.
    """
    labels, scores = detections.labels.tolist(), detections.scores.tolist()
    class_names = shown_names(tuple(class_names))
    names = [f"{class_names[label]} {score:.2f}" for label, score in zip(labels, scores, strict=True)]
    truth: list[Item] = []
    if target is not None:
        matched = match_objects(detections, target)
        correct = detections.labels.numpy() == np.append(target.labels.numpy(), -1)[matched]
        for index in np.flatnonzero(~correct & (matched >= FALSE_POSITIVE)).tolist():
            names[index] += " ?"
        missed = np.setdiff1d(np.flatnonzero(~(target.difficult | target.crowd).numpy()), matched[correct])
        truth_names = [""] * len(target)
        for index in missed.tolist():
            truth_names[index] = f"missed {class_names[int(target.labels[index])]}"
        truth = _items(target.boxes, truth_names, [WHITE] * len(target), target.masks)
    items = _items(detections.boxes, names, _colours(labels, detections.masks), detections.masks)
    return _annotate(image, items[::-1], truth)


def draw_target(image: Tensor, target: Target, class_names: Sequence[str]) -> Tensor:
    """A copy of `image` with the mask, box and class name of each object, in the colours of `draw_detections`.

    Small objects are on top. A "~" follows the name of an object that evaluation ignores: a difficult one or a crowd.
    """
    class_names = shown_names(tuple(class_names))
    labels, ignored = target.labels.tolist(), (target.difficult | target.crowd).tolist()
    names = [class_names[label] + (" ~" if ignore else "") for label, ignore in zip(labels, ignored, strict=True)]
    items = _items(target.boxes, names, _colours(labels, target.masks), target.masks)
    large_first = target.area.argsort(descending=True, stable=True).tolist()
    return _annotate(image, [items[index] for index in large_first])


def _items(boxes: Tensor, names: Sequence[str], of_each: Sequence[Colour], masks: Masks | None) -> list[Item]:
    return [
        Item(box, name, colour, partial(_region, masks[torch.tensor([index])]) if isinstance(masks, RleMasks) else None)
        for index, (box, name, colour) in enumerate(zip(boxes.tolist(), names, of_each, strict=True))
    ]


def _colours(labels: Sequence[int], masks: Masks | None) -> list[Colour]:
    return colours(labels, masks=isinstance(masks, RleMasks))


def _region(single: RleMasks, image_size: tuple[int, int]) -> Region:
    """The bounding box of a single mask as slices of the image, and the mask in it."""
    if single.size != image_size:
        raise ValueError(f"masks must have the image's size {image_size} (height, width), got {single.size}")
    x1, y1, x2, y2 = single.boxes()[0].int().tolist()
    region = slice(y1, y2), slice(x1, x2)
    return region, decode(single)[0].numpy()[region].astype(np.bool_)


def _annotate(image: Tensor, items: Sequence[Item], truth: Sequence[Item] = ()) -> Tensor:
    """`annotate` for tensors. Raises ValueError for an image of another type or shape."""
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"image must be uint8 of shape (3, H, W), got {image.dtype} of {tuple(image.shape)}")
    return torch.from_numpy(annotate(image.permute(1, 2, 0).numpy(), items, truth)).permute(2, 0, 1).contiguous()
