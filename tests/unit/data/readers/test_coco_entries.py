"""A COCO file is read entry by entry, in whichever order it has its lists, and without holding it."""

from __future__ import annotations

import json
import random
import tracemalloc
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from vovnet import parsing
from vovnet.data.formats import open_dataset
from vovnet.data.readers import coco, coco_files
from vovnet.data.readers.coco_files import find_category_ids, scan_categories

from ..coco_writing import CAR, IMAGE, write_split
from ..small_datasets import clean_and_check

Problem = tuple[str, str]
IMAGES = [IMAGE, {"id": 2, "file_name": "b.png", "width": 120, "height": 80}]
CARS = [CAR | {"id": number, "image_id": 2 - number % 2, "bbox": [number, 1, 9, 9]} for number in range(1, 8)]
CATEGORIES = [{"id": 1, "name": "car"}]
LISTS = {"images": IMAGES, "annotations": CARS, "categories": CATEGORIES}


def read(root: Path) -> tuple[list[Any], list[Problem]]:
    """The images of the split train, and all problems in their order."""
    problems: list[Problem] = []
    (split,) = coco.read(root, ("train",), lambda kind, _, detail: problems.append((kind, detail)))
    return list(split.images), problems


def write_text(root: Path, text: str) -> Path:
    (write_split(root) / "annotations/instances_train.json").write_text(text)
    return root


@pytest.mark.parametrize("order", list(permutations(LISTS)))
@pytest.mark.parametrize("part", [5, 2**17])
def test_the_order_of_the_lists_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: tuple[str, ...], part: int
) -> None:
    monkeypatch.setattr(parsing, "_PART", part)
    images, problems = read(write_text(tmp_path / "d", json.dumps({key: LISTS[key] for key in order})))
    assert not problems
    boxes = [[obj.box[0] for obj in image.objects] for image in images]
    assert boxes == [[1, 3, 5, 7], [2, 4, 6]]
    assert [[obj.index for obj in image.objects] for image in images] == [[0, 2, 4, 6], [1, 3, 5]]


def test_of_a_list_that_is_there_twice_the_last_one_counts(tmp_path: Path) -> None:
    text = json.dumps(LISTS)[1:-1]
    before = f'"annotations": [{json.dumps(CAR | {"id": 99, "image_id": 1})}, 5], "images": null, '
    root = write_text(tmp_path / "d", f"{{{before}{text}}}")
    images, problems = read(root)
    assert [len(image.objects) for image in images] == [4, 3]
    assert not problems
    write_text(root, f'{{{text}, "annotations": 5}}')
    with pytest.raises(ValueError, match=r"instances_train\.json must hold a list 'annotations' of objects"):
        open_dataset(root, "train")


def test_problems_come_in_the_order_of_the_entries(tmp_path: Path) -> None:
    images = [
        {"id": 5, "file_name": "gone.png"},
        *IMAGES,
        {"id": 1, "file_name": "b.png"},
        {"id": None, "file_name": "other.png"},
        {"id": "2", "file_name": "c.png"},
        {"id": 7, "file_name": "a.png", "width": 1, "height": 1},
    ]
    annotations = [
        CAR | {"id": 1, "category_id": 3},
        CAR | {"id": 2, "image_id": 99},
        CAR | {"id": 3, "image_id": 5, "category_id": 4},
        CAR | {"id": 4, "image_id": 7},
        CAR | {"id": 5, "image_id": "2", "category_id": 5},
        CAR | {"id": 6, "image_id": "1"},
        CAR | {"id": 6, "image_id": 5, "bbox": [1, 1, 2, 2]},
    ]
    root = write_split(tmp_path / "d", annotations, images=images)
    (root / "images/train/c.png").write_bytes((root / "images/train/b.png").read_bytes())
    found, problems = read(root)
    assert [(image.image_id, len(image.objects), image.unusable_objects) for image in found] == [(1, 1, 1), (2, 0, 0)]
    assert [(kind, detail.partition(",")[0][:50]) for kind, detail in problems] == [
        ("missing-image", "lists gone.png"),
        ("listed-twice", "the image 'b.png' has the id 1 of an image before "),
        ("missing-image", "lists other.png"),
        ("listed-twice", "the image 'other.png' has the id None"),
        ("listed-twice", "two images have the ids 2 and '2'"),
        ("listed-twice", "lists a.png twice with two sizes"),
        ("unknown-class", "annotation 1 has the category id 3"),
        ("annotation-without-image", "annotation 2 is of image 99"),
        ("unknown-class", "annotation 3 has the category id 4"),
        ("annotation-without-image", "annotation 4 is of image 7"),
        ("annotation-without-image", "annotation 5 is of image '2'"),
        ("repeated-id", "annotation 7 has the id 6 of another one"),
    ]


def test_what_is_beside_the_lists_stays_in_a_cleaned_copy(tmp_path: Path) -> None:
    rest = {"info": {"a": [1, {"é": None}]}, "licenses": [{"id": 1}, 2], "more": "text"}
    bad = [*CARS, CAR | {"id": 8, "bbox": [1, 1, float("nan"), 2]}]
    content = {"info": rest["info"], **LISTS, "annotations": bad, "licenses": rest["licenses"], "more": "text"}
    root = write_text(tmp_path / "d", json.dumps(content, ensure_ascii=False))
    clean_and_check(root, tmp_path / "out")
    copy = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    assert copy == rest | LISTS
    assert list(copy) == list(content)


def test_reading_holds_neither_the_file_nor_an_object_for_each_entry(tmp_path: Path) -> None:
    """By the memory that Python takes while it reads three megabytes of polygons, which would fill twenty."""
    rng, count = random.Random(0), 1000
    cars = [
        CAR | {"id": n, "image_id": n % 100, "segmentation": [[rng.uniform(0, 80) for _ in range(160)]]}
        for n in range(count)
    ]
    images = [IMAGE | {"id": n, "file_name": f"{n}.png"} for n in range(100)]
    root = write_split(tmp_path / "d", cars, images=images)
    for n in range(100):
        (root / f"images/train/{n}.png").touch()
    tracemalloc.start()
    try:
        (split,) = coco.read(root, ("train",), lambda *_: None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(split.images.object_counts()) == count
    assert peak < (root / "annotations/instances_train.json").stat().st_size / 2


@pytest.mark.parametrize("block", [12, 13, 50, 2**18])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_looks_into_a_file_see_what_lies_across_two_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, encoding: str
) -> None:
    monkeypatch.setattr(coco_files, "_BLOCK", block)
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"annotations": CARS, "é": "categories", **LISTS}), encoding=encoding)
    assert scan_categories(path) == CATEGORIES
    assert find_category_ids(path, {1, 2}) == {1}
