from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as oracle

from vovnet.data.formats import open_dataset, splits
from vovnet.masks import RleMasks

CONTENT: dict[str, Any] = {
    "images": [
        {"id": 42, "file_name": "b.jpg", "height": 40, "width": 60},
        {"id": 7, "file_name": "a.jpg", "height": 30, "width": 50},
    ],
    "annotations": [
        {"id": 1, "image_id": 42, "category_id": 90, "bbox": [1, 2, 10, 20.5], "iscrowd": 0},
        {"id": 2, "image_id": 42, "category_id": 3, "bbox": [0, 0, 60, 40], "iscrowd": 1, "segmentation": {}},
    ],
    "categories": [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}, {"id": 17, "name": "cat"}],
}


def write_coco(root: Path, content: object, json_path: str = "annotations/train.json", images: str = "images") -> Path:
    path = root / json_path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    (root / images).mkdir(parents=True, exist_ok=True)
    for name in "ab":
        (root / images / f"{name}.jpg").touch()
    return root


def changed(**parts: object) -> dict[str, Any]:
    return CONTENT | parts


def test_ids_crowds_and_images_without_objects(tmp_path: Path) -> None:
    data = open_dataset(write_coco(tmp_path, CONTENT))
    assert data.format == "coco"
    assert data.class_names == ("car", "cat", "toothbrush")
    assert data.category_ids == (3, 17, 90)
    assert [sample.image_id for sample in data] == [42, 7]
    first, second = data
    assert first.target.boxes.tolist() == [[1, 2, 11, 22.5], [0, 0, 60, 40]]
    assert first.target.labels.tolist() == [2, 0]
    assert first.target.crowd.tolist() == [False, True]
    assert first.image_size == (40, 60)
    assert len(second.target) == 0


@pytest.mark.parametrize(
    ("json_path", "images", "split"),
    [
        ("annotations/instances_train2017.json", "images/train2017", "train2017"),
        ("annotations/instances_train2017.json", "train2017", "train2017"),
        ("annotations/val.json", "images", "val"),
        ("annotations/val.json", "annotations", "val"),
        ("annotations/val.json", ".", "val"),
        ("valid/_annotations.coco.json", "valid", "valid"),
    ],
)
def test_layouts(tmp_path: Path, json_path: str, images: str, split: str) -> None:
    root = write_coco(tmp_path, CONTENT, json_path, images)
    assert splits(root) == (split,)
    assert open_dataset(root, split)[0].image_path == root / images / "b.jpg"


def test_other_tasks_json_is_no_split(tmp_path: Path) -> None:
    root = write_coco(tmp_path, CONTENT)
    (root / "annotations" / "captions_train.json").write_text("{}")
    assert splits(root) == ("train",)


def test_file_name_may_have_folders_but_not_leave(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "data", changed(images=[{"id": 1, "file_name": "sub/a.jpg"}], annotations=[]))
    (root / "images" / "sub").mkdir()
    (root / "images" / "sub" / "a.jpg").touch()
    assert open_dataset(root)[0].image_path.name == "a.jpg"
    (tmp_path / "out.jpg").touch()
    for name in ("../../out.jpg", str(tmp_path / "out.jpg"), "..\\..\\out.jpg", "C:\\out.jpg"):
        write_coco(root, changed(images=[{"id": 1, "file_name": name}], annotations=[]))
        with pytest.raises(ValueError, match="must stay inside the data folder"):
            open_dataset(root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "must hold a list 'images'"),
        (changed(annotations=[{"image_id": 42, "category_id": 5, "bbox": [0, 0, 1, 1]}]), "category id 5"),
        (
            changed(annotations=[{"image_id": 5, "category_id": 3, "bbox": [0, 0, 1, 1]}]),
            "image 5, which is not listed",
        ),
        (changed(images=[{"id": 1, "file_name": "z.jpg"}], annotations=[]), r"lists z\.jpg"),
        (changed(images=CONTENT["images"] * 2), "'b.jpg' has the id 42 of an image before it"),
        (changed(categories=CONTENT["categories"] * 2), "listed twice"),
    ],
)
def test_bad_content_names_the_file(tmp_path: Path, content: object, message: str) -> None:
    root = write_coco(tmp_path, content)
    with pytest.raises((ValueError, FileNotFoundError), match=rf"train\.json.*{message}"):
        open_dataset(root)


def test_bad_boxes_are_left_out(tmp_path: Path) -> None:
    boxes = [[0, 0, 0, 5], [0, 0, -3, 5], [None, 0, 1, 1], [0, 0, 1], None, "box", [1, 1, 2, 2]]
    annotations = [{"image_id": 7, "category_id": 3, "bbox": box} for box in boxes]
    data = open_dataset(write_coco(tmp_path, changed(annotations=annotations)))
    assert data[1].target.boxes.tolist() == [[1, 1, 3, 3]]


def test_given_class_names(tmp_path: Path) -> None:
    data = open_dataset(write_coco(tmp_path, CONTENT), class_names=("toothbrush", "dog", "car"))
    assert data[0].target.labels.tolist() == [0, 2]
    assert data.category_ids == (90, 91, 3)


def test_the_stated_area_is_kept(tmp_path: Path) -> None:
    annotations = [{**a, **area} for a, area in zip(CONTENT["annotations"], ({"area": 77.5}, {}), strict=True)]
    first = open_dataset(write_coco(tmp_path, changed(annotations=annotations)))[0]
    assert first.target.area.tolist() == [77.5, 60 * 40]


@pytest.mark.parametrize("image_id", [[42], {}, None, 3.5])
def test_what_is_no_id_is_a_fault_not_a_crash(tmp_path: Path, image_id: object) -> None:
    annotations = [{**CONTENT["annotations"][0], "image_id": image_id}]
    with pytest.raises(ValueError, match="train.json: annotation 1 is of image"):
        open_dataset(write_coco(tmp_path, changed(annotations=annotations)))
    annotations = [{**CONTENT["annotations"][0], "category_id": image_id}]
    with pytest.raises(ValueError, match="train.json: annotation 1 has the category id"):
        open_dataset(write_coco(tmp_path, changed(annotations=annotations)))


def test_a_file_name_without_a_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must stay inside the data folder"):
        open_dataset(write_coco(tmp_path, changed(images=[{"id": 42, "file_name": "."}], annotations=[])))


HOLLOW = np.zeros((40, 60), dtype=np.uint8)  # a mask for run-length codes
HOLLOW[5:20, 10:30] = 1
HOLLOW[8:12, 15:20] = 0
PARTS = [[1.5, 2.25, 20, 3, 15.4, 22.8], [30, 30, 45.5, 30, 45.5, 38.2, 30, 38]]


def runs_of(bitmap: np.ndarray) -> list[int]:
    flat = [0, *bitmap.T.ravel().tolist()]
    edges = [0, *(i for i in range(1, len(flat)) if flat[i] != flat[i - 1]), len(flat)]
    return np.diff([edges[0], *(edge - 1 for edge in edges[1:])]).tolist()


def with_masks(*masks: object, **image: object) -> dict[str, Any]:
    """CONTENT with these masks in its first image; the last one is of a crowd."""
    boxes = {"image_id": 42, "category_id": 3, "bbox": [1, 2, 30, 20]}
    annotations = [boxes | {"id": 100 + index, "segmentation": mask} for index, mask in enumerate(masks)]
    annotations[-1]["iscrowd"] = 1
    return changed(images=[CONTENT["images"][0] | image], annotations=annotations)


def test_masks_have_the_codes_of_pycocotools(tmp_path: Path) -> None:
    code = oracle.encode(np.asfortranarray(HOLLOW))["counts"]
    compressed = {"size": [40, 60], "counts": code.decode()}
    crowd = {"size": [40, 60], "counts": runs_of(HOLLOW)}
    root = write_coco(tmp_path, with_masks(PARTS[:1], PARTS, compressed, crowd))
    (sample,) = open_dataset(root, masks=True)
    first_part, both_parts = (oracle.merge(oracle.frPyObjects(parts, 40, 60))["counts"] for parts in (PARTS[:1], PARTS))
    assert sample.target.masks == RleMasks((first_part, both_parts, code, code), (40, 60))
    assert sample.target.crowd.tolist() == [False, False, False, True]


def test_long_polygons_have_the_codes_of_pycocotools(tmp_path: Path) -> None:
    """Ellipses of 200 points with fractions, many beyond the image."""
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    polygons = []
    for seed in range(30):
        x, y, width, height = np.random.default_rng(seed).uniform(0, 60, 4)
        points = np.stack([x + width * np.cos(angles), y + height * np.sin(angles)], axis=1).round(2)
        polygons.append([points.ravel().tolist()])
    (sample,) = open_dataset(write_coco(tmp_path, with_masks(*polygons)), masks=True)
    expected = tuple(oracle.frPyObjects(polygon, 40, 60)[0]["counts"] for polygon in polygons)
    assert isinstance(sample.target.masks, RleMasks)
    assert sample.target.masks.counts == expected


def test_masks_are_read_only_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_coco(tmp_path, with_masks(PARTS, {"size": [1, 1], "counts": "damaged"}))
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    (sample,) = open_dataset(root)
    assert sample.target.masks is None
    with pytest.raises(ModuleNotFoundError, match=r'pip install "vovnet\[eval\]"'):
        open_dataset(write_coco(tmp_path, with_masks(PARTS)), masks=True)


def test_an_image_without_objects_has_no_masks_of_its_size(tmp_path: Path) -> None:
    images = [CONTENT["images"][0], {"id": 7, "file_name": "c.png"}]
    root = write_coco(tmp_path, changed(images=images, annotations=[]))
    Image.new("RGB", (50, 30)).save(root / "images" / "c.png")
    stated, looked_up = open_dataset(root, masks=True)
    assert stated.target.masks == RleMasks((), (40, 60))
    assert looked_up.target.masks == RleMasks((), (30, 50))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (None, "it has no mask"),
        ([], "it has no mask"),
        ({}, "it has no mask"),
        ([[]], "it has no mask"),
        ([[1, 2, 3, 4]], "a mask must be"),
        ([[1, 2, 3, 4, 5, "six"]], "a mask must be"),
        ("polygon", "a mask must be"),
        (7, "a mask must be"),
        ({"size": [60, 40], "counts": [2400]}, "must have the image's size"),
        ({"size": [40, 60], "counts": [2400, 1]}, "sum to 2400"),
        ({"size": [40, 60], "counts": "Å"}, "not a run-length code"),
        ({"size": [40, 60]}, "counts must be"),
    ],
)
def test_a_missing_or_damaged_mask_names_the_place_and_the_remedy(tmp_path: Path, mask: object, message: str) -> None:
    root = write_coco(tmp_path, with_masks(PARTS, mask, PARTS))
    with pytest.raises(ValueError, match=rf"train\.json: object 2 \(car in b\.jpg\): .*{message}.*data check --fix"):
        open_dataset(root, masks=True)


def test_masks_stay_with_the_objects_whose_boxes_are_good(tmp_path: Path) -> None:
    content = with_masks(PARTS, PARTS[:1], PARTS[1:])
    content["annotations"][1]["bbox"] = [0, 0, 0, 5]
    (sample,) = open_dataset(write_coco(tmp_path, content), masks=True)
    expected = tuple(oracle.merge(oracle.frPyObjects(parts, 40, 60))["counts"] for parts in (PARTS, PARTS[1:]))
    assert sample.target.masks == RleMasks(expected, (40, 60))
