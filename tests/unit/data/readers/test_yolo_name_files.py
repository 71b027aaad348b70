"""YOLO datasets that only a file of class names describes: in the folder, with lists, or in a folder per split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from vovnet.data.check import check_dataset
from vovnet.data.formats import open_dataset, recognise, splits

from ..small_datasets import clean_and_check, write_image

LINE = "1 0.5 0.5 0.5 0.5\n"
BOX = [15, 10, 45, 30]


def make(root: Path, name_file: str, lists: dict[str, Sequence[str]] | None = None) -> Path:
    """Images a, b, c and d, of which c has no label file."""
    for seed, stem in enumerate("abcd"):
        write_image(root / f"images/{stem}.png", seed)
    (root / "labels").mkdir()
    for stem in "abd":
        (root / f"labels/{stem}.txt").write_text(LINE)
    (root / name_file).write_text("cat\ndog\n")
    for name, lines in (lists or {}).items():
        (root / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    return root


def stems(root: Path, split: str) -> list[str]:
    return [sample.image_path.stem for sample in open_dataset(root, split)]


@pytest.mark.parametrize("name", ["classes.txt", "labels/classes.txt", "obj.names", "data.names", "_darknet.labels"])
def test_the_file_of_names_may_have_any_usual_name(tmp_path: Path, name: str) -> None:
    root, out = make(tmp_path / "d", name), tmp_path / "out"
    assert recognise(root).reason == f"{name} has names, and there are labels"
    assert splits(root) == ("all",)
    dataset = open_dataset(root)
    assert dataset.class_names == ("cat", "dog")
    assert [sample.target.boxes.tolist() for sample in dataset] == [[BOX], [BOX], [], [BOX]]
    assert check_dataset(root, workers=1).problems == ()
    clean_and_check(root, out)
    assert stems(out, "all") == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("val", "prefix"),
    [
        ("val", "images/"),
        ("valid", "./images/"),
        ("validation", "/home/me/pets/images/"),
        ("val", "C:\\pets\\images\\"),
        ("val", "{root}/images/"),
    ],
)
def test_lists_of_images_are_splits(tmp_path: Path, val: str, prefix: str) -> None:
    root, out = tmp_path / "d", tmp_path / "out"
    prefix = prefix.format(root=root)
    train = [f"{prefix}{name}.png" for name in "cad"]
    make(root, "obj.names", {"train": train, val: [f"{prefix}b.png"]})
    assert splits(root) == ("train", "val")
    assert stems(root, "train") == ["c", "a", "d"]
    assert stems(root, "val") == stems(root, "valid") == ["b"]
    assert stems(root, "all") == ["a", "b", "c", "d"]
    (root / "images/a.png").write_bytes(b"damaged")
    assert check_dataset(root, workers=1).count_by_kind() == {"unreadable-image": 1}
    clean_and_check(root, out)
    assert sorted(path.name for path in out.glob("*.txt")) == sorted(("train.txt", f"{val}.txt"))
    assert stems(out, "train") == ["c", "d"]


def test_the_labels_of_an_image_called_train_are_no_list(tmp_path: Path) -> None:
    write_image(tmp_path / "train.png", 0)
    (tmp_path / "train.txt").write_text(LINE)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert splits(tmp_path) == ("all",)
    assert [sample.target.boxes.tolist() for sample in open_dataset(tmp_path)] == [[BOX]]


def test_folders_must_agree_on_the_names(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "valid")):
        write_image(tmp_path / f"{split}/a.png", seed)
        (tmp_path / f"{split}/a.txt").write_text(LINE)
        (tmp_path / f"{split}/_darknet.labels").write_text("cat\ndog\n" if seed else "dog\ncat\n")
    with pytest.raises(ValueError, match=r"valid/_darknet\.labels has other class names than .*train/_darknet\.labels"):
        open_dataset(tmp_path, "train")
