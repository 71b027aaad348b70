"""Whatever a file of a dataset holds, the check and the opening end in a result or in one short sentence, quickly."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from vovnet.data.check import check_dataset
from vovnet.data.formats import open_dataset, splits
from vovnet.data.readers.coco_files import find_category_ids, scan_categories

from .coco_writing import CAR, IMAGE, write_split
from .small_datasets import clean_and_check, make_coco, make_voc, make_yolo, xml_of

Make = Callable[[Path], Path]


def sentences(root: Path, *, masks: bool = False) -> list[str]:
    """What opening and checking say if they fail. Any other exception fails the test."""
    said = []
    start = time.process_time()
    names: Sequence[str] = ()
    try:
        names = splits(root)
    except (ValueError, OSError) as error:
        said.append(str(error))
    for name in names:
        try:
            open_dataset(root, name, masks=masks)
        except (ValueError, OSError) as error:
            said.append(str(error))
    try:
        report = check_dataset(root, workers=1)
    except (ValueError, OSError) as error:
        said.append(str(error))
    else:
        json.dumps(report.to_dict(), allow_nan=False).encode()
        assert all(len(problem.detail) < 400 and "\n" not in problem.detail for problem in report.problems)
        assert all(len(hint) < 800 and "\n" not in hint for hint in report.hints)
    assert time.process_time() - start < 10
    for text in said:
        assert str(root) in text
        assert "\n" not in text
        assert len(text.replace(str(root), "")) <= 500
    return said


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB + "train: images\nnames: *a8\n", "repeats a part by the alias"),
        (BOMB + "train: *a8\nnames: [cat]\n", "repeats a part by the alias"),
        ("<<: &x {a: *x}\ntrain: images/train\nnames: [cat]\n", "repeats a part by the alias"),
        ("[" * 1000, "nested more than 50 levels deep"),
        ("train: images/train\nnames: !!bool x\n", "got the text 'x'"),
        ("train: images/train\nnames: !!timestamp x\n", "got the text 'x'"),
        ("train: images/train\nnames: {0: a, x: b}\n", "got the key 'x'"),
        ("train: images/train\nnames: {0: a, 00: b}\n", "two keys are the same number"),
        ("train: images/train\nnames: {٠: a}\n", "got the key '٠'"),
        ("train: images/train\nnames: [cat, dog]\nnames: [dog, cat]\n", "states 'names' twice"),
        ("train: images/train\ntrain: images/val\nnames: [cat, dog]\n", "states 'train' twice"),
        ("train: images/train\nnames: {0: a, 0: b}\n", "states '0' twice"),
        ("train: images/train\nnames:\n" + "- x\n" * 60_000, "has more than 50,000 entries"),
        ("train: images/train\nnames: [cat, dog]\nnc: " + "9" * 100_000, "but names has 2 entries"),
        ("train: " + "a/" * 300_000 + "\nnames: [cat, dog]\n", "is not a folder or list"),
        ("train: ../../../../etc/passwd\nnames: [cat, dog]\n", "is not a folder or list"),
        ("train: images/train\nnames: [" + "x" * 200_000 + ", " + "x" * 200_000 + "]\n", "is there twice"),
        ('train: "a\\0b"\nnames: [cat, dog]\n', "is not a folder or list"),
    ],
)
def test_data_yaml(tmp_path: Path, text: str, message: str) -> None:
    root = make_yolo(tmp_path / "d")
    (root / "data.yaml").write_text(text)
    assert message in sentences(root)[0] or message in check_dataset(root, workers=1).problems[0].detail


NAMES = ["no", "012", "1_000", "12:30", "null", "0x1f", "1e5", "2024-01-01", "yes", "=", "1.0", ".inf", "é", "on"]


@pytest.mark.parametrize("style", ["list", "flow", "dictionary", "tags"])
def test_class_names_are_the_text_of_the_file_and_of_its_copy(tmp_path: Path, style: str) -> None:
    root = make_yolo(tmp_path / "d")
    lines = {
        "list": "".join(f"- {name}\n" for name in NAMES),
        "flow": f"  [{', '.join(NAMES)}]\n",
        "dictionary": "".join(f"  {index}: {name}\n" for index, name in enumerate(NAMES)),
        "tags": "".join(f"- !!{tag} {name}\n" for tag, name in zip(["bool", "int", "str"] * 5, NAMES, strict=False)),
    }
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames:\n{lines[style]}")
    (root / "labels/train/0.txt").write_text("0 0.5 0.5 0.5 0.5\n0 nan 0 0 0\n")
    assert open_dataset(root, "train").class_names == tuple(NAMES)
    clean_and_check(root, tmp_path / "out")
    assert open_dataset(tmp_path / "out", "train").class_names == tuple(NAMES)


def test_class_names_of_other_formats_are_text(tmp_path: Path) -> None:
    yolo = make_yolo(tmp_path / "yolo")
    (yolo / "data.yaml").unlink()
    (yolo / "classes.txt").write_text("\n".join(NAMES))
    assert open_dataset(yolo).class_names == tuple(NAMES)
    voc = make_voc(tmp_path / "voc")
    for name, path in zip(NAMES, sorted((voc / "Annotations").iterdir()), strict=False):
        path.write_text(xml_of((1, 1, 60, 40), name=name))
    assert open_dataset(voc, "all").class_names == tuple(sorted(NAMES[:10]))
    for name in (False, 10, 1e3, None, ["a"]):
        coco = write_split(tmp_path / "coco", categories=[{"id": 1, "name": name}])
        with pytest.raises(ValueError, match="must have an integer id and a name as text, got"):
            open_dataset(coco, "train")


RLE: dict[str, Any] = {"size": [80, 120]}


@pytest.mark.parametrize(
    "change",
    [
        {"bbox": [10**400, 1, 9, 9]},
        {"bbox": [1e308, 1e308, 1e308, 1e308]},
        {"bbox": [1, 1, 1e308, 1e308]},
        {"bbox": ["1_0", "١٢", "inf", 4]},
        {"area": 10**400},
        {"id": 10**400},
        {"id": "x" * 100_000},
        {"id": {"a": ["\n" * 1000] * 1000}},
        {"image_id": 10**400},
        {"image_id": 1e308},
        {"image_id": [1]},
        {"category_id": 2**70},
        {"category_id": "9" * 400},
        {"category_id": float("nan")},
        {"segmentation": RLE | {"counts": [10**18]}},
        {"segmentation": RLE | {"counts": [-9600, 19200]}},
        {"segmentation": RLE | {"counts": [1e308, 9600]}},
        {"segmentation": RLE | {"counts": "oooooooooooooo0"}},
        {"segmentation": RLE | {"counts": "PPPPPP7" * 3}},
        {"segmentation": RLE | {"counts": "\ud800"}},
        {"segmentation": {"size": [100_000, 100_000], "counts": [10**10]}},
        {"segmentation": {"size": "x" * 100_000, "counts": [9600]}},
        {"segmentation": [[1, 1, 1e308, 9, 1, 9]]},
        {"segmentation": [[1, 1, 9, 9, 1, 9] * 100_000]},
        {"segmentation": [[[[[[1]]]]]]},
        {"iscrowd": 10**400, "attributes": {"rotation": 10**400}},
    ],
)
def test_coco_annotations(tmp_path: Path, change: dict[str, Any]) -> None:
    root = write_split(tmp_path / "d", [CAR | {"id": 2}, CAR | change])
    sentences(root)
    root = write_split(root, [CAR | {"id": 2, "segmentation": [[40, 30, 80, 30, 80, 50, 40, 50]]}, CAR | change])
    sentences(root, masks=True)


@pytest.mark.parametrize(
    "change",
    [
        {"width": 1e308, "height": 1e308},
        {"width": 10**400},
        {"width": -120, "height": 0},
        {"width": 100_000, "height": 100_000},
        {"id": 10**400},
        {"file_name": "\u202egpj.exe\n\x1b[31m" * 1000},
        {"file_name": "../../etc/passwd"},
        {"file_name": "/dev/zero"},
        {"file_name": "a/" * 100_000 + "a.png"},
        {"file_name": 5},
    ],
)
def test_coco_images(tmp_path: Path, change: dict[str, Any]) -> None:
    mask = {"segmentation": {"size": [80, 120], "counts": [9600]}}
    sentences(write_split(tmp_path / "d", [CAR | mask], images=[IMAGE | change]), masks=True)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, '{"images": [' + "9" * 5000 + "]}", "", "[]", "\ufeff{}", '{"images": 1e999}'],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_damaged_coco_files_name_the_file(tmp_path: Path, text: str, encoding: str) -> None:
    root = write_split(tmp_path / "d")
    path = root / "annotations/instances_train.json"
    path.write_bytes(text.encode(encoding, "replace"))
    assert all(f"{path}" in text for text in sentences(root))
    assert sentences(root)


def test_coco_in_utf_16_is_read(tmp_path: Path) -> None:
    root = write_split(tmp_path / "d")
    path = root / "annotations/instances_train.json"
    path.write_bytes(path.read_text().encode("utf-16"))
    assert len(open_dataset(root, "train")[0].target) == 1


def test_many_categories_take_no_quadratic_time(tmp_path: Path) -> None:
    categories = [{"id": n, "name": f"c{n}", "supercategory": f"c{n + 1}"} for n in range(1, 20_000)]
    for split in ("train", "val"):
        write_split(tmp_path / "d", categories=categories, split=split)
    sentences(tmp_path / "d")


def test_a_list_of_categories_is_found_among_many_of_the_name(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"categories": [{"id": 1, "name": "a"}], "x": [' + '{"categories": [1]},' * 100_000 + "1]}")
    start = time.process_time()
    assert scan_categories(path) == [{"id": 1, "name": "a"}]
    path.write_text('{"categories": [{' * 100_000)
    assert scan_categories(path) == []
    assert time.process_time() - start < 3


def test_category_ids_that_annotations_have(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"category_id": 7}, {"category_id":"8"}, {"category_id" : 9.0, "b": 1}, {"category_id": 1.5}]')
    assert find_category_ids(path, {1, 7, 8, 9, 5}) == {7, 8, 9}
    assert find_category_ids(path, ()) == set()


@pytest.mark.parametrize(
    "text",
    [
        "<a>" * 2_000_000,
        "<a>" * 100_000 + "</a>" * 100_000,
        "<annotation>" + "<object/>" * 150_000 + "</annotation>",
        "<r " + " ".join(f'a{n}=""' for n in range(1_000_001)) + "/>",
        xml_of((1, 1, "1e400", "nan")),
        xml_of((1, 1, "٥", "1_0")),
        xml_of((1, 1, "9" * 400, "9" * 100_000)),
        xml_of((1, 1, 1e308, 1e308), (-1e308, 1, 1e308, 9)),
        xml_of((1, 1, 9, 9), name="x" * 100_000),
        xml_of((1, 1, 9, "nan"), name="\u202ecat\n\n\x85dog"),
        xml_of((1, 1, 9, "a\nb\n" * 1000)),
        xml_of((1, 1, 9, 9), size=(10**400, 10**400)),
        xml_of((1, 1, 9, 9), size=(10**18, 10**18)),
    ],
)
def test_voc_annotations(tmp_path: Path, text: str) -> None:
    root = make_voc(tmp_path / "d")
    (root / "Annotations/a.xml").write_text(text)
    sentences(root)


@pytest.mark.parametrize(
    "text",
    [
        "x" * 1_000_000,
        "a 1 " * 100_000,
        "a/" * 500_000,
        "a" + " " * 500_000 + "1",
        "../../etc/passwd\n/dev/zero\na\tb",
        "\u202ea\x1b[31m\n",
    ],
)
def test_lists(tmp_path: Path, text: str) -> None:
    root = make_voc(tmp_path / "voc")
    for name in ("Main/train", "Main/cat_train", "Layout/train"):
        path = root / f"ImageSets/{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{text}\na\nb\n")
    sentences(root)
    clean_and_check(root, tmp_path / "out")
    yolo = make_yolo(tmp_path / "yolo")
    (yolo / "data.yaml").write_text("train: train.txt\nnames: [cat, dog]\n")
    (yolo / "train.txt").write_text(f"{text}\nimages/train/0.png\n")
    sentences(yolo)


@pytest.mark.parametrize(
    "text",
    [
        "0 1_000 0.5 0.1 0.1",
        "0 0.٥ 0.5 0.1 0.1",
        "0 0x1 0.5 0.1 0.1",
        "0 inf 0.5 0.1 0.1",
        f"0 {'9' * 400} 0.5 0.1 0.1",
        "0 1e400 -1e400 1e308 1e308",
    ],
)
def test_numbers_that_no_program_writes_are_no_box(tmp_path: Path, text: str) -> None:
    root = make_yolo(tmp_path / "d")
    (root / "labels/train/0.txt").write_text(f"0 0.5 0.5 0.5 0.5\n{text}\n")
    assert check_dataset(root, workers=1).count_by_kind() == {"not-a-number": 1}
    assert len(open_dataset(root, "train")[0].target) == 1


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("0 0.5 0.5 0.1 0.1\n" * 100_001, "bad-annotation"),
        ("0" + " 0.5" * 1_000_001, "bad-annotation"),
        ("x" * 5_000_000, "bad-annotation"),
        ("1000000000 0.5 0.5 0.1 0.1", "unknown-class"),
        ("\u202e\x1b[31m" * 100_000 + " 0.5 0.5 0.1 0.1", "unknown-class"),
    ],
)
def test_label_files(tmp_path: Path, text: str, kind: str) -> None:
    root = make_yolo(tmp_path / "d")
    (root / "labels/train/0.txt").write_text(text)
    assert kind in check_dataset(root, workers=1).count_by_kind()
    assert any(re.search(r"0\.txt", said) for said in sentences(root))


@pytest.mark.parametrize("what", ["pipe", "device", "loop", "folder"])
def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path, what: str) -> None:
    def replace(path: Path) -> None:
        path.unlink(missing_ok=True)
        if what == "pipe":
            os.mkfifo(path)
        elif what == "folder":
            path.mkdir()
        else:
            path.symlink_to("/dev/zero" if what == "device" else path.name)

    cases: dict[str, tuple[Make, str]] = {
        "label": (make_yolo, "labels/train/0.txt"),
        "settings": (make_yolo, "other.yaml"),
        "image": (make_yolo, "images/train/x.png"),
        "list": (make_voc, "ImageSets/Main/train.txt"),
        "xml": (make_voc, "Annotations/a.xml"),
        "new xml": (make_voc, "Annotations/new.xml"),
        "json": (make_coco, "annotations/instances_val.json"),
        "new json": (make_coco, "annotations/new.json"),
    }
    for name, (make, path) in cases.items():
        root = make(tmp_path / name)
        replace(root / path)
        sentences(root)


def test_problems_beyond_the_first_of_a_kind_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vovnet.data.check._MOST_PROBLEMS", 3)
    root = make_yolo(tmp_path / "d")
    (root / "labels/train/0.txt").write_text("0\n" * 10)
    (root / "labels/train/1.txt").write_text("0\n" * 3)
    details = [problem.detail for problem in check_dataset(root, workers=1).problems]
    assert len(details) == 3 + 1 + 3
    assert "and 7 more problems of this kind" in details


def test_foreign_names_take_one_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from vovnet.cli.data import check

    name = "cat\nvovnet: all is well\u202e\x1b[31m" + "x" * 100_000
    categories = [{"id": 1, "name": name}, {"id": 2, "name": name.upper()}]
    root = write_split(tmp_path / "d", [CAR | {"bbox": [1, 1, 0, 0]}, CAR | {"id": "a\nb", "image_id": "\n" * 99}])
    content = json.loads((root / "annotations/instances_train.json").read_text()) | {"categories": categories}
    (root / "annotations/instances_train.json").write_text(json.dumps(content))
    assert check(root, json_file=str(tmp_path / "a.json")) == 1
    printed = capsys.readouterr().out
    assert not any(text.startswith(("vovnet:", "b")) and "boxes" not in text for text in printed.splitlines())
    assert "\x1b" not in printed
    assert "\u202e" not in printed
    assert max(map(len, printed.splitlines())) < 1000
    assert json.loads((tmp_path / "a.json").read_text())["class_names"] == [name, name.upper()]
