"""Which splits are for training, validation and test; a val is taken from the training images if there is none."""

import json

import pytest

from tests.small_voc import write_small_voc
from vovnet.data.formats import open_dataset
from vovnet.data.splits.split_file import write_members
from vovnet.planning import splits as module
from vovnet.planning.splits import Splits, find_splits, take_val_from_train


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train", "val", "test"), ("train", "val", "test")),
        (("train", "valid"), ("train", "valid", None)),
        (("train", "val", "trainval", "test"), ("train", "val", "test")),
        (("trainval", "test"), ("trainval", None, "test")),
        (("train", "trainval", "test"), ("trainval", None, "test")),
        (("train_extra", "train2017", "val2017"), ("train_extra", "val2017", None)),
        (("all",), ("all", None, None)),
        (("train",), ("train", None, None)),
        (("instances", "test"), ("instances", None, "test")),
    ],
)
def test_names(tmp_path, monkeypatch, names, expected):
    monkeypatch.setattr(module, "names_of_splits", lambda root: names)
    assert find_splits(tmp_path) == Splits(tmp_path, *expected)


def test_a_val_is_taken_from_the_training_images_only(tmp_path):
    root = tmp_path / "data"
    write_small_voc(root, train=10, val=3)
    (root / "ImageSets/Main/val.txt").rename(root / "ImageSets/Main/test.txt")
    taken = take_val_from_train(find_splits(root), tmp_path / "run")
    members = json.loads((tmp_path / "run/splits.json").read_text())["splits"]
    assert taken == Splits(tmp_path / "run/splits.json", "train", "val", "test")
    assert {name: len(images) for name, images in members.items()} == {"train": 8, "val": 2, "test": 3}
    images = [image for part in members.values() for image in part]
    assert len(images) == len(set(images)) == 13
    test = open_dataset(taken.root, "test")
    assert [s.image_path for s in test] == [s.image_path for s in open_dataset(root, "test")]


def test_a_split_file_without_val_stays_as_it_is(tmp_path):
    root, source = tmp_path / "data", tmp_path / "run/splits.json"
    write_small_voc(root, train=10, val=3)
    images = sorted(path.relative_to(root).as_posix() for path in (root / "JPEGImages").iterdir())
    source.parent.mkdir()
    write_members(source, root, {"train": images[:10], "test": images[10:]})
    before = source.read_text()
    for folder in (tmp_path / "run", tmp_path / "other"):
        taken = take_val_from_train(find_splits(source), folder)
        assert source.read_text() == before
        assert [len(open_dataset(taken.root, name)) for name in ("train", "val", "test")] == [8, 2, 3]
