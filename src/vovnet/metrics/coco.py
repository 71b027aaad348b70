"""COCO's twelve figures, and the one place that knows the format of COCO results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vovnet import mask_contours
from vovnet.masks import RleMasks
from vovnet.metrics.inputs import check_inputs, check_masks
from vovnet.structures import Detections, Target


@dataclass(frozen=True)
class CocoClassResult:
    """One class, at most 100 detections an image. Fractions in [0, 1], or None where there is no object of the kind.

    ap: mean over IoU 0.5, 0.55, … 0.95.
    ap50_small, ap50_medium, ap50_large: at IoU 0.5, for objects of area up to 32², up to 96² and above, in pixels.
    """

    ap: float | None
    ap50: float | None
    ap50_small: float | None
    ap50_medium: float | None
    ap50_large: float | None


@dataclass(frozen=True)
class CocoResult:
    """figures: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl; fractions in [0, 1], or None where there
    is no object of the kind.

    classes: in label order.
    """

    figures: dict[str, float | None]
    classes: tuple[CocoClassResult, ...]


def evaluate_coco(
    detections: Sequence[Detections], targets: Sequence[Target], num_classes: int, *, masks: bool = False
) -> CocoResult:
    """COCO's figures over a set of images, `detections[i]` and `targets[i]` of the same image.

    masks: compare masks, which must be run-length codes, instead of boxes.

    Objects are small, medium or large by `Target.area`, detections by their masks or boxes. COCO knows no difficult
    objects: they are treated as crowds, so that, as in VOC, they need not be found and may be found more than once.
    """
    from hotcoco import COCO, COCOeval

    check_inputs(detections, targets, num_classes)
    if masks:
        check_masks(detections, targets)
    truth = COCO.from_arrays(
        [{"id": image, "height": d.image_size[0], "width": d.image_size[1]} for image, d in enumerate(detections, 1)],
        [{"id": label, "name": str(label)} for label in range(1, num_classes + 1)],
        _image_numbers(targets),
        _concatenate([t.labels for t in targets]).astype(np.int64) + 1,
        _boxes_xywh(targets),
        area=_concatenate([t.area for t in targets]),
        iscrowd=_concatenate([t.crowd | t.difficult for t in targets]).astype(np.int64),
        segmentation=_segmentations(targets) if masks else None,
    )
    columns = (
        _image_numbers(detections),
        _boxes_xywh(detections),
        _concatenate([d.scores for d in detections]),
        _concatenate([d.labels for d in detections]) + 1,
    )
    found = truth.load_res(np.column_stack(columns), segmentation=_segmentations(detections) if masks else None)
    if masks:  # areas are those of the boxes so far
        areas = _concatenate([_rle(d).areas() for d in detections])
        found.update_anns(ids=np.arange(1, len(areas) + 1), area=areas)
    evaluation = COCOeval(truth, found, "segm" if masks else "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summary_lines()  # fills in the results that `summarize` would also print

    assert evaluation.eval is not None
    precision = evaluation.eval["precision"][..., -1]  # (IoU, recall, class, size)
    classes = tuple(
        CocoClassResult(_mean(precision[:, :, label, 0]), *(_mean(precision[0, :, label, size]) for size in range(4)))
        for label in range(num_classes)
    )
    figures = {name: None if value < 0 else value for name, value in evaluation.get_results().items()}
    return CocoResult({name: figures[name] for name in evaluation.metric_keys()}, classes)


def to_coco_results(
    detections: Sequence[Detections],
    image_ids: Sequence[int | str],
    category_ids: Sequence[int],
    *,
    contours: bool = False,
) -> list[dict[str, Any]]:
    """Detections as COCO results: one dict a detection with image_id, category_id, bbox (x, y, width, height), score,
    and, where there are masks, segmentation: a run-length object, or with `contours` polygons, where holes are
    filled and a mask without pixels has none.

    image_ids: of each image. category_ids: of each label. Boxes are rounded to 0.001 pixel, scores to six decimals.
    """
    results = []
    for image_id, item in zip(image_ids, detections, strict=True):
        rows = [
            {
                "image_id": image_id,
                "category_id": category_ids[label],
                "bbox": [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)],
                "score": round(score, 6),
            }
            for (x1, y1, x2, y2), label, score in zip(
                item.boxes.tolist(), item.labels.tolist(), item.scores.tolist(), strict=True
            )
        ]
        if item.masks is not None:
            segmentations = mask_contours.contours(item.masks) if contours else item.masks.to_coco()
            rows = [{**row, "segmentation": mask} for row, mask in zip(rows, segmentations, strict=True)]
        results += rows
    return results


def _image_numbers(items: Sequence[Detections] | Sequence[Target]) -> npt.NDArray[np.int64]:
    return np.repeat(np.arange(1, len(items) + 1), [len(item) for item in items])


def _boxes_xywh(items: Sequence[Detections] | Sequence[Target]) -> npt.NDArray[np.float64]:
    boxes = _concatenate([item.boxes for item in items]).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _segmentations(items: Sequence[Detections] | Sequence[Target]) -> list[Any]:
    return [mask for item in items for mask in _rle(item).to_coco()]


def _rle(item: Detections | Target) -> RleMasks:
    """The masks of what `check_masks` has let through: only where nothing is can they be missing."""
    return item.masks if isinstance(item.masks, RleMasks) else RleMasks((), (0, 0))


def _concatenate(columns: Sequence[Tensor]) -> npt.NDArray[np.float64]:
    return torch.cat(list(columns)).double().numpy() if columns else np.empty(0)


def _mean(precision: npt.NDArray[np.float64]) -> float | None:
    """COCO writes −1 where there was nothing to find."""
    known = precision[precision > -1]
    return float(known.mean()) if known.size else None
