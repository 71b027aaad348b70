from __future__ import annotations

from pathlib import Path

import pytest

from vovnet.data.formats import open_dataset, splits
from vovnet.errors import UsageError


def test_a_wrong_split_is_answered_with_the_nearest_and_the_list() -> None:
    assert splits("samples/bccd") == ("test", "train", "trainval", "val")
    with pytest.raises(
        ValueError, match=r"no split 'tset', did you mean 'test'\? .there are: test, train, trainval, val"
    ):
        open_dataset("samples/bccd", "tset")
    with pytest.raises(ValueError, match=r"no split '\.\./\.\./Main/test'"):
        open_dataset("samples/bccd", "../../Main/test")


def test_a_missing_folder() -> None:
    with pytest.raises(FileNotFoundError, match="the data folder absent does not exist"):
        open_dataset("absent")


def test_an_empty_and_an_unknown_folder_say_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Annotations/\*\.xml .* data\.yaml .*it is empty"):
        open_dataset(tmp_path)
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(ValueError, match=r"Annotations/\*\.xml .* none of these exists"):
        splits(tmp_path)


def test_several_splits_need_a_name(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    for name in ("train", "val"):
        (tmp_path / "annotations" / f"{name}.json").write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(ValueError, match="has the splits train, val: give one"):
        open_dataset(tmp_path)
    with pytest.raises(ValueError, match="the split val has no images"):
        open_dataset(tmp_path, "val")


def test_a_format_without_masks_says_which_have_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"samples/bccd .*VOC format, which has no masks: .*COCO format .*mask PNGs"):
        open_dataset("samples/bccd", "test", masks=True)
    (tmp_path / "data.yaml").write_text("train: images\nnames: [cat]\n")
    with pytest.raises(UsageError, match="YOLO format, which has no masks"):
        open_dataset(tmp_path, masks=True)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        (
            "train/pets.tfrecord",
            "train/pets.tfrecord is a TFRecord file, which is not read: export the dataset as COCO",
        ),
        ("data/train-00000-of-00001.parquet", "parquet is a table of columns, which is not read"),
        ("pets.zip", "pets.zip is an archive: unpack it"),
        ("photos/a.jpg", "there are images, such as photos/a.jpg, but nothing says what they show"),
    ],
)
def test_an_unknown_folder_gets_a_hint(tmp_path: Path, name: str, hint: str) -> None:
    root = tmp_path / "given" / "d"
    (root / name).parent.mkdir(parents=True)
    (root / name).touch()
    with pytest.raises(ValueError, match=f"none of these exists; .*{hint}"):
        splits(root)
