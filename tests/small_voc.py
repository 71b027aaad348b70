"""A small VOC dataset, cut from the sample images."""

from __future__ import annotations

import shutil
from pathlib import Path

BCCD = Path(__file__).parents[1] / "samples" / "bccd"


def write_small_voc(root: Path, *, train: int, val: int) -> None:
    """A VOC folder with so many training and validation images of BCCD."""
    for split, count in {"train": train, "val": val}.items():
        ids = (BCCD / "ImageSets" / "Main" / f"{split}.txt").read_text().split()[:count]
        for folder, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".xml")):
            (root / folder).mkdir(parents=True, exist_ok=True)
            for image_id in ids:
                shutil.copy(BCCD / folder / f"{image_id}{suffix}", root / folder)
        lists = root / "ImageSets" / "Main"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{split}.txt").write_text("\n".join(ids) + "\n")
