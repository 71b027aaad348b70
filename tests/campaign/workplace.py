"""A folder with small data, a config and weights, on which the commands are tried."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..small_voc import write_small_voc
from .seeds import video

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


def prepare(folder: Path) -> Path:
    """The folder, with data/, config.yaml, images/ and a.mp4."""
    write_small_voc(folder / "data", train=3, val=1)
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "images").mkdir()
    for number, path in enumerate(sorted((folder / "data" / "JPEGImages").iterdir())):
        shutil.copy(path, folder / "images" / f"{number}.jpg")
    (folder / "a.mp4").write_bytes(video("mp4", "mpeg4"))
    return folder
