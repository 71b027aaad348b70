"""Evaluations of detections that are made by hand, without a detector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vovnet.data.dataset import DetectionDataset, Sample
from vovnet.engine.evaluate import Evaluation, _accuracy
from vovnet.structures import Detections, Target


def evaluated(
    detections: Sequence[Detections],
    targets: Sequence[Target],
    class_names: Sequence[str],
    folder: Path = Path("none"),
    stem: str = "image",
) -> Evaluation:
    """Images are written if there is a folder."""
    samples = []
    for number, (item, target) in enumerate(zip(detections, targets, strict=True)):
        path = folder / f"{stem}{number}.png"
        if folder.is_dir():
            height, width = item.image_size
            pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
        samples.append(Sample(path, number, target))
    dataset = DetectionDataset(
        folder, "voc", "val", tuple(class_names), tuple(range(1, len(class_names) + 1)), tuple(samples)
    )
    accuracy = _accuracy(list(detections), dataset, 0.5)
    return Evaluation(dataset, list(detections), **accuracy, score_threshold=0.5, images_per_s=1.0)
