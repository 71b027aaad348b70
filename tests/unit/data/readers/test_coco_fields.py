"""Ids, flags, boxes and masks in the ways in which programs write them."""

from __future__ import annotations

import json
import math
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from vovnet.data.check import check_dataset, write_cleaned_copy
from vovnet.data.dataset import box_around_turned
from vovnet.data.formats import open_dataset
from vovnet.data.readers.coco_fields import to_flag
from vovnet.metrics.coco import evaluate_coco
from vovnet.metrics.voc import evaluate_voc
from vovnet.structures import Detections

from ..coco_writing import CAR, HEIGHT, IMAGE, WIDTH, write_split
from ..small_datasets import clean_and_check


@pytest.mark.parametrize(
    ("image_id", "annotation", "category_id"),
    [
        (1, {"image_id": "1"}, 1),
        (1, {"image_id": 1.0, "category_id": 1.0}, 1),
        ("1", {}, 1),
        ("001", {"image_id": 1}, 1),
        ("1", {"image_id": 1.0, "category_id": "1"}, 1.0),
        (1.0, {"image_id": "1.0", "category_id": 1}, "1"),
        ("a", {"image_id": "a", "bbox": ["40", 30, "40.0", 20]}, 1),
    ],
)
def test_ids_that_are_the_same_number_are_the_same(
    tmp_path: Path, image_id: object, annotation: dict[str, Any], category_id: object
) -> None:
    categories = [{"id": category_id, "name": "car"}, {"id": 2, "name": "bus"}]
    root = write_split(tmp_path / "d", [CAR | annotation], images=[IMAGE | {"id": image_id}], categories=categories)
    data = open_dataset(root)
    assert data[0].target.boxes.tolist() == [[40, 30, 80, 50]]
    assert data[0].image_id == image_id
    assert (data.class_names, data.category_ids) == (("car", "bus"), (1, 2))
    assert check_dataset(root, workers=1).problems == ()

    write_cleaned_copy(check_dataset(root, workers=1), tmp_path / "out")
    copy = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    (entry,) = copy["annotations"]
    assert entry["image_id"] == copy["images"][0]["id"] == image_id
    assert entry["category_id"] == copy["categories"][0]["id"] == 1


def test_text_ids_that_differ_in_zeros_stay_apart(tmp_path: Path) -> None:
    images = [IMAGE | {"id": "7"}, IMAGE | {"id": "007", "file_name": "b.png"}]
    root = write_split(tmp_path, [CAR | {"image_id": "007"}, CAR | {"id": 2, "image_id": "7"}], images=images)
    assert [len(sample.target) for sample in open_dataset(root)] == [1, 1]


def test_two_entries_with_the_same_number_are_a_problem(tmp_path: Path) -> None:
    images = [IMAGE, IMAGE | {"id": "1", "file_name": "b.png"}]
    root = write_split(tmp_path / "images", [CAR, CAR | {"id": 2, "image_id": "1"}], images=images)
    with pytest.raises(ValueError, match="ids 1 and '1', which are the same number"):
        open_dataset(root)
    assert check_dataset(root, workers=1).count_by_kind() == {"annotation-without-image": 1, "listed-twice": 1}
    categories = [{"id": 1, "name": "car"}, {"id": "1", "name": "bus"}]
    with pytest.raises(ValueError, match="category 1 .*listed twice"):
        open_dataset(write_split(tmp_path / "categories", categories=categories))


@pytest.mark.parametrize("flag", ["iscrowd", "ignore"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((value, True) for value in (1, 1.0, True, "1", "1.0", "true", "True", " yes ")),
        *((value, False) for value in (0, 0.0, False, None, [], "0", "0.0", "false", "False", "no", "", math.nan)),
    ],
)
def test_flags(tmp_path: Path, flag: str, value: object, expected: bool) -> None:
    assert to_flag(value) is expected
    root = write_split(tmp_path / "d", [CAR | {flag: value}])
    assert open_dataset(root)[0].target.crowd.tolist() == [expected]
    clean_and_check(root, tmp_path / "out")
    (entry,) = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())["annotations"]
    assert bool(entry[flag] == entry[flag] and entry[flag]) is expected  # as programs that only test for truth read it


def test_ignored_objects_count_neither_way(tmp_path: Path) -> None:
    """One car is found, one is not to be found, and one that is not to be found is."""
    boxes = [[0, 0, 20, 20], [40, 0, 20, 20], [80, 0, 20, 20]]
    annotations = [CAR | {"id": n, "bbox": box, "ignore": int(n > 0)} for n, box in enumerate(boxes)]
    target = open_dataset(write_split(tmp_path, annotations))[0].target
    found = target[(target.boxes[:, 0] != 40)]
    detections = [Detections(found.boxes, found.labels, found.boxes.new_tensor([0.5, 0.9]), (HEIGHT, WIDTH))]
    voc, coco = (evaluate(detections, [target], 1) for evaluate in (evaluate_voc, evaluate_coco))
    assert (voc.mean_ap11, voc.mean_ap_area, coco.figures["AR100"]) == (1, 1, 1)
    assert coco.figures["AP"] == pytest.approx(1)
    assert voc.classes[0].n_objects == 1


def test_box_around_a_turned_rectangle() -> None:
    """Against its turned corners; y points downwards, so a positive angle turns clockwise."""
    for degrees in (-30, 0, 17, 60, 90, 135, 180, 271.5):
        angle = math.radians(degrees)
        corners = [(dx, dy) for dx in (-20, 20) for dy in (-10, 10)]
        xs = [60 + dx * math.cos(angle) - dy * math.sin(angle) for dx, dy in corners]
        ys = [40 + dx * math.sin(angle) + dy * math.cos(angle) for dx, dy in corners]
        expected = (min(xs), min(ys), max(xs), max(ys))
        assert box_around_turned((60, 40), (40, 20), degrees) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"rotation": 60.0}, [41.340, 17.679, 78.660, 62.321]),
        ({"rotation": "-60"}, [41.340, 17.679, 78.660, 62.321]),
        ({"rotation": 90}, [50, 20, 70, 60]),
        ({"rotation": 180}, [40, 30, 80, 50]),
        ({"rotation": 0}, [40, 30, 80, 50]),
        ({"rotation": "left"}, [40, 30, 80, 50]),
        ({"rotation": math.inf}, [40, 30, 80, 50]),
        ([60], [40, 30, 80, 50]),
    ],
)
def test_turned_boxes(tmp_path: Path, attributes: object, expected: list[float]) -> None:
    root = write_split(tmp_path / "d", [CAR | {"attributes": attributes}])
    for folder in (root, tmp_path / "out"):
        target = open_dataset(folder)[0].target
        assert target.boxes[0].tolist() == pytest.approx(expected, abs=1e-3)
        assert target.area.tolist() == [800]
        if folder == root:
            clean_and_check(root, tmp_path / "out")  # the copy must not be turned twice


def test_the_polygon_of_a_turned_box_wins(tmp_path: Path) -> None:
    polygon = [45, 20, 75, 20, 75, 60, 45, 60]
    root = write_split(tmp_path, [CAR | {"attributes": {"rotation": 60}, "segmentation": [polygon, [1, 1, 2, 2]]}])
    assert open_dataset(root)[0].target.boxes.tolist() == [[45, 20, 75, 60]]


def test_a_turned_box_that_was_clipped_is_turned_no_more(tmp_path: Path) -> None:
    turned = CAR | {"bbox": [95, 30, 40, 20], "area": 555, "attributes": {"rotation": 90, "occluded": True}}
    root, out = write_split(tmp_path / "d", [turned]), tmp_path / "out"
    assert check_dataset(root, workers=1).count_by_kind() == {"box-partly-outside": 1}
    clean_and_check(root, out)
    assert open_dataset(out)[0].target.boxes.tolist() == [[105, 20, WIDTH, 60]]
    (entry,) = json.loads((out / "annotations/instances_train.json").read_text())["annotations"]
    assert (entry["attributes"], entry["area"]) == ({"occluded": True}, 555)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"bbox": ["abc", 3, None, 4]}, 'bbox ["abc", 3, null, 4]'),
        ({"bbox": [1, 2, 3]}, "bbox [1, 2, 3]"),
        ({"bbox": {"x": 1}}, 'bbox {"x": 1}'),
        ({"bbox": ["links", "ü", 3, 4]}, 'bbox ["links", "ü", 3, 4]'),
        ({"bbox": [10**400, 2, 3, 4]}, "bbox [1000"),
        ({}, "it has no bbox"),
    ],
)
def test_a_box_without_numbers_is_shown_as_in_the_file(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    entry = {key: value for key, value in CAR.items() if key != "bbox"} | change
    root = write_split(tmp_path, [entry])
    (problem,) = check_dataset(root, workers=1).problems
    assert problem.kind == "not-a-number"
    assert text in problem.detail
    assert "nan" not in problem.detail
    assert len(problem.detail) < 150


def test_objects_of_unknown_classes_are_counted(tmp_path: Path) -> None:
    root = write_split(tmp_path, [CAR, CAR | {"id": 2, "category_id": 9}, CAR | {"id": 3, "category_id": None}])
    (split,) = check_dataset(root, workers=1).clean
    assert [(len(image.objects), image.unusable_objects) for image in split.images] == [(1, 2)]


RECTANGLE = [40, 30, 80, 30, 80, 50, 40, 50]


@pytest.mark.parametrize(
    "mask",
    [
        [RECTANGLE, [40, 30, 42, 31]],
        [[5, 6], RECTANGLE],
        [RECTANGLE, [1, 2, 3, 4, 5, 6, 7]],
        [RECTANGLE, []],
        [RECTANGLE, None],
        [[1, 2, math.nan, 4, 5, 6], RECTANGLE],
        [[RECTANGLE]],
        [[RECTANGLE, [1, 2]]],
        RECTANGLE,
        [[[40, 30], [80, 30], [80, 50], [40, 50]]],
        [[40, 30], [80, 30], [80, 50], [40, 50]],
        [[str(value) for value in RECTANGLE]],
        [[str(value) for value in RECTANGLE], ["1", "x"]],
    ],
)
def test_what_lies_beside_a_good_polygon_costs_no_object(tmp_path: Path, mask: object, caplog: Any) -> None:
    root, out = write_split(tmp_path / "d", [CAR | {"segmentation": mask}]), tmp_path / "out"
    target = open_dataset(root, masks=True)[0].target
    assert target.masks.areas().tolist() == [800]
    assert "something that is no polygon was left out: 1" in caplog.text
    assert check_dataset(root, workers=1).count_by_kind() == {"bad-polygon": 1}
    clean_and_check(root, out)
    assert open_dataset(out, masks=True)[0].target.masks.areas().tolist() == [800]
    (entry,) = json.loads((out / "annotations/instances_train.json").read_text())["annotations"]
    assert entry["segmentation"] == [RECTANGLE]


@pytest.mark.parametrize(
    "mask",
    [
        [RECTANGLE, [1, 2, 9, 2, 5, 2]],  # without area
        [RECTANGLE, [200, 10, 220, 10, 220, 30]],  # outside
        [[40, 30, 40, 30, 80, 30, 80, 50, 40, 50]],  # a point twice
        [RECTANGLE, RECTANGLE],
    ],
)
def test_polygons_that_change_nothing_are_no_problem(tmp_path: Path, mask: object) -> None:
    root = write_split(tmp_path, [CAR | {"segmentation": mask}])
    assert open_dataset(root, masks=True)[0].target.masks.areas().tolist() == [800]
    assert check_dataset(root, workers=1).problems == ()


@pytest.mark.parametrize("mask", [[[1, 2, 3, 4]], [[40, 30, 80, 50], [1, 2]], "polygon"])
@pytest.mark.parametrize("others", [0, 3])
def test_an_object_without_a_usable_mask_keeps_its_box_where_masks_are_not_needed(
    tmp_path: Path, mask: object, others: int, caplog: Any
) -> None:
    boxes = [CAR | {"id": n + 2, "bbox": [n, 2, 20, 20]} for n in range(others)]
    root, out = write_split(tmp_path / "d", [CAR | {"segmentation": mask}, *boxes]), tmp_path / "out"
    clean_and_check(root, out)
    assert len(open_dataset(root)[0].target) == len(open_dataset(out)[0].target) == others + 1
    assert ("most masks are malformed" in caplog.text) == (others == 0)


RUNS = [30 + 40 * HEIGHT, *[20, 60] * 39, 20, 30 + 40 * HEIGHT]


@pytest.mark.parametrize(
    "mask",
    [
        {"size": [HEIGHT, WIDTH], "counts": list(map(float, RUNS))},
        {"size": [float(HEIGHT), float(WIDTH)], "counts": RUNS},
        [{"size": [HEIGHT, WIDTH], "counts": RUNS}],
    ],
)
def test_runs_in_other_forms_are_masks(tmp_path: Path, mask: object) -> None:
    root, out = write_split(tmp_path / "d", [CAR | {"segmentation": mask}]), tmp_path / "out"
    assert check_dataset(root, workers=1).problems == ()
    clean_and_check(root, out)
    for folder in (root, out):
        assert open_dataset(folder, masks=True)[0].target.masks.areas().tolist() == [800]


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFKC", "NFD")])
def test_a_name_in_another_unicode_form_is_the_same(tmp_path: Path, forms: tuple[str, str]) -> None:
    stated, stored = (unicodedata.normalize(form, "Müller é.png") for form in forms)
    root = write_split(tmp_path, images=[IMAGE | {"file_name": stated}])
    (root / "images/train/a.png").rename(root / "images/train" / stored)
    assert [sample.image_path.name for sample in open_dataset(root)] == [stored]


@pytest.mark.parametrize(
    ("image_id", "text"),
    [(1, "the image 'b.png' has the id 1 of an image before it"), (None, "'b.png' has the id None, which is no id")],
)
def test_an_image_without_an_id_of_its_own_is_named(tmp_path: Path, image_id: object, text: str) -> None:
    root = write_split(tmp_path, images=[IMAGE, IMAGE | {"id": image_id, "file_name": "b.png"}])
    (problem,) = check_dataset(root, workers=1).problems
    assert problem.detail.endswith(text)
