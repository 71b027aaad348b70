"""COCO's twelve metrics, and detections in COCO's results format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vovnet import mask_contours
from vovnet.boxes import xyxy_to_xywh
from vovnet.masks import RleMasks
from vovnet.metrics.inputs import check_inputs, check_masks
from vovnet.structures import Detections, Target


@dataclass(frozen=True)
class CocoClassResult:
    """Average precision of one class, from at most 100 detections per image.

    Values are fractions in [0, 1], or None if the targets contain no such object.

    ap: mean over the IoU thresholds 0.5, 0.55, … 0.95.
    ap50: at IoU threshold 0.5.
    ap50_small, ap50_medium, ap50_large: the same for objects with an area up to 32², up to 96² and above, in pixels.
    """

    ap: float | None
    ap50: float | None
    ap50_small: float | None
    ap50_medium: float | None
    ap50_large: float | None


@dataclass(frozen=True)
class CocoResult:
    """COCO's metrics over all classes, and the average precision of each class.

    figures: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl: fractions in [0, 1], or None if the targets
    contain no such object. AP is the average precision, and AR the largest recall, as a mean over classes and the IoU
    thresholds 0.5, 0.55, … 0.95, from at most 100 detections per image; 50 and 75 take one IoU threshold, AR1 and AR10
    at most 1 and 10 detections, s, m and l small, medium and large objects.
    classes: in label order.
    """

    figures: dict[str, float | None]
    classes: tuple[CocoClassResult, ...]


def evaluate_coco(
    detections: Sequence[Detections], targets: Sequence[Target], num_classes: int, *, masks: bool = False
) -> CocoResult:
    """COCO's metrics over a set of images; `detections[i]` and `targets[i]` belong to the same image.

    Objects are small, medium or large by `Target.area`, detections by the area of their mask or box. COCO has no
    difficult objects; they are treated as crowds. So, as in VOC, they need not be detected and may be detected twice.

    masks: compare masks, which must be run-length codes, instead of boxes.
    """
    from hotcoco import COCO, COCOeval

    check_inputs(detections, targets, num_classes)
    if masks:
        check_masks(detections, targets)
    truth = COCO.from_arrays(
        [{"id": image, "height": d.image_size[0], "width": d.image_size[1]} for image, d in enumerate(detections, 1)],
        [{"id": label, "name": str(label)} for label in range(1, num_classes + 1)],
        _image_ids(targets),
        _concatenate([t.labels for t in targets]).astype(np.int64) + 1,
        _boxes_xywh(targets),
        area=_concatenate([t.area for t in targets]),
        iscrowd=_concatenate([t.crowd | t.difficult for t in targets]).astype(np.int64),
        segmentation=_segmentations(targets) if masks else None,
    )
    columns = (
        _image_ids(detections),
        _boxes_xywh(detections),
        _concatenate([d.scores for d in detections]),
        _concatenate([d.labels for d in detections]) + 1,
    )
    results = truth.load_res(np.column_stack(columns), segmentation=_segmentations(detections) if masks else None)
    if masks:  # until here the areas are those of the boxes
        areas = _concatenate([_run_lengths(d).areas() for d in detections])
        results.update_anns(ids=np.arange(1, len(areas) + 1), area=areas)
    evaluation = COCOeval(truth, results, "segm" if masks else "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summary_lines()  # computes the results; `summarize` would print them too

    assert evaluation.eval is not None
    precision = evaluation.eval["precision"][..., -1]  # (IoU, recall, class, size)
    classes = tuple(_class_result(precision[:, :, label]) for label in range(num_classes))
    metrics = {name: None if value < 0 else value for name, value in evaluation.get_results().items()}
    return CocoResult({name: metrics[name] for name in evaluation.metric_keys()}, classes)


def to_coco_results(
    detections: Sequence[Detections],
    image_ids: Sequence[int | str],
    category_ids: Sequence[int],
    *,
    contours: bool = False,
) -> list[dict[str, Any]]:
    """Detections in COCO's results format: one dict per detection.

    Its keys are image_id, category_id, bbox (x, y, width, height; rounded to 0.001 pixel), score (to six decimals) and,
    if there are masks, segmentation.

    image_ids: one per image.
    category_ids: one per label.
    contours: segmentations are polygons instead of run-length objects. Holes are filled, and a mask without pixels has
    no polygon.
    """
    results = []
    for image_id, image_detections in zip(image_ids, detections, strict=True):
        rows = [
            {
                "image_id": image_id,
                "category_id": category_ids[label],
                "bbox": [round(value, 3) for value in bbox],
                "score": round(score, 6),
            }
            for bbox, label, score in zip(
                xyxy_to_xywh(image_detections.boxes.double()).tolist(),
                image_detections.labels.tolist(),
                image_detections.scores.tolist(),
                strict=True,
            )
        ]
        if (masks := image_detections.masks) is not None:
            segmentations = mask_contours.contours(masks) if contours else masks.to_coco()
            rows = [{**row, "segmentation": mask} for row, mask in zip(rows, segmentations, strict=True)]
        results += rows
    return results


def _image_ids(items: Sequence[Detections] | Sequence[Target]) -> npt.NDArray[np.int64]:
    """For each detection or object the number of its image, from 1."""
    return np.repeat(np.arange(1, len(items) + 1), [len(item) for item in items])


def _boxes_xywh(items: Sequence[Detections] | Sequence[Target]) -> npt.NDArray[np.float64]:
    return _concatenate([xyxy_to_xywh(item.boxes.double()) for item in items]).reshape(-1, 4)


def _segmentations(items: Sequence[Detections] | Sequence[Target]) -> list[Any]:
    return [mask for item in items for mask in _run_lengths(item).to_coco()]


def _run_lengths(item: Detections | Target) -> RleMasks:
    """The masks, which may be missing only if there are no objects: `check_masks` came before."""
    return item.masks if isinstance(item.masks, RleMasks) else RleMasks((), (0, 0))


def _concatenate(columns: Sequence[Tensor]) -> npt.NDArray[np.float64]:
    return torch.cat(list(columns)).double().numpy() if columns else np.empty(0)


def _class_result(precision: npt.NDArray[np.float64]) -> CocoClassResult:
    """precision: (IoU threshold, recall level, object size); the sizes are all, small, medium and large."""
    return CocoClassResult(
        ap=_mean(precision[:, :, 0]),
        ap50=_mean(precision[0, :, 0]),
        ap50_small=_mean(precision[0, :, 1]),
        ap50_medium=_mean(precision[0, :, 2]),
        ap50_large=_mean(precision[0, :, 3]),
    )


def _mean(precision: npt.NDArray[np.float64]) -> float | None:
    """The mean of the defined values: COCO writes −1 if there is no object to detect."""
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else None
