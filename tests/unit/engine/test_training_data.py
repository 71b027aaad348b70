"""Training opens the data that the config names, and refuses data from which nothing can be learnt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vovnet.engine.config import TrainConfig, load_config
from vovnet.engine.training.data import open_data

OBJECT = "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>{}</xmax><ymax>9</ymax></bndbox></object>"
SPLITS = ("train", "val")


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(path)


def make_voc(root: Path, empty: str, body: str = "") -> None:
    """Each split has one image; the one of `empty` has `body` for its objects."""
    for seed, split in enumerate(SPLITS):
        write_image(root / split / "a.png", seed)
        content = body if split == empty else OBJECT.format(9)
        (root / split / "a.xml").write_text(f"<annotation>{content}</annotation>")


def make_voc_without_boxes(root: Path, empty: str) -> None:
    make_voc(root, empty, OBJECT.format("nan"))


def make_coco(root: Path, empty: str) -> None:
    (root / "annotations").mkdir(parents=True)
    for seed, split in enumerate(SPLITS):
        write_image(root / f"images/{split}/a.png", seed)
        box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}
        content = {"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "cat"}]}
        boxes = [] if split == empty else [box]
        (root / f"annotations/{split}.json").write_text(json.dumps(content | {"annotations": boxes}))


def make_yolo(root: Path, empty: str) -> None:
    for seed, split in enumerate(SPLITS):
        write_image(root / f"images/{split}/a.png", seed)
        (root / f"labels/{split}").mkdir(parents=True)
        (root / f"labels/{split}/a.txt").write_text("" if split == empty else "0 0.5 0.5 0.5 0.5\n")
    (root / "my.yaml").write_text("train: images/train\nval: images/val\nnames: [cat]\n")


def config_of(tmp_path: Path, root: Path, *overrides: str) -> TrainConfig:
    path = tmp_path / "config.yaml"
    steps = "schedule: {iterations: 1}\nbatch_size: 1\nmicro_batch_size: 1\n"
    path.write_text(f"model: dsod300_vovnet27_slim\ndata: {{root: {root}}}\n{steps}")
    return load_config(path, [f"output={tmp_path / 'run'}", *overrides])


@pytest.mark.parametrize("make", [make_voc, make_voc_without_boxes, make_coco, make_yolo])
@pytest.mark.parametrize("empty", SPLITS)
def test_a_split_without_objects_is_refused(tmp_path: Path, make: Callable[[Path, str], None], empty: str) -> None:
    make(tmp_path / "d", empty)
    with pytest.raises(ValueError, match=rf"d: no image of the split {empty} has an object"):
        open_data(config_of(tmp_path, tmp_path / "d"))
    if empty == "val":
        assert len(open_data(config_of(tmp_path, tmp_path / "d", "data.val=null"))[0]) == 1


def test_images_of_background_may_be_added(tmp_path: Path) -> None:
    make_yolo(tmp_path / "d", empty="")
    make_yolo(tmp_path / "background", empty="train")
    more = f"data.more_train=[{{root: {tmp_path / 'background'}, split: train}}]"
    assert len(open_data(config_of(tmp_path, tmp_path / "d", more))[0]) == 2


@pytest.mark.parametrize("name", ["d", "d/my.yaml"])
def test_the_root_is_a_folder_or_a_yaml_file(tmp_path: Path, name: str) -> None:
    make_yolo(tmp_path / "d", empty="")
    train, val = open_data(config_of(tmp_path, tmp_path / name))
    assert val is not None
    assert (len(train), len(val), train.class_names) == (1, 1, ("cat",))


def test_the_validation_split_may_be_called_valid(tmp_path: Path) -> None:
    make_voc(tmp_path / "d", empty="")
    (tmp_path / "d/val").rename(tmp_path / "d/valid")
    _, val = open_data(config_of(tmp_path, tmp_path / "d"))
    assert val is not None
    assert val.split == "valid"
