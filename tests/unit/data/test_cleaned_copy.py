"""What the cleaned copy keeps, leaves out and writes anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from vovnet.data.check import check_dataset, write_cleaned_copy
from vovnet.data.formats import open_dataset

from .small_datasets import (
    HEIGHT,
    WIDTH,
    clean_and_check,
    cut_short,
    make_coco,
    make_voc,
    make_yolo,
    same_pixels,
    set_entry,
    voc_lines,
)


def test_voc_copy_keeps_the_rest(tmp_path: Path) -> None:
    root, out = make_voc(tmp_path / "d"), tmp_path / "out"
    voc_lines("a", (1, 1, 70, 40), (30, 1, 4, 4), size=(1, 1))(root)
    same_pixels("JPEGImages/i.png", "JPEGImages/b.png")(root)
    clean_and_check(root, out)
    assert "<pose>Left</pose>" in (out / "Annotations/a.xml").read_text()
    assert (out / "Annotations/c.xml").read_bytes() == (root / "Annotations/c.xml").read_bytes()
    assert (out / "LICENSE").read_text() == "free"
    assert (out / "ImageSets/Main/cat_train.txt").read_text() == "a  1\nc  1\nd  1\ne  1\nf  1\n"
    assert [sample.image_id for sample in open_dataset(out, "train")] == list("acdef")
    assert [sample.image_id for sample in open_dataset(out, "trainval")] == list("acdefgh")
    assert not (out / "JPEGImages/b.png").exists()
    sample = open_dataset(out, "train")[0]
    assert sample.target.boxes.tolist() == [[0, 0, 60, 40]]
    assert sample.image_size == (HEIGHT, WIDTH)


def test_coco_copy_keeps_the_rest(tmp_path: Path) -> None:
    root, out = make_coco(tmp_path / "d"), tmp_path / "out"
    set_entry("train", "annotations", 0, bbox=[50, 5, 20, 3])(root)
    same_pixels("images/val/0.png", "images/train/1.png")(root)
    clean_and_check(root, out)
    content = json.loads((out / "annotations/instances_train.json").read_text())
    assert content["info"] == {"x": 1}
    assert [image["id"] for image in content["images"]] == [0, 2, 3, 4]
    assert [entry["id"] for entry in content["annotations"]] == [0, 2, 3, 4]
    assert content["annotations"][0] == {
        "id": 0, "image_id": 0, "category_id": 7, "bbox": [50, 5, 10, 3], "area": 30, "iscrowd": 0, "note": "mine"
    }  # fmt: skip


def test_yolo_splits_that_share_a_folder(tmp_path: Path) -> None:
    root, out = make_yolo(tmp_path / "d"), tmp_path / "out"
    (root / "data.yaml").write_text("train: images\nval: images/val\nnames: [cat, dog]\n")
    assert check_dataset(root, workers=1).count_by_kind() == {"split-leak": 2}
    clean_and_check(root, out)
    assert (len(open_dataset(out, "train")), len(open_dataset(out, "val"))) == (5, 2)
    assert yaml.safe_load((out / "data.yaml").read_text())["names"] == ["cat", "dog"]
    assert (out / "labels/train/0.txt").read_bytes() == (root / "labels/train/0.txt").read_bytes()


def test_the_copy_goes_to_a_new_folder_outside(tmp_path: Path) -> None:
    report = check_dataset(make_yolo(tmp_path / "d"), workers=1)
    with pytest.raises(ValueError, match="lies inside the data folder"):
        write_cleaned_copy(report, tmp_path / "d" / "clean")
    for out in (tmp_path, tmp_path / "d"):
        with pytest.raises(FileExistsError, match="not an empty folder"):
            write_cleaned_copy(report, out)
    (tmp_path / "empty").mkdir()
    write_cleaned_copy(report, tmp_path / "empty")
    assert len(open_dataset(tmp_path / "empty", "val")) == 2


def test_faults_of_yolo_lists(tmp_path: Path) -> None:
    root, out = make_yolo(tmp_path / "d"), tmp_path / "out"
    (root / "data.yaml").write_text("train: lists/train.txt\nval: images/val\nnames: [cat, dog]\n")
    (root / "lists").mkdir()
    (root / "lists/train.txt").write_text("images/train/0.png\nimages/train/9.png\n../images/train/0.png\n")
    assert check_dataset(root, workers=1).count_by_kind() == {"missing-image": 1, "listed-twice": 1}
    clean_and_check(root, out)
    assert [sample.image_path for sample in open_dataset(out, "train")] == [out / "images/train/0.png"]


def test_voc_without_lists(tmp_path: Path) -> None:
    root, out = make_voc(tmp_path / "d"), tmp_path / "out"
    for path in (root / "ImageSets/Main").iterdir():
        path.unlink()
    same_pixels("JPEGImages/a.png", "JPEGImages/b.png")(root)
    clean_and_check(root, out)
    assert [sample.image_id for sample in open_dataset(out)] == list("acdefghij")


def test_coco_with_images_beside_the_json(tmp_path: Path) -> None:
    source, root, out = make_coco(tmp_path / "s"), tmp_path / "d", tmp_path / "out"
    root.mkdir()
    for split in ("train", "val"):
        (source / f"images/{split}").rename(root / split)
        (source / f"annotations/instances_{split}.json").rename(root / split / "_annotations.coco.json")
    cut_short("train/3.png")(root)
    clean_and_check(root, out)
    assert (len(open_dataset(out, "train")), len(open_dataset(out, "val"))) == (4, 2)
