"""A folder with small data, a config and weights, on which the commands are tried."""

from __future__ import annotations

import shutil
from pathlib import Path

from .seeds import ROOT, video

BCCD = ROOT / "samples" / "bccd"

CONFIG = """model: dsod300_vovnet27_slim
model_options: {anchors: coco}
data: {root: data}
optimizer: {learning_rate: 0.01}
schedule: {iterations: 4, warmup_iterations: 2, kind: cosine}
batch_size: 1
micro_batch_size: 1
ema_decay: 0.9
threads: 1
workers: 0
evaluate_every: 1
checkpoint_every: 1
log_every: 2
tensorboard: false
"""


def small_voc(root: Path) -> None:
    """A VOC folder with three training images and one for validation."""
    for split, count in {"train": 3, "val": 1}.items():
        ids = (BCCD / "ImageSets" / "Main" / f"{split}.txt").read_text().split()[:count]
        for folder, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".xml")):
            (root / folder).mkdir(parents=True, exist_ok=True)
            for image_id in ids:
                shutil.copy(BCCD / folder / f"{image_id}{suffix}", root / folder)
        lists = root / "ImageSets" / "Main"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{split}.txt").write_text("\n".join(ids) + "\n")


def prepare(folder: Path) -> Path:
    """The folder, with data/, config.yaml, images/ and a.mp4."""
    small_voc(folder / "data")
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "images").mkdir()
    for number, path in enumerate(sorted((folder / "data" / "JPEGImages").iterdir())):
        shutil.copy(path, folder / "images" / f"{number}.jpg")
    (folder / "a.mp4").write_bytes(video("mp4", "mpeg4"))
    return folder
