"""Which JSON files are splits, and which image an entry means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vovnet.data.check import check_dataset
from vovnet.data.formats import find_format, open_dataset, splits

from ..coco_writing import CAR, IMAGE, write_image, write_split
from ..small_datasets import clean_and_check, digests


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("result.json", "result"),
        ("annotations.json", "annotations"),
        ("instances_val.json", "val"),
        ("train.json", "train"),
        ("_annotations.coco.json", "all"),
    ],
)
def test_json_files_in_the_root(tmp_path: Path, name: str, split: str) -> None:
    root = write_split(tmp_path / "d", path=name)
    write_image(root / "images/a.png")
    for other in ('{"images": 3}', "[]", '{"images": [], "categories": []}', ""):
        (root / "other.json").write_text(other)
        assert splits(root) == (split,)
    assert len(open_dataset(root)[0].target) == 1
    clean_and_check(root, tmp_path / "out")
    assert splits(tmp_path / "out") == (split,)


def test_other_layouts_come_before_json_files_in_the_root(tmp_path: Path) -> None:
    write_split(tmp_path / "coco", path="train.json")
    assert splits(write_split(tmp_path / "coco", split="val")) == ("val",)
    yolo = write_split(tmp_path / "yolo", path="train.json")
    (yolo / "data.yaml").write_text("train: images\nnames: [car]\n")
    masks = write_split(tmp_path / "masks", path="train.json")
    write_image(masks / "images/a.png")
    (masks / "masks").mkdir()
    Image.new("L", (120, 80)).save(masks / "masks/a.png")
    names = [find_format(root).__name__.rpartition(".")[2] for root in (yolo, masks)]
    assert names == ["yolo", "mask_png"]


@pytest.mark.parametrize(
    "file_name",
    [
        "images\\photo.png",
        "images/photo.png",
        "./photo.png",
        "photo.PNG",
        "Photo.png",
        "upload/3/photo.png",
        "/data/upload/3/photo.png",
        "../../label-studio/data/media/upload/3/photo.png",
        "C:\\Users\\me\\photo.png",
        "/data/local-files/?d=set/photo.png",
    ],
)
def test_names_of_images(tmp_path: Path, file_name: str) -> None:
    root = write_split(tmp_path / "d", path="result.json", images=[IMAGE | {"file_name": file_name}])
    write_image(root / "images/photo.png")
    assert open_dataset(root)[0].image_path == root / "images/photo.png"
    clean_and_check(root, tmp_path / "out")
    assert len(open_dataset(tmp_path / "out")[0].target) == 1


def test_a_name_that_two_images_end_in_finds_neither(tmp_path: Path) -> None:
    images = [IMAGE | {"file_name": "left/a.png"}, IMAGE | {"id": 2, "file_name": "right/a.png"}]
    root = write_split(tmp_path, images=images)
    assert check_dataset(root, workers=1).count_by_kind() == {"missing-image": 2}


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b.png", "\ud800.png"])
def test_a_name_that_no_file_can_have_is_a_missing_image(tmp_path: Path, name: str) -> None:
    root = write_split(tmp_path, images=[IMAGE, IMAGE | {"id": 2, "file_name": name}])
    (problem,) = check_dataset(root, workers=1).problems
    assert problem.kind == "missing-image"
    assert len(problem.detail.encode()) < 150


@pytest.mark.parametrize("names", [("Photo.png", "PHOTO.png"), ("photo.png", "PHOTO.PNG")])
def test_upper_and_lower_case_may_tell_files_apart(tmp_path: Path, names: tuple[str, str]) -> None:
    images = [IMAGE | {"id": number, "file_name": name} for number, name in enumerate(names)]
    root = write_split(tmp_path, [], images=images)
    for seed, name in enumerate(names):
        write_image(root / f"images/train/{name}", seed)
    if len(list((root / "images/train").glob("[pP]*"))) == 1:
        pytest.skip("this file system does not tell upper from lower case")
    assert [sample.image_path.name for sample in open_dataset(root)] == list(names)


BUS = CAR | {"id": 2, "image_id": 2, "category_id": 2, "bbox": [1, 2, 30, 40]}
CATEGORIES = [{"id": 1, "name": "car"}, {"id": 2, "name": "bus"}]


@pytest.mark.parametrize(
    "second",
    [
        {"file_name": "a.png"},
        {"file_name": "./a.png"},
        {"file_name": "A.PNG"},
        {"file_name": "train\\a.png"},
        {"file_name": "a.png", "width": None},
        {"file_name": "a.png", "id": "2"},
        {"file_name": "a.png", "id": "1", "of": "1"},
    ],
)
def test_one_file_under_two_ids(tmp_path: Path, second: dict[str, Any], caplog: Any) -> None:
    entry = IMAGE | {"id": 2} | second
    bus = BUS | {"image_id": second.get("of", 2)}
    root, out = write_split(tmp_path / "d", [CAR, bus], images=[IMAGE, entry], categories=CATEGORIES), tmp_path / "out"
    for folder in (root, out):
        (sample,) = open_dataset(folder)
        assert sample.image_id == 1
        assert sample.target.boxes.tolist() == [[40, 30, 80, 50], [1, 2, 31, 42]]
        assert sample.target.labels.tolist() == [0, 1]
        if folder == root:
            assert "the same file a.png" in caplog.text
            assert check_dataset(root, workers=1).count_by_kind() == {"same-file": 1}
            clean_and_check(root, out)


def test_two_ids_with_the_same_objects(tmp_path: Path) -> None:
    images = [IMAGE, IMAGE | {"id": 2}]
    root = write_split(tmp_path / "d", [CAR, CAR | {"id": 2, "image_id": 2}], images=images)
    assert check_dataset(root, workers=1).count_by_kind() == {"same-file": 1, "duplicate-box": 1}
    clean_and_check(root, tmp_path / "out")


def test_one_file_with_two_sizes_is_refused(tmp_path: Path) -> None:
    images = [IMAGE, IMAGE | {"id": 2, "width": 60, "height": 40}]
    root = write_split(tmp_path, [CAR, BUS], images=images, categories=CATEGORIES)
    with pytest.raises(ValueError, match=r"lists a\.png twice with two sizes"):
        open_dataset(root)
    assert check_dataset(root, workers=1).count_by_kind() == {"annotation-without-image": 1, "listed-twice": 1}


def test_repeated_ids_of_annotations(tmp_path: Path, caplog: Any) -> None:
    boxes = [CAR | {"bbox": [x, 30, 20, 20]} for x in (10, 40, 70)] + [CAR | {"id": 5}]
    root, out = write_split(tmp_path / "d", boxes), tmp_path / "out"
    before = digests(root)
    assert len(open_dataset(root)[0].target) == 4
    assert "and 1 more such problems" in caplog.text
    assert check_dataset(root, workers=1).count_by_kind() == {"repeated-id": 2}
    clean_and_check(root, out)
    assert digests(root) == before
    entries = json.loads((out / "annotations/instances_train.json").read_text())["annotations"]
    assert [entry["id"] for entry in entries] == [1, 6, 7, 5]
    assert open_dataset(out)[0].target.boxes.tolist() == open_dataset(root)[0].target.boxes.tolist()
