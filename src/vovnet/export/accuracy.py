"""What an export costs in average precision."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from vovnet.data.dataset import DetectionDataset
from vovnet.export.gate_report import AccuracyChange
from vovnet.metrics.coco import evaluate_coco
from vovnet.metrics.voc import evaluate_voc
from vovnet.structures import Detections


def accuracy_changes(
    before: Sequence[Detections], after: Sequence[Detections], dataset: DetectionDataset
) -> tuple[AccuracyChange, ...]:
    """VOC07 mAP at IoU 0.5; with the extra "eval" COCO AP too, of boxes and where there are any of masks."""
    values = [_metrics(detections, dataset) for detections in (before, after)]
    pairs = ((name, values[0][name], values[1][name]) for name in values[0])
    return tuple(
        AccuracyChange(metric=name, before=first, after=second)
        for name, first, second in pairs
        if first is not None and second is not None
    )


def _metrics(detections: Sequence[Detections], dataset: DetectionDataset) -> dict[str, float | None]:
    targets, classes = [sample.target for sample in dataset], len(dataset.class_names)
    metrics = {"VOC07 mAP": evaluate_voc(detections, targets, classes).mean_ap11}
    if find_spec("hotcoco") is not None:
        metrics["COCO AP"] = evaluate_coco(detections, targets, classes).figures["AP"]
        masks = [item.masks for item in detections] + [target.masks for target in targets]
        if all(item is not None for item in masks):
            metrics["COCO mask AP"] = evaluate_coco(detections, targets, classes, masks=True).figures["AP"]
    return metrics
