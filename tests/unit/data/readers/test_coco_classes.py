"""Labels are the same in all splits, whatever categories each split's file lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vovnet.data.check import check_dataset
from vovnet.data.formats import open_dataset

from ..coco_writing import CAR, write_split
from ..small_datasets import clean_and_check

ROOT = {"id": 0, "name": "street", "supercategory": "none"}
CLASSES = [{"id": 1, "name": "car", "supercategory": "street"}, {"id": 2, "name": "bus", "supercategory": "street"}]


def listed(*names: str, first: int = 1) -> list[dict[str, Any]]:
    return [{"id": number, "name": name} for number, name in enumerate(names, first)]


@pytest.mark.parametrize("root_id", [0, 3, "0"])
def test_a_category_that_others_are_kinds_of_is_no_class(tmp_path: Path, root_id: object) -> None:
    root = write_split(tmp_path / "d", categories=[ROOT | {"id": root_id}, *CLASSES])
    data = open_dataset(root)
    assert (data.class_names, data.category_ids) == (("car", "bus"), (1, 2))
    assert data[0].target.labels.tolist() == [0]
    clean_and_check(root, tmp_path / "out")
    copy = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    assert [entry["name"] for entry in copy["categories"]] == ["street", "car", "bus"]


def test_a_root_of_the_same_name_as_its_class(tmp_path: Path) -> None:
    categories = [{"id": 0, "name": "car", "supercategory": "none"}, {"id": 1, "name": "car", "supercategory": "car"}]
    data = open_dataset(write_split(tmp_path, categories=categories))
    assert (data.class_names, data.category_ids) == (("car",), (1,))


@pytest.mark.parametrize("category_id", [0, 0.0, "0"])
@pytest.mark.parametrize("split_with_root", ["train", "val"])
def test_a_root_with_an_annotation_in_any_split_is_a_class_in_all(
    tmp_path: Path, split_with_root: str, category_id: object
) -> None:
    for split in ("train", "val"):
        annotation = CAR | {"category_id": category_id} if split == split_with_root else CAR
        write_split(tmp_path, [annotation], split=split, categories=[ROOT, *CLASSES])
    for split in ("train", "val"):
        data = open_dataset(tmp_path, split)
        assert data.class_names == ("street", "car", "bus")
        assert data[0].target.labels.tolist() == [0 if split == split_with_root else 1]


def test_supercategories_as_in_coco_are_no_roots(tmp_path: Path) -> None:
    categories = [
        {"id": 1, "name": "person", "supercategory": "person"},
        {"id": 2, "name": "bicycle", "supercategory": "vehicle"},
        {"id": 3, "name": "car", "supercategory": "vehicle"},
        {"id": 4, "name": "sports ball", "supercategory": ["sports"]},
    ]
    data = open_dataset(write_split(tmp_path, [CAR | {"category_id": 3}], categories=categories))
    assert data.class_names == ("person", "bicycle", "car", "sports ball")


@pytest.mark.parametrize(
    ("val", "class_names"),
    [
        (listed("car", "bus", "dog"), ("car", "bus", "dog")),
        (listed("dog", "car", "bus"), ("car", "bus", "dog")),
        (listed("car", "bus", "dog", first=0), ("car", "bus", "dog")),
        (listed("dog"), ("car", "bus", "dog")),
        (listed("bus", "cat", "dog"), ("car", "bus", "dog", "cat")),
        (listed("ant", "car", "bus", "dog"), ("car", "bus", "dog", "ant")),
    ],
)
def test_labels_are_those_of_the_training_split(
    tmp_path: Path, val: list[dict[str, Any]], class_names: tuple[str, ...]
) -> None:
    root, out = tmp_path / "d", tmp_path / "out"
    write_split(root, [CAR], categories=listed("car", "bus", "dog"))
    annotations = [CAR | {"id": n, "category_id": entry["id"]} for n, entry in enumerate(val)]
    write_split(root, annotations, split="val", categories=val)
    assert open_dataset(root, "train").class_names == ("car", "bus", "dog")
    data = open_dataset(root, "val")
    assert data.class_names == class_names
    own_ids = {entry["name"]: entry["id"] for entry in val}
    assert [data.category_ids[class_names.index(name)] for name in own_ids] == list(own_ids.values())
    assert len(set(data.category_ids)) == len(class_names)
    labels = [class_names.index(entry["name"]) for entry in val]
    assert data[0].target.labels.tolist() == labels

    shared = {"car": 1, "bus": 2, "dog": 3}
    differ = any(shared.get(name, number) != number for name, number in own_ids.items())
    differ |= any(number in shared.values() and name not in shared for name, number in own_ids.items())
    kinds = check_dataset(root, workers=1).count_by_kind().keys() - {"class-not-in-train"}
    assert kinds == ({"category-ids"} if differ else set())
    clean_and_check(root, out)
    copy = open_dataset(out, "val")
    assert copy[0].target.labels.tolist() == labels
    assert copy.category_ids[:3] == (1, 2, 3)
    assert len(json.loads((out / "annotations/instances_val.json").read_text())["categories"]) == len(val)


def test_another_dataset_in_the_folder_changes_nothing(tmp_path: Path) -> None:
    write_split(tmp_path, split="train2017", categories=listed("person", "car", "dog"))
    others = listed("dog", *(f"thing {number}" for number in range(9)))
    write_split(tmp_path, split="lvis_val", categories=others)
    assert open_dataset(tmp_path, "train2017").class_names == ("person", "car", "dog")
    assert open_dataset(tmp_path, "lvis_val").class_names == tuple(entry["name"] for entry in others)


def test_categories_are_found_without_parsing_the_other_splits(tmp_path: Path) -> None:
    write_split(tmp_path, categories=listed("car", "bus"))
    write_split(tmp_path, split="val", categories=listed("bus", "car"))
    path = tmp_path / "annotations/instances_train.json"
    path.write_text(path.read_text().replace('"annotations": [', '"annotations": [damaged, {"categories": 3}, '))
    assert open_dataset(tmp_path, "val").class_names == ("car", "bus")
    path.write_text("damaged")
    assert open_dataset(tmp_path, "val").class_names == ("bus", "car")
    path.write_text("")
    assert open_dataset(tmp_path, "val").class_names == ("bus", "car")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_classes_are_numbered_alike_in_files_of_any_unicode_encoding(tmp_path: Path, encoding: str) -> None:
    root = write_split(tmp_path, [CAR | {"category_id": 2}], categories=listed("bus", "car"))
    write_split(root, [CAR], split="val", categories=listed("car"))
    for path in (root / "annotations").iterdir():
        path.write_text(path.read_text(), encoding=encoding)
    for split in ("train", "val"):
        data = open_dataset(root, split)
        assert data.class_names == ("bus", "car")
        assert data[0].target.labels.tolist() == [1]


def test_another_encoding_is_named(tmp_path: Path) -> None:
    root = write_split(tmp_path, categories=listed("car"))
    path = root / "annotations/instances_train.json"
    path.write_text(path.read_text().replace("car", "汽车"), encoding="gb2312")
    with pytest.raises(ValueError, match=r"instances_train\.json is not UTF-8 text .*: save it as UTF-8"):
        open_dataset(root)


@pytest.mark.parametrize("names", [("Train", "Test"), ("cells_train", "a_val"), ("TRAIN2024", "EVAL2024")])
def test_the_training_split_comes_first_whatever_it_is_called(tmp_path: Path, names: tuple[str, str]) -> None:
    """The other one's file is corrected, not its own."""
    train, other = names
    root = write_split(tmp_path, [CAR | {"category_id": 2}], split=train, categories=listed("bus", "car"))
    write_split(root, [CAR], split=other, categories=listed("car", "bus", "dog"))
    (problem,) = [p for p in check_dataset(root, workers=1).problems if p.kind == "category-ids"]
    assert problem.image == f"annotations/instances_{other}.json"
    assert open_dataset(root, train).class_names == ("bus", "car")
    assert open_dataset(root, other)[0].target.labels.tolist() == [1]
