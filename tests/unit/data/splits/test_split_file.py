"""A split file stands for a data folder wherever one is taken, and only selects."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vovnet.cli.data import check as check_command
from vovnet.data.check import check_dataset
from vovnet.data.conversion import NO_BOX, convert_dataset
from vovnet.data.formats import data_folder, open_dataset, splits
from vovnet.data.readers.mask_png import recognises as recognises_masks
from vovnet.data.splits.split_file import write_members
from vovnet.errors import UsageError

from ..small_datasets import append, make_coco, make_masked_coco, make_voc, make_yolo, voc_lines, write_split_file

HALVES = {"train": 0.5, "val": 0.5}


@pytest.mark.parametrize("make", [make_voc, make_coco, make_yolo])
def test_a_split_file_is_opened_as_the_dataset_is(make: Callable[[Path], Path], tmp_path: Path) -> None:
    root = make(tmp_path / "data")
    path = write_split_file(root, {"train": 0.6, "test": 0.4}, 3, tmp_path / "run" / "splits.json")
    assert splits(path) == ("train", "test")
    assert data_folder(path) == root
    whole = {sample.image_path: sample.target for split in splits(root) for sample in open_dataset(root, split).samples}
    parts = {split: open_dataset(path, split) for split in splits(path)}
    found = [sample for part in parts.values() for sample in part]
    assert sorted(sample.image_path for sample in found) == sorted(whole)
    assert all(sample.target.boxes.equal(whole[sample.image_path].boxes) for sample in found)
    assert len({sample.image_id for sample in found}) == len(found)
    assert {part.class_names for part in parts.values()} == {open_dataset(root, splits(root)[0]).class_names}
    report = check_dataset(path, workers=1)
    assert [(split.split, split.images) for split in report.statistics.splits] == [
        (name, len(part)) for name, part in parts.items()
    ]


def test_masks_come_with_the_images(tmp_path: Path) -> None:
    pytest.importorskip("hotcoco")
    root = make_masked_coco(tmp_path / "data")
    path = write_split_file(root, HALVES, 0, tmp_path / "splits.json")
    assert all(sample.target.masks is not None for sample in open_dataset(path, "val", masks=True))
    assert not recognises_masks(root)
    with pytest.raises(UsageError, match="VOC format, which has no masks"):
        voc = write_split_file(make_voc(tmp_path / "voc"), HALVES, 0, tmp_path / "voc.json")
        open_dataset(voc, "val", masks=True)


def test_a_split_file_in_the_dataset_moves_with_it(tmp_path: Path) -> None:
    root = make_yolo(tmp_path / "data")
    write_split_file(root, HALVES, 0, root / "splits.json")
    root.rename(tmp_path / "moved")
    assert len(open_dataset(tmp_path / "moved" / "splits.json", "train")) == 4


def test_images_of_voc_that_no_list_names_can_be_selected(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "data")
    (root / "ImageSets/Main/test.txt").unlink()
    path = tmp_path / "splits.json"
    write_members(path, root, {"train": ["JPEGImages/a.png", "JPEGImages/i.png"]})
    assert [sample.image_id for sample in open_dataset(path, "train")] == ["a", "i"]


def test_a_broken_annotation_elsewhere_does_not_matter_to_voc(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "data")
    (root / "Annotations/unlisted.xml").write_text("<annotation><broken")
    write_split_file(root, HALVES, 0, tmp_path / "splits.json")
    assert len(open_dataset(tmp_path / "splits.json", "train")) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vovnet_split": 2}, r"'vovnet_split': 1, got 2"),
        ({"root": "nowhere"}, r"its dataset .*nowhere does not exist: correct root"),
        ({"root": 3}, r"root must be the folder of the dataset, got 3"),
        ({"splits": []}, r"splits must hold 1 to 100 lists"),
        ({"splits": {"train": ["images/train/0.png", 7]}}, r"the split 'train' must be a list of paths"),
        ({"splits": {"train": ["images/train/00.png"]}}, r"images/train/00.png, which is no annotated image of .*"),
        ({"splits": {"train": ["../secret.png", "x"]}}, r"\.\./secret\.png, which is no .*one of 2 such entries"),
        ({"splits": {"train": ["images/train/0.png"] * 2}}, r"the split train lists images/train/0.png twice"),
        ({"splits": {"train\x9b": []}}, r"a split needs a short, printable name, got 'train\\x9b'"),
        ({"splits": {"train": []}}, r"the split train has no images"),
    ],
)
def test_a_wrong_split_file_says_what_is_wrong(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    make_coco(tmp_path / "data")
    content = {"vovnet_split": 1, "root": "data", "splits": {"train": ["images/train/0.png"]}}
    path = tmp_path / "splits.json"
    path.write_text(json.dumps(content))
    assert len(open_dataset(path, "train")) == 1
    path.write_text(json.dumps(content | change))
    with pytest.raises((ValueError, OSError), match=message):
        open_dataset(path, "train")


def test_a_split_file_of_a_split_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({"vovnet_split": 1, "root": "splits.json", "splits": {"train": []}}))
    with pytest.raises(ValueError, match="is a split file, expected the dataset itself"):
        splits(path)


def test_the_check_lists_what_a_split_file_names_in_vain(tmp_path: Path) -> None:
    root = make_coco(tmp_path / "data")
    path = tmp_path / "splits.json"
    write_members(path, root, {"train": ["images/train/0.png", "gone.png", "lost.png"], "val": ["images/val/0.png"]})
    report = check_dataset(path, workers=1)
    assert [(problem.kind, problem.image) for problem in report.problems] == [("missing-image", path.as_posix())] * 2
    assert path not in report.left_out


def test_fix_asks_for_the_dataset_itself(tmp_path: Path) -> None:
    root = make_coco(tmp_path / "data")
    path = write_split_file(root, HALVES, 0, tmp_path / "splits.json")
    with pytest.raises(UsageError, match=rf"give --fix the dataset itself, {root}"):
        check_command(path, fix=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_yaml_file_can_be_the_dataset(tmp_path: Path) -> None:
    root = make_yolo(tmp_path / "data")
    (root / "data.yaml").rename(root / "mine.yaml")
    append("mine.yaml", "\n")(root)
    path = write_split_file(root / "mine.yaml", HALVES, 0, tmp_path / "splits.json")
    assert data_folder(path) == root
    assert len(open_dataset(path, "val")) + len(open_dataset(path, "train")) == 7


def test_a_box_without_numbers_is_the_same_in_two_splits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_voc(tmp_path / "data")
    voc_lines("a", (1, 1, 60, 40), ("nan", 1, 4, 4))(root)
    write_split_file(root, HALVES, 0, tmp_path / "splits.json")
    assert "differently" not in caplog.text
    (root / "ImageSets/Main/night.txt").write_text("a\n")
    assert convert_dataset(root, "coco", tmp_path / "out").changed == {NO_BOX: 1}


def test_annotations_that_differ_between_splits_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_coco(tmp_path / "data")
    for path in (root / "images/train").iterdir():
        path.rename(root / "images" / path.name)
    content = json.loads((root / "annotations/instances_train.json").read_text())
    (root / "annotations/instances_zebras.json").write_text(json.dumps(content))
    write_split_file(root, HALVES, 0, tmp_path / "same.json")
    assert "differently" not in caplog.text
    content["annotations"][0]["bbox"] = [5, 6, 7, 8]
    (root / "annotations/instances_zebras.json").write_text(json.dumps(content))
    write_split_file(root, HALVES, 0, tmp_path / "splits.json")
    assert "splits annotate 1 image (the first is images/0.png) differently: the annotation of the first" in caplog.text


def test_no_copy_of_a_split_file_is_promised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_voc(tmp_path / "data")
    names = [f"JPEGImages/{number}.png" for number in range(30)]
    write_members(tmp_path / "splits.json", root, {"train": names})
    assert check_command(tmp_path / "splits.json", headers=True) == 1
    text = capsys.readouterr().out
    assert "30 problems in" in text
    assert "cleaned copy" not in text
    assert "--fix keeps" not in text
