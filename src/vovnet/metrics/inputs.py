"""Checks of the two lists that every metric takes."""

from __future__ import annotations

from collections.abc import Sequence

from vovnet.masks import RleMasks
from vovnet.structures import Detections, Target


def check_inputs(detections: Sequence[Detections], targets: Sequence[Target], num_classes: int) -> None:
    """Raises ValueError unless both lists have one entry per image and every label is a class."""
    if len(detections) != len(targets):
        raise ValueError(
            f"detections and targets must have one entry per image, got {len(detections)} detections, "
            f"{len(targets)} targets"
        )
    for image, (image_detections, target) in enumerate(zip(detections, targets, strict=True)):
        for kind, labels in (("detections", image_detections.labels), ("target", target.labels)):
            if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
                wrong = sorted({label for label in labels.tolist() if not 0 <= label < num_classes})
                raise ValueError(f"labels must be in [0, {num_classes}), got {wrong} in the {kind} of image {image}")


def check_masks(detections: Sequence[Detections], targets: Sequence[Target]) -> None:
    """Raises ValueError unless all objects and detections have run-length masks of the size of their image."""
    for image, (image_detections, target) in enumerate(zip(detections, targets, strict=True)):
        size = tuple(image_detections.image_size)
        for kind, item, remedy in (
            ("detections", image_detections, "use a model that predicts masks"),
            ("target", target, "use a dataset with masks"),
        ):
            if not len(item):
                continue
            if not isinstance(item.masks, RleMasks):
                raise ValueError(
                    f"expected run-length masks, got none in the {kind} of image {image}: {remedy}, or evaluate boxes"
                )
            if tuple(item.masks.size) != size:
                raise ValueError(
                    f"masks must have the size of the image (height, width) = {size}, "
                    f"got {tuple(item.masks.size)} in the {kind} of image {image}"
                )
