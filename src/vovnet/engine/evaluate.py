"""Running a detector over a data set, and what its detections are worth."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vovnet.data.dataset import DetectionDataset
from vovnet.data.images import read_image
from vovnet.data.loading import start_loader
from vovnet.engine.distributed import Workers
from vovnet.engine.distributed import workers as start_workers
from vovnet.engine.inference import detect_images
from vovnet.engine.multi_scale import MultiScale, detect_multi_scale
from vovnet.errors import UsageError
from vovnet.metrics.coco import CocoClassResult, CocoResult, evaluate_coco
from vovnet.metrics.confusion import IntArray, confusion_matrix, image_errors
from vovnet.metrics.voc import ClassResult, VocResult, evaluate_voc
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.detectors.merging import soft_nms as apply_soft_nms
from vovnet.models.preprocessing import Preprocessing
from vovnet.structures import Detections


class _Images(Dataset[tuple[Tensor, tuple[int, int]]]):
    """Every image of a data set, resized for the network if it says how, with its own size."""

    def __init__(self, dataset: DetectionDataset, preprocessing: Preprocessing | None, indices: range) -> None:
        self.dataset, self.preprocessing, self.indices = dataset, preprocessing, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, tuple[int, int]]:
        image = read_image(self.dataset[self.indices[index]].image_path)
        size = (image.shape[1], image.shape[2])
        return (self.preprocessing.resize(image) if self.preprocessing else image), size


def _collate(items: list[tuple[Tensor, tuple[int, int]]]) -> tuple[list[Tensor] | Tensor, list[tuple[int, int]]]:
    """One tensor where the images have one size: each that a loader process sends takes a file descriptor."""
    images, sizes = zip(*items, strict=True)
    same = len({image.shape for image in images}) == 1
    return (torch.stack(images) if same else list(images)), list(sizes)


def detect(
    model: DetectionModel,
    dataset: DetectionDataset,
    *,
    batch_size: int,
    workers: int,
    group: Workers,
    soft_nms: bool = False,
    multi_scale: MultiScale | None = None,
    on_image: Callable[[int], None] = lambda count: None,
) -> list[Detections]:
    """The detections of every image, in the data set's order; several processes share the images, each seen once.

    soft_nms: COCO's last step at one scale, see `vovnet.models.detectors.merging`. multi_scale: instead of the model's
    own input size; the images then go through the network one by one. on_image: called with the number of images done
    after each batch.
    """
    if soft_nms and multi_scale is not None:
        raise UsageError(
            "soft-NMS belongs to a test at one scale; a multi-scale test votes instead: choose one of them"
        )
    mine = range(group.rank, len(dataset), group.world_size)
    loader = DataLoader(
        _Images(dataset, model.preprocessing if multi_scale is None else None, mine),
        batch_size if multi_scale is None else 1,
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=start_loader,
    )

    def detect_batch(images: list[Tensor], sizes: list[tuple[int, int]]) -> list[Detections]:
        batch = torch.stack(images).to(group.device)
        return model.decode(model(model.preprocessing.normalize(batch)), sizes)

    model.eval()
    found: list[Detections] = []
    for images, sizes in loader:
        if multi_scale is not None:
            found.append(detect_multi_scale(model, images[0], multi_scale))
        else:
            detected = detect_images(list(images), sizes, detect_batch)
            found += [apply_soft_nms(detections) for detections in detected] if soft_nms else detected
        on_image(len(found))
    result: list[Detections | None] = [None] * len(dataset)
    for rank, part in enumerate(group.gather(found)):
        result[rank :: group.world_size] = part
    return [detections for detections in result if detections is not None]


@dataclass(frozen=True)
class Evaluation:
    """A detector's accuracy on one split, and the detections behind it.

    voc and coco compare boxes. coco_masks compares masks; None unless the detector gives masks and the data set was
    opened with them. confusion: (K + 1, K + 1) counts at `score_threshold`; errors: (N, 3) missed, false and confused
    objects of each image; both compare masks where both sides have them, see `vovnet.metrics.confusion`. images_per_s
    counts reading, network and decoding.
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
    coco_masks: CocoResult | None = None

    def classes(self) -> list[tuple[str, ClassResult, CocoClassResult, CocoClassResult | None]]:
        """Each class's name and figures; the last are those of its masks."""
        masks = self.coco_masks.classes if self.coco_masks else [None] * len(self.coco.classes)
        return list(zip(self.dataset.class_names, self.voc.classes, self.coco.classes, masks, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Everything but the detections and curves, for JSON; average precisions are fractions."""
        return {
            "data": str(self.dataset.root),
            "split": self.dataset.split,
            "images": len(self.dataset),
            "soft_nms": self.soft_nms,
            "multi_scale": asdict(self.multi_scale) if self.multi_scale else None,
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
                }
                for name, voc, coco, masks in self.classes()
            },
            "confusion": {"score_threshold": self.score_threshold, "matrix": self.confusion.tolist()},
            "images_per_s": round(self.images_per_s, 2),
        }


def evaluate(
    model: DetectionModel,
    dataset: DetectionDataset,
    *,
    device: str = "auto",
    batch_size: int = 8,
    workers: int = 2,
    score_threshold: float = 0.5,
    soft_nms: bool = False,
    multi_scale: MultiScale | None = None,
    on_image: Callable[[int], None] = lambda count: None,
) -> Evaluation:
    """Detect on every image of `dataset` and compare with its objects; labels must be numbered as the model's.

    score_threshold: the working point of the confusion matrix and of the errors; average precision knows none.
    soft_nms, multi_scale: see `detect`. Masks are compared where both sides have them, see `Evaluation`.
    """
    with start_workers(device) as group:
        model.to(group.device).to(memory_format=torch.channels_last)
        started = time.perf_counter()
        found = detect(
            model,
            dataset,
            batch_size=batch_size,
            workers=workers,
            group=group,
            soft_nms=soft_nms,
            multi_scale=multi_scale,
            on_image=on_image,
        )
        images_per_s = len(dataset) / (time.perf_counter() - started)
    targets = [sample.target for sample in dataset]
    classes = len(dataset.class_names)
    masks = all(one.masks is not None for one in found) and any(target.masks is not None for target in targets)
    return Evaluation(
        dataset,
        found,
        evaluate_voc(found, targets, classes),
        evaluate_coco(found, targets, classes),
        confusion_matrix(found, targets, classes, score_threshold=score_threshold),
        image_errors(found, targets, score_threshold=score_threshold),
        score_threshold,
        images_per_s,
        soft_nms,
        multi_scale,
        evaluate_coco(found, targets, classes, masks=True) if masks else None,
    )
