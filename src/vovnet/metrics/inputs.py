"""What every metric asks of its two lists."""

from __future__ import annotations

from collections.abc import Sequence

from vovnet.masks import RleMasks
from vovnet.structures import Detections, Target


def check_inputs(detections: Sequence[Detections], targets: Sequence[Target], num_classes: int) -> None:
    """ValueError unless there is one target for each image's detections and every label is a class."""
    if len(detections) != len(targets):
        raise ValueError(
            f"expected one target for each image, got {len(detections)} detections, {len(targets)} targets"
        )
    for image, (found, target) in enumerate(zip(detections, targets, strict=True)):
        for kind, labels in (("detections", found.labels), ("target", target.labels)):
            if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
                wrong = sorted({label for label in labels.tolist() if not 0 <= label < num_classes})
                raise ValueError(f"labels must be in [0, {num_classes}), got {wrong} in the {kind} of image {image}")


def check_masks(detections: Sequence[Detections], targets: Sequence[Target]) -> None:
    """ValueError unless all objects and detections have run-length masks of their image's size."""
    for image, (found, target) in enumerate(zip(detections, targets, strict=True)):
        for kind, item, remedy in (
            ("detections", found, "use a model that predicts masks"),
            ("target", target, "use a data set that annotates masks"),
        ):
            if not len(item):
                continue
            if not isinstance(item.masks, RleMasks):
                raise ValueError(
                    f"expected run-length masks, got none in the {kind} of image {image}: {remedy}, or evaluate boxes"
                )
            if tuple(item.masks.size) != tuple(found.image_size):
                raise ValueError(
                    f"expected masks of the image's size (height, width) = {tuple(found.image_size)}, "
                    f"got {tuple(item.masks.size)} in the {kind} of image {image}"
                )
