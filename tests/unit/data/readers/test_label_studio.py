"""Label Studio's exports."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from vovnet.data.check import check_dataset, write_cleaned_copy
from vovnet.data.formats import open_dataset, recognise, splits
from vovnet.masks import decode

from ..coco_writing import HEIGHT, WIDTH, write_image
from ..labelling_tools import (
    CAT,
    DOG,
    LABEL_STUDIO,
    TASKS,
    annotation,
    box,
    make_label_studio,
    objects,
    result,
    task,
    write_json,
)
from ..small_datasets import clean_and_check

CAT_BOX = ("cat", [30.0, 20.0, 90.0, 30.0])


def one(root: Path, *results: object, **keys: object) -> Path:
    """A folder of one image, whose task has one annotation."""
    write_image(root / "a.png")
    write_json(root / "export.json", [task("/data/upload/1/0a1b2c3d-a.png", annotation(*results), **keys)])
    return root


def stroke(drawn: npt.NDArray[np.bool_], *, repeat: bool = True) -> dict[str, Any]:
    """A brush stroke as Label Studio packs it: here in blocks of at most 256 values, or of 16 without repetition."""
    values = np.repeat(drawn.ravel().astype(np.uint8) * 255, 4)
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    position = 0
    while position < len(values):
        if not repeat:
            block = values[position : position + 16]
            bits += f"001{len(block) - 1:04b}" + "".join(f"{value:08b}" for value in block)
        else:
            same = np.flatnonzero(values[position : position + 256] != values[position])
            block = values[position : position + (same[0] if len(same) else 256)]
            bits += f"110{len(block) - 1:08b}{block[0]:08b}"
        position += len(block)
    bits += "0" * (-len(bits) % 8)
    packed = [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]
    return {"format": "rle", "rle": packed, "brushlabels": ["cat"]}


def min_export() -> list[dict[str, Any]]:
    tasks = []
    for entry in TASKS:
        (made,) = entry["annotations"]
        sizes = {"original_width": WIDTH, "original_height": HEIGHT}
        regions = {"tag": [one["value"] | sizes for one in made["result"]]} if made["result"] else {}
        common = {"annotator": 1, "annotation_id": made["id"], "updated_at": made["updated_at"], "lead_time": 2.5}
        tasks.append({"image": entry["data"]["image"], "id": entry["id"], **regions, **common})
    return tasks


@pytest.mark.parametrize("form", ["JSON", "JSON-MIN", "completions"])
def test_each_export_is_read_and_its_copy_is_the_same(tmp_path: Path, form: str) -> None:
    exports: dict[str, Any] = {"JSON": TASKS, "JSON-MIN": min_export()}
    exports["completions"] = [{{"annotations": "completions"}.get(k, k): v for k, v in t.items()} for t in TASKS]
    root, out = make_label_studio(tmp_path / "d", exports[form]), tmp_path / "out"
    assert objects(root) == LABEL_STUDIO
    assert open_dataset(root).class_names == ("cat", "dog")
    reason = "Label Studio, because project-1-at-2026.json has Label Studio's tasks"
    assert recognise(root).sentence() == reason
    report = check_dataset(root, workers=1, ignore_masks=True)
    assert not report.problems
    write_cleaned_copy(report, out)
    for path in root.rglob("*.*"):
        assert (out / path.relative_to(root)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("form", ["JSON", "JSON-MIN"])
def test_the_copy_is_mended(tmp_path: Path, form: str) -> None:
    """A rectangle, a polygon, a circle and a turned rectangle reach beyond the image, and one box is empty."""
    values = [
        (box(75, 50, 50, 25, "cat"), "rectanglelabels"),
        ({"points": [[50, 50], [110, 50], [75, 120]], "polygonlabels": ["dog"]}, "polygonlabels"),
        ({"x": 0, "y": 50, "radiusX": 10, "radiusY": 10, "rotation": 0, "ellipselabels": ["dog"]}, "ellipselabels"),
        (box(95, 10, 20, 5, "cat", rotation=90), "rectanglelabels"),
        (box(10, 10, 0, 5, "cat"), "rectanglelabels"),
        (CAT, "rectanglelabels"),
    ]
    sizes = {"original_width": WIDTH, "original_height": HEIGHT}
    full = [task("a.png", annotation(*(result(value, kind) for value, kind in values)))]
    least = [{"image": "a.png", "id": 1, "label": [value | sizes for value, _ in values]}]
    root = tmp_path / "d"
    write_image(root / "a.png")
    write_json(root / "export.json", full if form == "JSON" else least)
    boxes = [
        ("cat", [90, 40, 120, 60]),
        ("dog", [60, 40, 120, 80]),
        ("dog", [0, 32, 12, 48]),
        ("cat", [110, 8, 114, 32]),
        CAT_BOX,
    ]
    report = check_dataset(root, workers=1, ignore_masks=True)
    assert report.count_by_kind() == {"empty-box": 1, "box-partly-outside": 3}
    write_cleaned_copy(report, tmp_path / "out")
    assert objects(tmp_path / "out") == {"a": boxes}
    assert not check_dataset(tmp_path / "out", workers=1, ignore_masks=True).problems


@pytest.mark.parametrize("degrees", [0, 30, 90, 180, 300, -45])
def test_a_turned_rectangle(tmp_path: Path, degrees: float) -> None:
    """It is turned clockwise about its first corner."""
    root = one(tmp_path, result(box(50, 50, 20, 10, "cat", rotation=degrees)))
    turn = np.exp(1j * math.radians(degrees))
    corners = 60 + 40j + turn * np.array([0, 24, 24 + 8j, 8j])
    sides = [corners.real.min(), corners.imag.min(), corners.real.max(), corners.imag.max()]
    assert objects(root)["a"][0][1] == pytest.approx(sides, abs=0.01)


def test_an_ellipse(tmp_path: Path) -> None:
    value = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 30, "rotation": 40, "ellipselabels": ["cat"]}
    root = one(tmp_path, result(value, "ellipselabels"))
    angle, turn = np.linspace(0, 2 * np.pi, 100_000), np.exp(1j * math.radians(40))
    rim = 60 + 40j + turn * (12 * np.cos(angle) + 24j * np.sin(angle))
    sides = [rim.real.min(), rim.imag.min(), rim.real.max(), rim.imag.max()]
    assert objects(root)["a"][0][1] == pytest.approx(sides, abs=0.01)
    assert not check_dataset(root, workers=1).problems


def test_the_annotation_that_counts(tmp_path: Path) -> None:
    def made(name: str, number: int, **keys: object) -> dict[str, Any]:
        return annotation(result(box(25, 25, 50, 12.5, name)), number=number, **keys)

    def read(*annotations: object) -> str:
        write_json(tmp_path / "export.json", [task("a.png", *annotations, predictions=[made("predicted", 9)])])
        return objects(tmp_path)["a"][0][0]

    write_image(tmp_path / "a.png")
    assert read(made("old", 1), made("new", 3), made("older", 2)) == "new"
    assert read(made("new", 3), made("true", 2, ground_truth=True), made("cancelled", 5, was_cancelled=True)) == "true"
    assert read(made("new", 3), made("cancelled", 5, was_cancelled=True), made("older", 2)) == "new"


def test_the_latest_annotation_of_a_task_in_json_min(tmp_path: Path) -> None:
    sizes = {"original_width": WIDTH, "original_height": HEIGHT}
    entries = [
        {"image": "a.png", "id": 4, "label": [CAT | sizes | {"rectanglelabels": [name]}], "annotation_id": n,
         "annotator": n, "updated_at": f"2026-01-0{day}T00:00:00Z"}
        for n, (name, day) in enumerate([("old", 1), ("new", 3), ("older", 2)])
    ]  # fmt: skip
    write_image(tmp_path / "a.png")
    write_json(tmp_path / "export.json", entries)
    assert objects(tmp_path) == {"a": [("new", CAT_BOX[1])]}


def test_a_task_without_annotation_is_no_negative(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_label_studio(tmp_path, [*TASKS, task("c.png"), task("d.png", annotation(was_cancelled=True))])
    for seed, stem in enumerate("cd"):
        write_image(root / f"images/{stem}.png", 7 + seed)
    caplog.set_level(logging.WARNING)
    assert objects(root) == LABEL_STUDIO
    assert "2 tasks without annotation left out" in caplog.text


@pytest.mark.parametrize(
    "stated",
    [
        "/data/upload/1/ab12cd34-a%20b.png",
        "/data/local-files/?d=photos/a b.png",
        "/data/local-files/?d=C:%5Cphotos%5Ca%20b.png",
        "s3://bucket/photos/a b.png",
        "https://example.org/photos/a%20b.png?token=x%2Fy.png#top",
        "..\\..\\upload\\a b.png",
        "upload/1/A B.PNG",
    ],
)
@pytest.mark.parametrize("there", ["a b.png", "images/a b.png", "images/ab12cd34-a b.png", "photos/a b.png"])
def test_the_image_is_found_by_its_name(tmp_path: Path, stated: str, there: str) -> None:
    write_image(tmp_path / there)
    write_json(tmp_path / "export.json", [task(stated, annotation(result(CAT)))])
    (found,) = objects(tmp_path).values()
    assert found == [CAT_BOX]


@pytest.mark.parametrize("stated", ["gone.png", "/dev/zero", "../../etc/passwd.png", "http://[x.png", "x" * 9000])
def test_an_image_that_is_not_there(tmp_path: Path, stated: str) -> None:
    root = make_label_studio(tmp_path / "d", [*TASKS, task(stated, annotation(result(CAT)))])
    with pytest.raises(FileNotFoundError, match=r"2026\.json: names .*, and no image is called so"):
        open_dataset(root)
    report = check_dataset(root, workers=1, ignore_masks=True)
    assert report.count_by_kind() == {"missing-image": 1}
    write_cleaned_copy(report, tmp_path / "out")
    assert objects(tmp_path / "out") == LABEL_STUDIO


def test_two_images_of_one_name_are_not_taken_for_each_other(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    tasks = [task(f"s3://bucket/{n}/a.png", annotation(result(CAT))) for n in range(2)]
    write_json(tmp_path / "export.json", tasks)
    assert check_dataset(tmp_path, workers=1).count_by_kind() == {"missing-image": 2}


def test_the_key_of_the_image(tmp_path: Path) -> None:
    root = one(tmp_path, result(CAT))
    for data in (
        {"photo": "a.png"},
        {"text": "a cat", "url": "a.png"},
        {"image": "a.png", "map": "b.png"},
        {"image": ["a.png"]},
    ):
        write_json(root / "export.json", [task("", annotation(result(CAT))) | {"data": data}])
        assert objects(root) == {"a": [CAT_BOX]}
    write_json(root / "export.json", [task("", annotation(result(CAT))) | {"data": {}}])
    with pytest.raises(ValueError, match="an entry without a name"):
        open_dataset(root)


@pytest.mark.parametrize("data", [{"left": "a.png", "right": "b.png"}, {"image": ["a.png", "b.png"]}])
def test_a_task_with_several_images_is_a_problem_of_its_own(tmp_path: Path, data: dict[str, object]) -> None:
    root = one(tmp_path, result(CAT))
    tasks = [task("a.png", annotation(result(CAT))), task("", annotation(result(CAT))) | {"data": data}]
    write_json(root / "export.json", tasks)
    (problem,) = check_dataset(root, workers=1).problems
    assert problem.kind == "bad-annotation"
    assert problem.detail.startswith("task 2 has the images a.png, b.png, and nothing says")
    with pytest.raises(ValueError, match=r"task 2 has the images a\.png, b\.png"):
        open_dataset(root)


def test_labels_apart_from_their_shapes_and_what_is_no_region(tmp_path: Path) -> None:
    plain = box(25, 25, 50, 12.5)
    root = one(
        tmp_path / "d",
        result({"choices": ["indoors"]}, "choices", id="whole"),
        result(plain, "rectangle", id="r"),
        result(plain | {"text": ["Felix"]}, "textarea", id="r"),
        result(plain | {"labels": ["cat"]}, "labels", id="r"),
        {"type": "relation", "from_id": "r", "to_id": "r", "direction": "right"},
        result(box(75, 50, 50, 25), "rectangle", id="s"),
        result(box(75, 50, 50, 25) | {"labels": ["dog"]}, "labels", id="s"),
    )
    assert objects(root) == {"a": [CAT_BOX, ("dog", [90, 40, 150, 60])]}
    clean_and_check(root, tmp_path / "out")
    assert objects(tmp_path / "out") == {"a": [CAT_BOX, ("dog", [90, 40, 120, 60])]}
    copied = json.loads((tmp_path / "out/export.json").read_text())[0]["annotations"][0]["result"]
    assert [entry["type"] for entry in copied] == [
        "choices", "rectangle", "textarea", "labels", "relation", "rectangle", "labels"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("bad", "kind", "message"),
    [
        (result(box(1, 1, 9, 9)), "bad-annotation", "has no label"),
        (result(box(1, 1, 9, 9, "cat", "dog")), "bad-annotation", "has the labels cat, dog"),
        (result(box(1, 1, 9, 9, "cat"), image_rotation=90), "bad-annotation", "turned in Label Studio"),
        (
            result({"brushlabels": ["cat"], "format": "rle", "rle": [0, 1]}, "brushlabels"),
            "bad-annotation",
            "too early",
        ),
        (result({"brushlabels": ["cat"], "format": "rle", "rle": "x"}, "brushlabels"), "bad-annotation", "no list"),
        (result({"brushlabels": ["cat"], "rle": [0, 0, 150, 0, *[255] * 9]}), "bad-annotation", "more pixels than"),
        (result(stroke(np.zeros((9, 9), np.bool_)), "brushlabels"), "bad-annotation", "is of 81 pixels, and the image"),
        (result(stroke(np.zeros((HEIGHT, WIDTH), np.bool_)), "brushlabels"), "bad-annotation", "covers nothing"),
        (result({"x": 1, "y": 1, "width": 0.5, "keypointlabels": ["cat"]}, "keypointlabels"), "no-area", "1 key point"),
        (result(box(1, math.nan, 9, 9, "cat")), "not-a-number", "rectangle: {"),
        (result(box(1, 1, 9, 9, "cat", rotation=math.inf)), "not-a-number", "rectangle: {"),
        (result({"points": [[1, 1], [2]], "polygonlabels": ["cat"]}), "not-a-number", "polygon: {"),
        (result({"points": 5, "polygonlabels": ["cat"]}), "not-a-number", "polygon: {"),
        (result({"rectanglelabels": ["cat"]}), "not-a-number", "shape: {"),
    ],
)
def test_regions_that_are_no_objects(tmp_path: Path, bad: Any, kind: str, message: str) -> None:
    root = one(tmp_path / "d", result(CAT), bad)
    report = check_dataset(root, workers=1)
    assert report.count_by_kind() == {kind: 1}
    assert message in report.problems[0].detail
    clean_and_check(root, tmp_path / "out")
    assert objects(tmp_path / "out") == {"a": [CAT_BOX]}


def test_results_of_any_type(tmp_path: Path) -> None:
    root = one(tmp_path, result(CAT), 5, None, "x", [], {}, {"value": 7}, {"value": {"x": {}}, "id": []})
    assert check_dataset(root, workers=1).count_by_kind() == {"no-area": 1}  # it has no height


def test_percent_are_of_the_image_itself_where_it_was_scaled_since(tmp_path: Path) -> None:
    """A size of another aspect is that of another image."""
    root = one(tmp_path / "d", result(CAT, original_width=12 * WIDTH, original_height=12 * HEIGHT))
    assert objects(root) == {"a": [CAT_BOX]}
    assert not check_dataset(root, workers=1).problems
    root = one(tmp_path / "e", result(CAT, original_width=WIDTH, original_height=2 * HEIGHT))
    assert check_dataset(root, workers=1).count_by_kind() == {"size-mismatch": 1}
    clean_and_check(root, tmp_path / "out")
    assert objects(tmp_path / "out") == {"a": [("cat", [30, 40, 90, 60])]}


def test_an_image_that_exif_turns(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((40, 100, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    for width, height, expected in ((40, 100, [4, 10, 24, 30]), (100, 40, [28, 10, 36, 60])):
        made = result(box(10, 10, 50, 20, "cat"), original_width=width, original_height=height)
        write_json(tmp_path / "export.json", [task("a.jpg", annotation(made))])
        assert objects(tmp_path) == {"a": [("cat", expected)]}


def test_files_that_are_called_like_splits(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "val")):
        write_image(tmp_path / f"images/{split}/a.png", seed)
        write_json(tmp_path / f"{split}.json", [task("a.png", annotation(result(CAT)))])
    assert splits(tmp_path) == ("train", "val")
    assert objects(tmp_path, "val") == {"images/val/a": [CAT_BOX]}
    assert not check_dataset(tmp_path, workers=1).problems


def test_masks(tmp_path: Path) -> None:
    target = open_dataset(one(tmp_path, result(DOG, "polygonlabels")), masks=True)[0].target
    assert target.masks is not None
    assert target.masks.areas().tolist() == pytest.approx([300], abs=20)


@pytest.mark.parametrize("repeat", [True, False])
def test_brush_strokes_are_masks(tmp_path: Path, repeat: bool) -> None:
    drawn = np.zeros((HEIGHT, WIDTH), np.bool_)
    drawn[20:41, 30:33] = drawn[25, 30:100] = drawn[79, 119] = True
    root = one(tmp_path / "d", result(stroke(drawn, repeat=repeat), "brushlabels"), result(DOG, "polygonlabels"))
    target = open_dataset(root, masks=True)[0].target
    assert target.masks is not None
    assert np.array_equal(decode(target.masks)[0].numpy(), drawn)
    assert target.boxes[0].tolist() == [30, 20, 120, 80]
    assert target.area[0] == drawn.sum()
    report = check_dataset(root, workers=1)
    assert not report.problems
    write_json(
        root / "export.json", [task("a.png", annotation(result(stroke(drawn), id="s"), result(box(0, 0, 0, 0, "x"))))]
    )
    clean_and_check(root, tmp_path / "out")
    assert objects(tmp_path / "out") == {"a": [("cat", [30, 20, 120, 80])]}


def test_a_url_without_a_file_name(tmp_path: Path) -> None:
    write_image(tmp_path / "images/ab12cd34-a.png")
    tasks = [task("/image2", annotation(result(CAT)), file_upload="ab12cd34-a.png")]
    write_json(tmp_path / "export.json", tasks)
    assert objects(tmp_path) == {"ab12cd34-a": [CAT_BOX]}


def test_the_coco_export(tmp_path: Path) -> None:
    """result.json, with ids from 0 and out of order, and paths that only the server knows."""
    for seed, name in enumerate(("ab12cd34-a.png", "b.png")):
        write_image(tmp_path / f"images/{name}", seed)
    names = ["images\\ab12cd34-a.png", "../../label-studio/data/media/upload/1/b.png"]
    content = {
        "images": [{"width": WIDTH, "height": HEIGHT, "id": 1 - n, "file_name": name} for n, name in enumerate(names)],
        "categories": [{"id": 1, "name": "dog"}, {"id": 0, "name": "cat"}],
        "annotations": [
            {"id": 0, "image_id": 0, "category_id": 1, "segmentation": [], "bbox": [1.0, 2.0, 3.0, 4.0], "area": 12.0},
            {"id": 1, "image_id": 1, "category_id": 0, "segmentation": [], "bbox": [5.0, 6.0, 7.0, 8.0], "area": 56.0},
        ],
        "info": {"year": 2026, "version": "1.0", "contributor": "Label Studio"},
    }
    write_json(tmp_path / "result.json", content)
    assert recognise(tmp_path).format == "COCO"
    assert objects(tmp_path) == {"1": [("cat", [5, 6, 12, 14])], "0": [("dog", [1, 2, 4, 6])]}


def test_the_yolo_export(tmp_path: Path) -> None:
    """The order of classes.txt is that of the labels, whatever the ids in notes.json."""
    for seed, stem in enumerate(("ab12cd34-a", "b")):
        write_image(tmp_path / f"images/{stem}.png", seed)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/ab12cd34-a.txt").write_text("1 0.5 0.25 0.5 0.125\n")
    (tmp_path / "labels/b.txt").write_text("")
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    notes = {
        "categories": [{"id": 0, "name": "dog"}, {"id": 1, "name": "cat"}],
        "info": {"contributor": "Label Studio"},
    }
    write_json(tmp_path / "notes.json", notes)
    assert recognise(tmp_path).format == "YOLO"
    assert objects(tmp_path) == {"ab12cd34-a": [("cat", [30, 15, 90, 25])], "b": []}
