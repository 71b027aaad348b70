"""The accuracy of what a worker finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from vovnet.data.dataset import DetectionDataset
from vovnet.data.images import read_image
from vovnet.export.measuring.worker_process import Worker
from vovnet.metrics.coco import evaluate_coco
from vovnet.metrics.voc import evaluate_voc
from vovnet.profiling.measurement import Accuracy
from vovnet.structures import Detections


def save_pixels(path: Path, file: Path) -> tuple[int, int]:
    """Write the pixels of an image as `timing_worker` reads them; their (height, width)."""
    pixels = np.ascontiguousarray(read_image(path).permute(1, 2, 0).numpy())
    np.save(file, pixels)
    return pixels.shape[0], pixels.shape[1]


def worker_accuracy(worker: Worker, dataset: DetectionDataset, folder: Path) -> Accuracy:
    """AP, AP50 and VOC07 of its boxes on every image. folder: for one image at a time."""
    file, found = folder / "image.npy", []
    for sample in dataset:
        size = save_pixels(sample.image_path, file)
        answer = worker.ask({"detect": str(file)})
        boxes = torch.tensor(answer["boxes"], dtype=torch.float32).reshape(-1, 4)
        labels = torch.tensor(answer["labels"], dtype=torch.int64)
        found.append(Detections(boxes, labels, torch.tensor(answer["scores"], dtype=torch.float32), size))
    return accuracy_of(found, dataset)


def accuracy_of(detections: Sequence[Detections], dataset: DetectionDataset) -> Accuracy:
    """AP, AP50 and VOC07 of boxes, those that have a value."""
    targets, classes = [sample.target for sample in dataset], len(dataset.class_names)
    coco = evaluate_coco(detections, targets, classes).figures
    figures = {name: coco[name] for name in ("AP", "AP50")} | {
        "VOC07": evaluate_voc(detections, targets, classes).mean_ap11
    }
    values = {name: value for name, value in figures.items() if value is not None}
    return Accuracy(dataset.root.resolve().name, dataset.split, len(dataset), values)
