"""The IoU threshold of the metrics, and the check of the two lists that each of them takes."""

from __future__ import annotations

from collections.abc import Sequence

from vovnet.structures import Detections, Target

IOU_THRESHOLD = 0.5  # of VOC's average precision and of the confusion matrix


def check_inputs(detections: Sequence[Detections], targets: Sequence[Target], num_classes: int) -> None:
    """Raises ValueError unless both lists have one entry per image and every label is a class."""
    if len(detections) != len(targets):
        raise ValueError(
            f"detections and targets must have one entry per image, got {len(detections)} detections, "
            f"{len(targets)} targets"
        )
    for image, (image_detections, target) in enumerate(zip(detections, targets, strict=True)):
        for kind, labels in (("detections", image_detections.labels), ("target", target.labels)):
            wrong = labels[(labels < 0) | (labels >= num_classes)].unique().tolist()
            if wrong:
                raise ValueError(f"labels must be in [0, {num_classes}), got {wrong} in the {kind} of image {image}")
