"""VIA's files, of all its versions."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from vovnet.data.check import check_dataset, write_cleaned_copy
from vovnet.data.formats import open_dataset, recognise, splits
from vovnet.data.readers.via_files import open_via, rewritten

from ..coco_writing import write_image
from ..labelling_tools import (
    CIRCLE,
    POLYGON,
    RECT,
    VIA,
    Shape,
    make_via,
    objects,
    region,
    via_3,
    via_csv,
    via_images,
    via_project,
    write_json,
)
from ..small_datasets import clean_and_check

FORMS: dict[str, object] = {
    "project": via_project(via_images()),
    "export": via_images(),
    "version 1": via_images(1),
    "version 3": via_3(),
    "CSV": via_csv(via_images()),
    "CSV of version 1": via_csv(via_images(), mark="#"),
}


def one(root: Path, *regions: Any, **attributes: object) -> Path:
    """A folder of one image, and a project with these attributes."""
    write_image(root / "a.png")
    images = {"a.png1": {"filename": "a.png", "size": 1, "regions": list(regions), "file_attributes": {}}}
    write_json(root / "via.json", via_project(images, **attributes))
    return root


@pytest.mark.parametrize("form", FORMS)
def test_each_version_is_read_and_its_copy_is_mended(tmp_path: Path, form: str) -> None:
    root, out = make_via(tmp_path / "d", FORMS[form]), tmp_path / "out"
    assert objects(root) == VIA
    assert open_dataset(root).class_names == ("cat", "dog")
    assert recognise(root).format == "VIA"
    report = check_dataset(root, workers=1, ignore_masks=True)
    assert not report.problems
    write_cleaned_copy(report, out)
    for path in root.iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_the_copy_of_each_version_lacks_what_is_wrong(tmp_path: Path, form: str) -> None:
    content = FORMS[form]
    text = content if isinstance(content, str) else json.dumps(content)
    is_csv, escaped = isinstance(content, str), '""' if isinstance(content, str) else '"'
    if form == "version 3":
        text = text.replace("[2, 10, 20, 60, 20]", "[2, 10, 20, 160, 20]").replace("[3, 50, 40, 10]", "[1, 50, 40]")
    else:
        text = text.replace(f"{escaped}width{escaped}: 60", f"{escaped}width{escaped}: 160")
        text = text.replace(f"{escaped}circle{escaped}", f"{escaped}point{escaped}")
    root = make_via(tmp_path / "d", text if is_csv else json.loads(text))
    report = check_dataset(root, workers=1, ignore_masks=True)
    assert report.count_by_kind() == {"no-area": 1, "box-partly-outside": 1}
    write_cleaned_copy(report, tmp_path / "out")
    expected = {"Zürich 1": [("cat", [10, 20, 120, 40]), *VIA["Zürich 1"][1:]], "b": []}
    assert objects(tmp_path / "out") == expected  # the image of the point would be without objects
    assert not check_dataset(tmp_path / "out", workers=1, ignore_masks=True).problems
    assert not (tmp_path / "out/a.png").exists()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ({"name": "rect", "x": "10", "y": "20", "width": "5", "height": "6"}, [10, 20, 15, 26]),
        ({"name": "ellipse", "cx": 50, "cy": 40, "rx": 20, "ry": 10}, [30, 30, 70, 50]),
        ({"name": "ellipse", "cx": 50, "cy": 40, "rx": 20, "ry": 10, "theta": math.pi / 2}, [40, 20, 60, 60]),
    ],
)
def test_shapes(tmp_path: Path, shape: Shape, expected: list[float]) -> None:
    assert objects(one(tmp_path, region(shape, a="cat"))) == {"a": [("cat", expected)]}


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ({}, "not-a-number"),
        ({"name": 5}, "not-a-number"),
        ({"name": "rect", "x": 1, "y": 2, "width": 3}, "not-a-number"),
        ({"name": "rect", "x": 9, "y": 2, "width": -3, "height": 4}, "inverted-box"),
        ({"name": "rect", "x": 1e999, "y": 2, "width": 3, "height": 4}, "not-a-number"),
        ({"name": "circle", "cx": 5, "cy": 5, "r": -2}, "not-a-number"),
        ({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1, 2]}, "not-a-number"),
        ({"name": "polygon", "all_points_x": 7, "all_points_y": None}, "not-a-number"),
        ({"name": "heart"}, "not-a-number"),
        ({"name": "polyline", "all_points_x": [1, 2], "all_points_y": [1, 2]}, "no-area"),
    ],
)
def test_malformed_shapes(tmp_path: Path, shape: Shape, kind: str) -> None:
    root = one(tmp_path / "d", region(RECT, a="cat"), region(shape, a="cat"))
    assert check_dataset(root, workers=1).count_by_kind() == {kind: 1}
    clean_and_check(root, tmp_path / "out")
    assert objects(tmp_path / "out") == {"a": [("cat", [10, 20, 70, 40])]}


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"Art": "cat"}, "cat"),
        ({"note": "good", "Name": "cat", "type": "dog"}, "cat"),
        ({"label": "cat", "note": ""}, "cat"),
        ({"colour": {"cat": True, "dog": False}}, "cat"),
        ({"id": 12}, "12"),
        ({}, "object"),
    ],
)
def test_the_attribute_that_holds_the_class(tmp_path: Path, attributes: dict[str, object], expected: str) -> None:
    assert objects(one(tmp_path, region(RECT, **attributes))) == {"a": [(expected, [10, 20, 70, 40])]}


def test_several_attributes_of_which_none_is_known(tmp_path: Path) -> None:
    root = one(tmp_path, region(RECT, colour="red", species="cat"))
    with pytest.raises(
        ValueError, match=r"via\.json: regions have the attributes colour, species, and none .*category"
    ):
        open_dataset(root)


def test_numbered_options_give_their_texts(tmp_path: Path) -> None:
    options = {"type": "dropdown", "options": {"1": "cat", "2": "dog"}, "default_options": {}}
    assert objects(one(tmp_path, region(RECT, k="2"), k=options)) == {"a": [("dog", [10, 20, 70, 40])]}
    named = {"type": "radio", "options": {"cat": "a pet", "dog": ""}}
    assert objects(one(tmp_path, region(RECT, k="cat"), k=named)) == {"a": [("cat", [10, 20, 70, 40])]}


@pytest.mark.parametrize("value", ["", " ", None, {"cat": True, "dog": True}, {"cat": False}, ["cat"]])
def test_a_region_without_a_class(tmp_path: Path, value: object) -> None:
    root = one(tmp_path / "d", region(RECT, a="cat"), region(CIRCLE, a=value))
    with pytest.raises(ValueError, match=r"via\.json: a\.png: region 2 has"):
        open_dataset(root)
    clean_and_check(root, tmp_path / "out")
    assert objects(tmp_path / "out") == {"a": [("cat", [10, 20, 70, 40])]}


def test_polygons_are_masks(tmp_path: Path) -> None:
    target = open_dataset(one(tmp_path, region(POLYGON, a="cat"), region(CIRCLE, a="dog")), masks=True)[0].target
    assert target.masks is not None
    assert target.masks.areas().tolist() == pytest.approx([300, 314], abs=20)
    assert target.area.tolist() == pytest.approx([300, 314], abs=20)


def test_a_file_for_each_split(tmp_path: Path) -> None:
    """As in the balloon dataset: the same names in two folders, which attributes of one number."""
    for split, name in (("train", "cat"), ("val", "dog")):
        write_image(tmp_path / split / "a.png", ord(name[0]))
        images = {"a.png1": {"filename": "a.png", "size": 1, "regions": {"0": region(RECT, a=name)}}}
        write_json(tmp_path / split / "via_region_data.json", images)
    assert splits(tmp_path) == ("train", "val")
    assert objects(tmp_path, "val") == {"val/a": [("dog", [10, 20, 70, 40])]}
    assert open_dataset(tmp_path, "val").class_names == ("cat", "dog")
    assert not check_dataset(tmp_path, workers=1).count_by_kind().keys() - {"class-not-in-train"}


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["a.png", "x/a.png", "x/a.bmp", "b.png"], {"a", "x/a.png", "x/a.bmp", "b"}),
        (["a.png", "a.bmp", "a.png.bmp"], {"a.png", "a.bmp", "a.png.bmp"}),  # of which one has another for its stem
    ],
)
def test_every_image_has_an_id_of_its_own(names: list[str], ids: set[str], tmp_path: Path) -> None:
    for seed, name in enumerate(names):
        write_image(tmp_path / name, seed)
    write_json(tmp_path / "via.json", {name: {"filename": name, "size": 1, "regions": []} for name in names})
    assert set(objects(tmp_path)) == ids


def test_images_in_another_folder_or_by_url(tmp_path: Path) -> None:
    for number, stem in enumerate("abc"):
        write_image(tmp_path / f"images/{stem}.png", number)
    stated = ["http://example.org/x/a.png?size=1", "C:\\data\\b.png", "C.PNG"]
    images = {name: {"filename": name, "size": -1, "regions": [region(RECT, a="cat")]} for name in stated}
    write_json(tmp_path / "annotations/train.json", images)
    assert set(objects(tmp_path, "train")) == {"a", "b", "c"}


@pytest.mark.parametrize("name", ["gone.png", "../../../../etc/passwd", "/dev/zero", "", None, "a/" * 5000, "\u202e"])
def test_an_entry_without_an_image(tmp_path: Path, name: object) -> None:
    images = via_images() | {"x": {"filename": name, "size": 1, "regions": [region(RECT, kind="cat")]}}
    root = make_via(tmp_path / "d", images)
    with pytest.raises((ValueError, FileNotFoundError), match=r"via\.json: (names|has an entry without)"):
        open_dataset(root)
    report = check_dataset(root, workers=1, ignore_masks=True)
    assert report.count_by_kind() == {"missing-image" if name else "bad-annotation": 1}
    write_cleaned_copy(report, tmp_path / "out")
    assert objects(tmp_path / "out") == VIA


def test_an_image_twice_in_a_file_and_in_two_files(tmp_path: Path) -> None:
    root = one(tmp_path / "d", region(RECT, a="cat"))
    images = {
        key: {"filename": "a.png", "size": size, "regions": [region(shape, a="cat")]}
        for size, (key, shape) in enumerate({"x": RECT, "y": CIRCLE}.items())
    }
    write_json(root / "via.json", images)
    write_json(root / "via2.json", images)
    with pytest.raises(ValueError, match=r"via\.json: annotates a\.png, which is annotated before"):
        open_dataset(root)
    report = check_dataset(root, workers=1)
    assert [problem.kind for problem in report.problems] == [
        "listed-twice"
    ] * 2  # via2.json has it twice in the same words
    assert "via2.json" in report.problems[1].image
    clean_and_check(root, tmp_path / "out")
    assert objects(tmp_path / "out") == {"a": [("cat", [10, 20, 70, 40])]}


def test_a_csv_beside_a_json_of_the_same_is_not_read(tmp_path: Path) -> None:
    root = make_via(tmp_path, via_csv(via_images()))
    write_json(root / "via_project.json", via_project(via_images()))
    assert objects(root) == VIA


def test_a_csv_of_one_split_counts_beside_a_json_of_another(tmp_path: Path) -> None:
    root = make_via(tmp_path / "d", via_csv(via_images()))
    (root / "via_export_csv.csv").rename(root / "val.csv")
    (first, entry), *_ = via_images().items()
    write_json(root / "train.json", via_project({first: entry}))
    assert splits(root) == ("train", "val")
    assert len(open_dataset(root, "train")) == 1
    assert {sample.image_id for sample in open_dataset(root, "val")} == VIA.keys()
    write_json(root / "val.json", via_project({first: entry}))
    assert len(open_dataset(root, "val")) == 1


def test_the_copy_keeps_the_rest(tmp_path: Path) -> None:
    root = one(tmp_path / "d", region(RECT, label="cat", note="mine"), region(RECT | {"width": 0}, label="cat"))
    clean_and_check(root, tmp_path / "out")
    content = json.loads((tmp_path / "out/via.json").read_text())
    assert content["_via_settings"] == via_project({})["_via_settings"]
    assert content["_via_img_metadata"]["a.png1"]["regions"] == [region(RECT, label="cat", note="mine")]


@pytest.mark.parametrize("late", [False, True])
def test_the_images_are_found_wherever_the_file_has_them(tmp_path: Path, late: bool) -> None:
    """A project whose images come after a long text, and an export that has a project's settings beside its images."""
    write_image(tmp_path / "a.png")
    images = {"a.png1": {"filename": "a.png", "size": 1, "regions": [region({"name": "rect"}, kind="2")]}}
    attributes = {"region": {"kind": {"type": "dropdown", "options": {"1": "cat", "2": "dog"}}}}
    long_text = {"notes": "x" * 70_000, "_via_img_metadata": images}
    content = long_text if late else {"_via_settings": {"a": '"_via_img_metadata"'}, **images}
    write_json(tmp_path / "via.json", content | {"_via_attributes": attributes})
    with open_via(tmp_path / "via.json") as file:
        assert [(entry.key, len(entry.regions)) for entry in file.entries] == [("a.png1", 1)]
        assert file.options == {"kind": {"1": "cat", "2": "dog"}}
        text = "".join(rewritten(file, lambda entry: {entry.regions[0].index: {"name": "rect", "x": 5}}))
    copy = json.loads(text)
    kept = copy["_via_img_metadata"] if late else {"a.png1": copy["a.png1"]}
    assert kept["a.png1"]["regions"][0]["shape_attributes"] == {"name": "rect", "x": 5}
    assert copy["_via_attributes"] == attributes
    assert copy.get("notes", "") == content.get("notes", "")
