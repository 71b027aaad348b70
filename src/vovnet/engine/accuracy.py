"""Accuracy in the form in which it stands beside cost."""

from __future__ import annotations

from collections.abc import Callable

from vovnet.data.dataset import DetectionDataset
from vovnet.engine.detector import Detector
from vovnet.engine.evaluate import evaluate
from vovnet.profiling.measurement import Accuracy


def measure_accuracy(
    detector: Detector,
    dataset: DetectionDataset,
    *,
    batch_size: int = 8,
    workers: int = 2,
    on_image: Callable[[int], None] = lambda count: None,
) -> Accuracy:
    """AP, AP50 and VOC07 of a detector on every image of a split, which must be opened with the detector's classes;
    if it was opened with masks and the detector gives some, also "mask AP".

    A figure that has no value, as without objects, is left out. `on_image` is told the number of images done.
    """
    if dataset.class_names != detector.class_names:
        raise ValueError(
            f"{dataset.root} must be opened with the detector's classes {', '.join(detector.class_names)}, "
            f"got {', '.join(dataset.class_names)}"
        )
    found = evaluate(
        detector.model,
        dataset,
        device=str(detector.device),
        batch_size=batch_size,
        workers=workers,
        on_image=on_image,
    )
    figures = {"AP": found.coco.figures["AP"], "AP50": found.coco.figures["AP50"], "VOC07": found.voc.mean_ap11}
    if found.coco_masks is not None:
        figures["mask AP"] = found.coco_masks.figures["AP"]
    known = {name: value for name, value in figures.items() if value is not None}
    return Accuracy(dataset.root.resolve().name, dataset.split, len(dataset), known)
