"""Writes small COCO datasets as other programs do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 120, 80
CAR = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [40, 30, 40, 20], "area": 800, "iscrowd": 0}
IMAGE = {"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}


def write_image(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_split(
    root: Path,
    annotations: Sequence[dict[str, Any]] = (CAR,),
    *,
    split: str = "train",
    images: Sequence[dict[str, Any]] = (IMAGE,),
    categories: Sequence[dict[str, Any]] | None = None,
    path: str = "annotations/instances_{}.json",
) -> Path:
    """The JSON file of a split, and a.png and b.png with pixels of their own."""
    json_path = root / path.format(split)
    json_path.parent.mkdir(parents=True, exist_ok=True)
    categories = [{"id": 1, "name": "car"}] if categories is None else categories
    json_path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    for seed, stem in enumerate("ab"):
        write_image(root / f"images/{split}/{stem}.png", seed + sum(map(ord, split)))
    return root
