"""labelme's files, and those that other programs write alike."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vovnet.data.check import check_dataset, write_cleaned_copy
from vovnet.data.formats import open_dataset, recognise, splits
from vovnet.masks import decode

from ..coco_writing import HEIGHT, WIDTH, write_image
from ..labelling_tools import LABELME, make_labelme, mask_text, objects, shape, write_json, write_labelme
from ..small_datasets import clean_and_check


def one(root: Path, *shapes: object, **keys: object) -> Path:
    """A folder of one image."""
    write_image(root / "a.png")
    write_labelme(root / "a.json", shapes, **keys)
    return root


def test_a_folder_is_read(tmp_path: Path) -> None:
    root = make_labelme(tmp_path)
    assert objects(root) == LABELME
    dataset = open_dataset(root)
    assert (dataset.format, dataset.split, dataset.class_names, dataset.category_ids) == (
        "labelme", "all", ("cat", "dog"), (1, 2)
    )  # fmt: skip
    assert dataset[0].image_size == (HEIGHT, WIDTH)
    assert recognise(root).sentence() == "labelme, because Zürich 1.json has labelme's shapes and imagePath"


@pytest.mark.parametrize(
    ("points", "kind", "expected"),
    [
        ([[70, 10], [20, 30]], "rectangle", [20, 10, 70, 30]),
        ([[20, 10], [70, 10], [70, 30], [20, 30]], "rectangle", [20, 10, 70, 30]),  # X-AnyLabeling
        ([[40, 10], [60, 30], [40, 50], [20, 30]], "rotation", [20, 10, 60, 50]),
        ([[20, 10.5], [70, 20], [30, 60]], "polygon", [20, 10.5, 70, 60]),
        ([[20, 10.5], [70, 20], [30, 60]], None, [20, 10.5, 70, 60]),  # as in version 3
        ([[50, 40], [53, 44]], "circle", [45, 35, 55, 45]),
    ],
)
def test_shapes(tmp_path: Path, points: object, kind: str | None, expected: list[float]) -> None:
    assert objects(one(tmp_path, shape("cat", points, kind))) == {"a": [("cat", expected)]}


@pytest.mark.parametrize("points", [[], [[1, 2]], [[1, 2], [3]], "x", [["a", 1], [3, 4]], [[1, math.nan], [3, 4]]])
@pytest.mark.parametrize("kind", ["rectangle", "polygon", "circle"])
def test_a_malformed_shape_is_no_box(tmp_path: Path, points: object, kind: str) -> None:
    root = one(tmp_path / "d", shape("cat", [[1, 1], [9, 9]]), shape("cat", points, kind))
    assert objects(root) == {"a": [("cat", [1, 1, 9, 9])]}
    report = check_dataset(root, workers=1)
    assert report.count_by_kind() == {"not-a-number": 1}
    assert f"object 2 (cat): {kind}: points" in report.problems[0].detail
    clean_and_check(root, tmp_path / "out")


def test_points_and_lines_are_counted_and_make_no_negatives(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_labelme(tmp_path / "d")
    points = [
        shape("nose", [[1, 2]], "point"),
        shape("tail", [[1, 2], [3, 4]], "line"),
        shape("nose", [[1, 2]], "point"),
    ]
    write_labelme(root / "b.json", points)
    write_labelme(root / "a.json", [shape("cat", [[1, 2], [30, 40]]), *points[:1]])
    caplog.set_level(logging.WARNING)
    assert objects(root) == {"Zürich 1": LABELME["Zürich 1"], "a": [("cat", [1, 2, 30, 40])]}
    assert "left out 4 shapes without an area (1 line, 3 point)" in caplog.text
    report = check_dataset(root, workers=1, ignore_masks=True)
    assert [(problem.kind, problem.image, problem.detail) for problem in report.problems] == [
        ("no-area", "a.json", "1 shape without an area (1 point)"),
        ("no-area", "b.json", "3 shapes without an area (1 line, 2 point)"),
    ]
    write_cleaned_copy(report, tmp_path / "out")
    assert check_dataset(tmp_path / "out", workers=1, ignore_masks=True).problems == ()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "Zürich 1.json", "Zürich 1.png", "a.json", "a.png"
    ]  # fmt: skip


def test_what_is_no_object_by_its_label(tmp_path: Path) -> None:
    corners = [[1, 1], [9, 9]]
    shapes = [shape("__ignore__", corners), shape("cat", corners), shape("_background_", corners)]
    assert objects(one(tmp_path, *shapes)) == {"a": [("cat", [1, 1, 9, 9])]}
    assert not check_dataset(tmp_path, workers=1).problems


@pytest.mark.parametrize(
    "bad", [shape(None, [[1, 1], [9, 9]]), shape(" ", [[1, 1], [9, 9]]), shape(3, []), 7, None, []]
)
def test_a_shape_without_label(tmp_path: Path, bad: object) -> None:
    root = one(tmp_path / "d", shape("cat", [[1, 1], [9, 9]]), bad)
    with pytest.raises(ValueError, match=r"a\.json: shape 2 has no label, got .*; `vovnet data check` lists all"):
        open_dataset(root)
    clean_and_check(root, tmp_path / "out")
    assert objects(tmp_path / "out") == {"a": [("cat", [1, 1, 9, 9])]}


def test_difficult(tmp_path: Path) -> None:
    corners = [[1, 1], [9, 9]]
    shapes = [shape("a", corners, difficult=True), shape("b", corners, flags={"difficult": True}), shape("c", corners)]
    assert open_dataset(one(tmp_path, *shapes))[0].target.difficult.tolist() == [True, True, False]


def test_polygons_of_a_group_are_one_object(tmp_path: Path) -> None:
    left, right = [[1, 1], [9, 1], [9, 9]], [[20, 5], [30, 5], [30, 15]]
    root = one(
        tmp_path / "d",
        shape("cat", left, "polygon", group_id=4),
        shape("dog", left, "polygon", group_id=4),
        shape("cat", right, "polygon", group_id=4),
        shape("cat", [[40, 40], [50, 50], [40, 50]], "polygon"),
    )
    expected = [("cat", [1, 1, 30, 15]), ("dog", [1, 1, 9, 9]), ("cat", [40, 40, 50, 50])]
    assert objects(root) == {"a": expected}
    target = open_dataset(root, masks=True)[0].target
    assert target.masks is not None
    assert target.masks.polygons is not None
    assert target.masks.polygons.parts.tolist() == [2, 1, 1]
    assert target.area.tolist() == [82, 32, 50]
    write_labelme(root / "b.json", [])
    write_image(root / "b.png", 1)
    (root / "b.png").write_bytes((root / "b.png").read_bytes()[:500])
    clean_and_check(root, tmp_path / "out")
    assert objects(tmp_path / "out") == {"a": expected}


def test_a_mask_is_read_from_its_png(tmp_path: Path) -> None:
    drawn = np.zeros((31, 21), np.bool_)
    drawn[2:30, 5:16] = True
    drawn[10:12, :] = True
    drawn[0, 0] = True
    corners = [[50.0, 60.0], [70.0, 90.0]]  # the last ten rows are below the image
    root = one(tmp_path, shape("cat", corners, "mask", mask=mask_text(drawn)))
    expected = np.zeros((HEIGHT, WIDTH), np.bool_)
    expected[60:80, 50:71] = drawn[:20]
    target = open_dataset(root, masks=True)[0].target
    assert target.masks is not None
    assert np.array_equal(decode(target.masks)[0].numpy(), expected)
    assert target.boxes.tolist() == [[50, 60, 71, 80]]
    assert target.area.tolist() == [expected.sum()]
    assert not check_dataset(root, workers=1).problems


def test_damaged_masks(tmp_path: Path) -> None:
    corners, good = [[50, 60], [59, 69]], mask_text(np.ones((10, 10), np.bool_))
    bad = ["$", good[:60], mask_text(np.ones((200, 200), np.bool_)), None, 5]
    shapes = [shape("cat", corners, "mask", mask=text) for text in (good, *bad)]
    shapes.append(shape("cat", [[1e300, 1], [1e300, 9]], "mask", mask=good))
    root = one(tmp_path / "d", *shapes)
    report = check_dataset(root, workers=1)
    assert report.count_by_kind() == {"bad-annotation": 6}
    clean_and_check(root, tmp_path / "out")
    assert objects(tmp_path / "out") == {"a": [("cat", [50, 60, 60, 70])]}


@pytest.mark.parametrize(
    "stated",
    ["a.png", "..\\images\\a.png", "../images/a.png", "C:\\Users\\me\\a.png", "/home/me/a.png", "gone.jpg", "", 5, None,
     "../../../etc/passwd", "A.PNG", "x" * 5000, "http://[::1"],
)  # fmt: skip
def test_the_image_is_found_whatever_image_path_states(tmp_path: Path, stated: object) -> None:
    """In a folder of its own, and beside the file."""
    root = tmp_path / "d"
    write_image(root / "images/a.png")
    write_image(root / "images/b.png", 1)
    write_labelme(root / "labels/a.json", [shape("cat", [[1, 1], [9, 9]])], **{"imagePath": stated})
    assert objects(root) == {"a": [("cat", [1, 1, 9, 9])]}
    (root / "images/a.png").rename(root / "labels/a.png")
    assert objects(root) == {"a": [("cat", [1, 1, 9, 9])]}


def test_image_path_finds_an_image_of_another_name(tmp_path: Path) -> None:
    write_image(tmp_path / "images/photo.png")
    write_labelme(tmp_path / "labels/7.json", [shape("cat", [[1, 1], [9, 9]])], "..\\images\\photo.png")
    assert objects(tmp_path) == {"photo": [("cat", [1, 1, 9, 9])]}


def test_the_file_beside_an_image_is_that_of_it(tmp_path: Path) -> None:
    """imagePath still names the image that this one is a copy of."""
    for seed, stem in enumerate("ab"):
        write_image(tmp_path / f"{stem}.png", seed)
        write_labelme(tmp_path / f"{stem}.json", [shape(f"cat {stem}", [[1, 1], [9, 9]])], "a.png")
    assert objects(tmp_path) == {"a": [("cat a", [1, 1, 9, 9])], "b": [("cat b", [1, 1, 9, 9])]}


def test_two_files_for_one_image(tmp_path: Path) -> None:
    root = one(tmp_path / "d", shape("cat", [[1, 1], [9, 9]]))
    write_labelme(root / "a (1).json", [shape("dog", [[1, 1], [9, 9]])], "a.png")
    with pytest.raises(ValueError, match=r"a \(1\)\.json: annotates a\.png, as a\.json does"):
        open_dataset(root)
    clean_and_check(root, tmp_path / "out")
    assert objects(tmp_path / "out") == {"a": [("cat", [1, 1, 9, 9])]}


def test_a_missing_image_whose_pixels_the_file_holds(tmp_path: Path) -> None:
    root = make_labelme(tmp_path / "d")
    write_labelme(root / "c.json", [], "c.png", imageData="iVBORw0KGgo=")
    with pytest.raises(
        FileNotFoundError, match=r"no image of that name.*imageData holds the image.*labelme_export_json"
    ):
        open_dataset(root)
    report = check_dataset(root, workers=1, ignore_masks=True)
    assert [(problem.kind, problem.image) for problem in report.problems] == [("missing-image", "c.json")]
    write_cleaned_copy(report, tmp_path / "out")
    assert not (tmp_path / "out/c.json").exists()
    assert objects(tmp_path / "out") == LABELME


@pytest.mark.parametrize("layout", ["{split}", "{split}/x", "labels/{split}", "annotations/{split}_set"])
def test_folders_that_are_called_like_splits(tmp_path: Path, layout: str) -> None:
    for seed, split in enumerate(("train", "val")):
        folder = layout.format(split=split)
        write_image(tmp_path / f"images/{split}/a.png", seed)
        write_labelme(tmp_path / folder / "a.json", [shape(split, [[1, 1], [9, 9]])], f"../../images/{split}/a.png")
        if layout == "{split}":
            (tmp_path / f"images/{split}/a.png").rename(tmp_path / split / "a.png")
    write_json(tmp_path / "package.json", {"name": "x"})
    write_json(tmp_path / "test_results/metrics.json", {"ap": 0.5})
    train = next(name for name in splits(tmp_path) if name.startswith("train"))
    assert len(splits(tmp_path)) == 2
    assert open_dataset(tmp_path, train).class_names == ("train", "val")
    assert list(objects(tmp_path, train).values()) == [[("train", [1, 1, 9, 9])]]


def test_other_files_beside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_labelme(tmp_path / "d")
    write_json(root / "package.json", {"name": "x", "version": "1.0"})
    (root / "notes.json").write_text("no JSON")
    (root / "._a.json").write_bytes(b"\0\5\26\7")
    write_image(root / "unlabelled.png", 9)
    assert objects(root) == LABELME
    caplog.set_level(logging.WARNING)
    assert not check_dataset(root, workers=1, ignore_masks=True).problems
    assert "1 image has no JSON file and counts in no split" in caplog.text


@pytest.mark.parametrize("data", [b"", b'{"shapes": [', b"[]", b"\xff\xfe{", '{"shapes": 5}'.encode("utf-16")])
def test_a_damaged_file_of_an_image(tmp_path: Path, data: bytes) -> None:
    root = make_labelme(tmp_path / "d")
    (root / "b.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"b\.json"):
        open_dataset(root)
    report = check_dataset(root, workers=1, ignore_masks=True)
    assert [(problem.kind, problem.image) for problem in report.problems] == [("bad-annotation", "b.json")]
    write_cleaned_copy(report, tmp_path / "out")
    assert objects(tmp_path / "out") == {name: found for name, found in LABELME.items() if name != "b"}


def test_a_byte_order_mark(tmp_path: Path) -> None:
    root = make_labelme(tmp_path)
    for path in root.glob("*.json"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert objects(root) == LABELME


def test_an_image_that_exif_turns(tmp_path: Path) -> None:
    """labelme shows it upright and states that size; another program may state the stored one."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((40, 100, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    write_labelme(tmp_path / "a.json", [shape("cat", [[1, 2], [11, 82]])], "a.jpg", imageHeight=100, imageWidth=40)
    assert objects(tmp_path) == {"a": [("cat", [1, 2, 11, 82])]}
    write_labelme(tmp_path / "a.json", [shape("cat", [[1, 2], [81, 12]])], "a.jpg", imageHeight=40, imageWidth=100)
    assert objects(tmp_path) == {"a": [("cat", [28, 1, 38, 81])]}


def test_the_copy_is_mended_and_keeps_the_rest(tmp_path: Path) -> None:
    root = tmp_path / "d"
    write_image(root / "a.png")
    shapes = [
        shape("cat", [[100, 10], [130, 30]], description="mine"),
        shape("cat", [[100, 30], [130, 30], [130, 90], [100, 90]], "polygon"),
        shape("dog", [[0, 40], [10, 40]], "circle"),
        shape("dog", [[5, 5], [5, 5]]),
        shape("dog", [[20, 20], [30, 30]]),
    ]
    path = write_labelme(root / "a.json", shapes, imageHeight=79, imageWidth=120, author="me")
    report = check_dataset(root, workers=1, ignore_masks=True)
    assert report.count_by_kind() == {"size-mismatch": 1, "empty-box": 1, "box-partly-outside": 3}
    write_cleaned_copy(report, tmp_path / "out")
    assert objects(tmp_path / "out") == {
        "a": [
            ("cat", [100, 10, 120, 30]),
            ("cat", [100, 30, 120, 80]),
            ("dog", [0, 30, 10, 50]),
            ("dog", [20, 20, 30, 30]),
        ]
    }
    assert not check_dataset(tmp_path / "out", workers=1, ignore_masks=True).problems
    text = (tmp_path / "out/a.json").read_text()
    assert '"author": "me"' in text
    assert '"description": "mine"' in text
    assert text != path.read_text()


def test_damaged_files_in_another_folder_neither_hide_the_format_nor_are_passed_over(tmp_path: Path) -> None:
    for number in range(3):
        write_image(tmp_path / f"images/{number}.png", number)
        write_labelme(
            tmp_path / f"annotations/{number}.json", [shape("cat", [[1, 1], [9, 9]])], f"../images/{number}.png"
        )
    (tmp_path / "annotations/0.json").write_text("")
    assert recognise(tmp_path).format == "labelme"
    assert [problem.image for problem in check_dataset(tmp_path, workers=1).problems] == ["annotations/0.json"]
    with pytest.raises(ValueError, match=r"0\.json: .*is not valid JSON"):
        open_dataset(tmp_path)
