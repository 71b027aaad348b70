"""Run a detector over a dataset and measure its accuracy."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from vovnet.data.batches.loaders import load_batches
from vovnet.data.dataset import DetectionDataset
from vovnet.data.images import read_image
from vovnet.engine.distributed import Workers
from vovnet.engine.distributed import workers as start_workers
from vovnet.engine.multi_scale import MultiScale, detect_multi_scale
from vovnet.engine.predicting.predictor import Predictor, Running
from vovnet.engine.predicting.tiling import detect_tiled
from vovnet.errors import UsageError
from vovnet.metrics.analysis import Analysis, analyse
from vovnet.metrics.coco import CocoClassResult, CocoResult, evaluate_coco
from vovnet.metrics.confusion import IntArray, confusion_matrix, image_errors
from vovnet.metrics.thresholds import BestThreshold, best_thresholds
from vovnet.metrics.voc import ClassResult, VocResult, evaluate_voc
from vovnet.models.detectors.merging import soft_nms as apply_soft_nms
from vovnet.models.preprocessing import Resizing
from vovnet.runtime.options import SCORE_THRESHOLD
from vovnet.runtime.tiles import Tiling
from vovnet.structures import Detections


class _Images(Dataset[tuple[Tensor, tuple[int, int]]]):
    """The images of a dataset at `indices`, with their original sizes; resized if there is a `preprocessing`."""

    def __init__(self, dataset: DetectionDataset, preprocessing: Resizing | None, indices: range) -> None:
        self.dataset, self.preprocessing, self.indices = dataset, preprocessing, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, tuple[int, int]]:
        image = read_image(self.dataset[self.indices[index]].image_path)
        image_size = (image.shape[1], image.shape[2])
        return (self.preprocessing.resize(image) if self.preprocessing else image), image_size


def _collate(items: list[tuple[Tensor, tuple[int, int]]]) -> tuple[list[Tensor] | Tensor, list[tuple[int, int]]]:
    """One tensor if the images have one size: every tensor that a loader process sends costs a file descriptor."""
    images, image_sizes = zip(*items, strict=True)
    same = len({image.shape for image in images}) == 1
    return (torch.stack(images) if same else list(images)), list(image_sizes)


def _largest(dataset: DetectionDataset) -> int:
    """Height × width of the largest image whose size is stated; 0 without any."""
    return max((math.prod(sample.image_size) for sample in dataset if sample.image_size), default=0)


def detect_dataset(
    detector: Predictor,
    dataset: DetectionDataset,
    *,
    batch_size: int,
    workers: int,
    group: Workers,
    soft_nms: bool = False,
    multi_scale: MultiScale | None = None,
    tiling: Tiling | None = None,
    on_image: Callable[[int], None] = lambda count: None,
) -> list[Detections]:
    """The detections of every image, in the order of the dataset.

    workers: processes that read images.
    group: the processes that share the images; each image is seen once.
    soft_nms: COCO's last step for one scale, see `vovnet.models.detectors.merging`.
    multi_scale: test at these scales instead of the model's own input size, one image at a time.
    tiling: detect in tiles too, one image at a time, and `batch_size` tiles together.
    on_image: called after each batch with the number of images that this process has done.
    """
    if soft_nms and multi_scale is not None:
        raise UsageError("soft-NMS is for a test at one scale; a multi-scale test uses box voting: choose one of them")
    if tiling is not None and (soft_nms or multi_scale is not None):
        other = "soft-NMS" if soft_nms else "a multi-scale test"
        raise UsageError(f"tiles have a merging of their own, which does not go with {other}: choose one of them")
    indices = range(group.rank, len(dataset), group.world_size)
    together = multi_scale is None and tiling is None
    preprocessing = detector.preprocessing if together else None
    size = min(batch_size, len(indices)) if together else 1
    batches = load_batches(
        _Images(dataset, preprocessing, indices),
        (list(range(len(indices))[start : start + size]) for start in range(0, len(indices), max(1, size))),
        workers=workers,
        collate=_collate,
        name_of=lambda index: dataset[indices[index]].image_path.name,
        batch_bytes=size * 3 * (preprocessing.least_pixels if preprocessing else _largest(dataset)),
    )
    own: list[Detections] = []
    with closing(batches):
        for images, image_sizes in batches:
            if multi_scale is not None:
                own.append(detect_multi_scale(detector, images[0], multi_scale))
            elif tiling is not None:
                own.append(detect_tiled(detector.detect, images[0], tiling, batch_size=batch_size))
            else:
                detections = detector.detect(list(images), image_sizes)
                own += map(apply_soft_nms, detections) if soft_nms else detections
            on_image(len(own))
    parts = group.gather(own)
    return [parts[index % group.world_size][index // group.world_size] for index in range(len(dataset))]


@dataclass(frozen=True)
class Evaluation:
    """A detector's accuracy on one split, and the detections behind it.

    voc, coco: accuracy of boxes.
    confusion: (K + 1, K + 1) counts at `score_threshold`, see `vovnet.metrics.confusion`.
    errors: (N, 3) missed objects, false positives and confused classes of each image at `score_threshold`.
    images_per_s: includes reading, network and decoding.
    coco_masks: accuracy of masks; None unless both the detector and the dataset have them.
    """

    dataset: DetectionDataset
    detections: list[Detections]
    voc: VocResult
    coco: CocoResult
    confusion: IntArray
    errors: IntArray
    score_threshold: float
    images_per_s: float
    soft_nms: bool = False
    multi_scale: MultiScale | None = None
    tiling: Tiling | None = None
    coco_masks: CocoResult | None = None
    running: Running = field(default_factory=Running)

    def classes(self) -> list[tuple[str, ClassResult, CocoClassResult, CocoClassResult | None]]:
        """(name, VOC result of boxes, COCO result of boxes, COCO result of masks) of each class."""
        masks = self.coco_masks.classes if self.coco_masks else [None] * len(self.coco.classes)
        return list(zip(self.dataset.class_names, self.voc.classes, self.coco.classes, masks, strict=True))

    @cached_property
    def best_thresholds(self) -> tuple[BestThreshold | None, ...]:
        """The score threshold of each class that maximises F1, see `vovnet.metrics.thresholds`."""
        return best_thresholds(self.voc)

    @property
    def score_thresholds(self) -> tuple[float, ...]:
        """`best_thresholds` as numbers to store with the weights; 0.3, the default, for a class without one."""
        return tuple(best.threshold if best else SCORE_THRESHOLD for best in self.best_thresholds)

    @cached_property
    def analysis(self) -> Analysis:
        """Errors by kind, average precision by property, calibration; computed when it is first asked for."""
        return analyse(self.detections, [sample.target for sample in self.dataset], self.voc)

    def to_dict(self) -> dict[str, Any]:
        """Everything except the detections and curves, for JSON; average precision is a fraction."""
        return {
            "data": str(self.dataset.root),
            "split": self.dataset.split,
            "images": len(self.dataset),
            "running": self.running.to_dict(),
            "soft_nms": self.soft_nms,
            "multi_scale": asdict(self.multi_scale) if self.multi_scale else None,
            "tiles": asdict(self.tiling) if self.tiling else None,
            "voc07_map": self.voc.mean_ap11,
            "voc_area_map": self.voc.mean_ap_area,
            "coco": self.coco.figures,
            "coco_masks": self.coco_masks.figures if self.coco_masks else None,
            "classes": {
                name: {
                    "objects": voc.n_objects,
                    "voc07_ap": voc.ap11,
                    "voc_area_ap": voc.ap_area,
                    "coco_ap": coco.ap,
                    "ap50": coco.ap50,
                    "ap50_small": coco.ap50_small,
                    "ap50_medium": coco.ap50_medium,
                    "ap50_large": coco.ap50_large,
                    "mask_ap": masks.ap if masks else None,
                    "mask_ap50": masks.ap50 if masks else None,
                    "best_threshold": best.to_dict() if best else None,
                    "calibration": calibration.to_dict(),
                }
                for (name, voc, coco, masks), best, calibration in zip(
                    self.classes(), self.best_thresholds, self.analysis.classes, strict=True
                )
            },
            "confusion": {"score_threshold": self.score_threshold, "matrix": self.confusion.tolist()},
            "analysis": self.analysis.to_dict(),
            "images_per_s": round(self.images_per_s, 2),
        }


def evaluate(
    detector: Predictor,
    dataset: DetectionDataset,
    *,
    batch_size: int = 8,
    workers: int = 2,
    score_threshold: float = 0.5,
    soft_nms: bool = False,
    multi_scale: MultiScale | None = None,
    tiling: Tiling | None = None,
    on_image: Callable[[int], None] = lambda count: None,
) -> Evaluation:
    """Detect on every image of `dataset` and compare with its objects, whose labels must be those of the detector.

    score_threshold: for the confusion matrix and the errors per image; average precision uses all scores.
    workers, soft_nms, multi_scale, tiling, on_image: see `detect_dataset`.

    Under torchrun the processes share the images, each with a detector on its own device; the first one compares.
    """
    with start_workers(str(detector.device)) as group:
        started = time.perf_counter()
        detections = detect_dataset(
            detector, dataset, batch_size=batch_size, workers=workers, group=group,
            soft_nms=soft_nms, multi_scale=multi_scale, tiling=tiling, on_image=on_image,
        )  # fmt: skip
        images_per_s = len(dataset) / (time.perf_counter() - started)
        accuracy = group.once(lambda: _accuracy(detections, dataset, score_threshold))
    return Evaluation(
        dataset=dataset,
        detections=detections,
        **accuracy,
        score_threshold=score_threshold,
        images_per_s=images_per_s,
        soft_nms=soft_nms,
        multi_scale=multi_scale,
        tiling=tiling,
        running=detector.running,
    )


def _accuracy(detections: list[Detections], dataset: DetectionDataset, score_threshold: float) -> dict[str, Any]:
    """The parts of an `Evaluation` that compare detections with the objects."""
    targets = [sample.target for sample in dataset]
    classes = len(dataset.class_names)
    masks = all(item.masks is not None for item in detections) and any(target.masks is not None for target in targets)
    return {
        "voc": evaluate_voc(detections, targets, classes),
        "coco": evaluate_coco(detections, targets, classes),
        "confusion": confusion_matrix(detections, targets, classes, score_threshold=score_threshold),
        "errors": image_errors(detections, targets, score_threshold=score_threshold),
        "coco_masks": evaluate_coco(detections, targets, classes, masks=True) if masks else None,
    }
