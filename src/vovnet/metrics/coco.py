"""COCO's twelve metrics, and detections in COCO's results format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vovnet.boxes import xyxy_to_xywh
from vovnet.masks import RleMasks, to_polygons
from vovnet.media.results import coco_results
from vovnet.metrics.inputs import check_inputs
from vovnet.structures import Detections, Target

if TYPE_CHECKING:
    from hotcoco import COCOeval


@dataclass(frozen=True)
class CocoClassResult:
    """Average precision of one class, from at most 100 detections per image, in [0, 1]; None without such an object.

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
    """COCO's metrics over all classes, and the average precision of each class, in label order.

    figures: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl: fractions in [0, 1], or None if the targets
    contain no such object. AP is the average precision, and AR the largest recall, as a mean over classes and the IoU
    thresholds 0.5, 0.55, … 0.95, from at most 100 detections per image; 50 and 75 take one IoU threshold, AR1 and AR10
    at most 1 and 10 detections, s, m and l small, medium and large objects.
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
    evaluation = make_evaluation(detections, targets, num_classes, masks=masks)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summary_lines()  # computes the results; `summarize` would print them too

    assert evaluation.eval is not None
    precision = evaluation.eval["precision"][..., -1]  # (IoU, recall, class, size)
    classes = tuple(_class_result(precision[:, :, label]) for label in range(num_classes))
    values = evaluation.get_results()
    return CocoResult({name: None if values[name] < 0 else values[name] for name in evaluation.metric_keys()}, classes)


def make_evaluation(
    detections: Sequence[Detections],
    targets: Sequence[Target],
    num_classes: int,
    *,
    masks: bool = False,
    areas: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None = None,
) -> COCOeval:
    """hotcoco's evaluation of the detections, ready to run. Image ids and category ids count from 1.

    areas: what counts as the area of each object and of each detection of all images; None is their own.
    """
    from hotcoco import COCO, COCOeval

    check_inputs(detections, targets, num_classes)
    if masks:
        _check_masks(detections, targets)
    image_ids, boxes_xywh, category_ids = _columns(targets)
    truth = COCO.from_arrays(
        [{"id": image, "height": d.image_size[0], "width": d.image_size[1]} for image, d in enumerate(detections, 1)],
        [{"id": label, "name": str(label)} for label in range(1, num_classes + 1)],
        image_ids,
        category_ids.astype(np.int64),
        boxes_xywh,
        area=_concatenate([t.area for t in targets]) if areas is None else areas[0],
        iscrowd=_concatenate([t.crowd | t.difficult for t in targets]).astype(np.int64),
        segmentation=[code for codes in _run_lengths(targets) for code in codes.to_coco()] if masks else None,
    )
    image_ids, boxes_xywh, category_ids = _columns(detections)
    results = truth.load_res(
        np.column_stack((image_ids, boxes_xywh, _concatenate([d.scores for d in detections]), category_ids)),
        segmentation=[code for codes in _run_lengths(detections) for code in codes.to_coco()] if masks else None,
    )
    if areas is None and masks:  # until here the areas are those of the boxes
        areas_of_masks = _concatenate([codes.areas() for codes in _run_lengths(detections)])
        results.update_anns(ids=np.arange(1, len(areas_of_masks) + 1), area=areas_of_masks)
    elif areas is not None:
        results.update_anns(ids=np.arange(1, len(areas[1]) + 1), area=areas[1])
    return COCOeval(truth, results, "segm" if masks else "bbox")


def _check_masks(detections: Sequence[Detections], targets: Sequence[Target]) -> None:
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

    image_ids, category_ids: one per image, and one per label.
    contours: segmentations are polygons instead of run-length objects. Holes are filled, and a mask without pixels has
    no polygon.
    """
    results: list[dict[str, Any]] = []
    for image_id, image_detections in zip(image_ids, detections, strict=True):
        first = len(results)
        boxes_xywh = xyxy_to_xywh(image_detections.boxes.double()).tolist()
        ids = [category_ids[label] for label in image_detections.labels.tolist()]
        results += coco_results(image_id, ids, boxes_xywh, image_detections.scores.tolist())
        if (masks := image_detections.masks) is not None:
            segmentations = to_polygons(masks) if contours else masks.to_coco()
            for result, segmentation in zip(results[first:], segmentations, strict=True):
                result["segmentation"] = segmentation
    return results


def _columns(items: Sequence[Detections] | Sequence[Target]) -> tuple[npt.NDArray[Any], ...]:
    """For each detection or object the number of its image, from 1, its box x y width height, and its label + 1."""
    image_ids = np.repeat(np.arange(1, len(items) + 1), [len(item) for item in items])
    boxes_xywh = _concatenate([xyxy_to_xywh(item.boxes.double()) for item in items]).reshape(-1, 4)
    return image_ids, boxes_xywh, _concatenate([item.labels for item in items]) + 1


def _run_lengths(items: Sequence[Detections] | Sequence[Target]) -> list[RleMasks]:
    """The masks of each image that has any; only an image without objects has none, as `_check_masks` checked."""
    return [item.masks for item in items if isinstance(item.masks, RleMasks)]


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
