"""A line of a list means the annotation that exists, however it is spelt."""

from __future__ import annotations

from pathlib import Path

import pytest

from vovnet.data.check import check_dataset, write_cleaned_copy
from vovnet.data.formats import open_dataset, splits

from ..small_datasets import clean_and_check, write_image, xml_of


def make(root: Path, names: list[str], **lists: str) -> Path:
    """Annotations and images of these names, which may hold folders, and lists in ImageSets/Main."""
    for seed, name in enumerate(names):
        write_image(root / f"JPEGImages/{name}.png", seed)
        path = root / f"Annotations/{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(xml_of((1, 1, 30, 20)))
    for name, text in lists.items():
        path = root / f"ImageSets/Main/{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return root


def images_of(root: Path, split: str) -> list[str]:
    images = open_dataset(root, split).samples
    return [image.image_path.relative_to(root / "JPEGImages").with_suffix("").as_posix() for image in images]


@pytest.mark.parametrize(
    ("names", "line", "expected"),
    [
        (["photo 1"], "photo 1", "photo 1"),
        (["photo 1"], "photo 1  -1", "photo 1"),
        (["a b  c d"], "a b  c d", "a b  c d"),
        ([" a "], " a ", " a "),
        (["a"], "\ta ", "a"),
        (["a\tb"], "a\tb 1", "a\tb"),
        (["img.v2", "img"], "img.v2", "img.v2"),
        (["img.v2"], "img.v2.jpg", "img.v2"),
        (["000001"], "000001.JPG", "000001"),
        (["000001"], "000001.xml 0", "000001"),
        (["a.jpg", "a"], "a.jpg", "a.jpg"),
        (["2012/000001", "2011/000001"], "2012/000001", "2012/000001"),
        (["2012/000001", "2011/000001"], "2011\\000001.jpg", "2011/000001"),
        (["2012/000001"], "000001", "2012/000001"),
        (["000001"], "2012/000001", "000001"),
        (["000001"], "/home/me/VOC2007/JPEGImages/000001.jpg", "000001"),
        (["000001"], "C:\\VOC2007\\JPEGImages\\000001.jpg", "000001"),
        (["photo 1", "photo"], "photo 1", "photo 1"),
        (["photo 1", "photo"], "photo  -1", "photo"),
        (["caf\u00e9"], "cafe\u0301", "caf\u00e9"),
        (["a\u2028b"], "a\u2028b", "a\u2028b"),
    ],
)
@pytest.mark.parametrize("frame", ["{}\n", "{}", "\r\n{}\r\n", "\ufeff{}\n"], ids=["lf", "end", "crlf", "bom"])
def test_a_line_means_what_exists(tmp_path: Path, names: list[str], line: str, expected: str, frame: str) -> None:
    root = make(tmp_path, [*names, "other"], train=frame.format(line))
    assert images_of(root, "train") == [expected]


def test_a_list_for_one_class_has_flags(tmp_path: Path) -> None:
    flags = "photo 1\nphoto 1 -1\nphoto 2  1\nphoto  0\n"
    root = make(tmp_path, ["photo", "photo 1", "photo 2"], train="photo\nphoto 1\nphoto 2\n", cat_train=flags)
    assert splits(root) == ("train",)
    assert images_of(root, "train") == ["photo", "photo 1", "photo 2"]
    with pytest.raises(ValueError, match=r"cat_train\.txt: lists photo twice"):
        open_dataset(root, "cat_train")
    (root / "ImageSets/Main/cat_train.txt").write_text(flags.replace("photo  0\n", ""))
    assert images_of(root, "cat_train") == ["photo", "photo 1", "photo 2"]


@pytest.mark.parametrize("second", ["a", "a.png", "JPEGImages/a.png", "a 1", " a"])
def test_two_spellings_are_one_image(tmp_path: Path, second: str) -> None:
    root = make(tmp_path / "d", ["a", "b"], train=f"a\n{second}\nb\n")
    assert check_dataset(root, workers=1).count_by_kind() == {"listed-twice": 1}
    clean_and_check(root, tmp_path / "out")
    assert images_of(tmp_path / "out", "train") == ["a", "b"]


def test_a_name_that_does_not_exist_is_reported_as_written(tmp_path: Path) -> None:
    root = make(tmp_path, ["photo 1", "2011/x"], train="photo 2\n2012/x\nphoto 1\n")
    problems = check_dataset(root, workers=1).problems
    assert [problem.kind for problem in problems] == ["missing-annotation"] * 2
    assert {problem.detail.partition(",")[0] for problem in problems} == {"lists photo 2", "lists 2012/x"}


def test_a_copy_keeps_every_list(tmp_path: Path) -> None:
    root, out = make(tmp_path / "d", ["a b", "c", "d e"], train="a b\nc\n", val="d e\n"), tmp_path / "out"
    (root / "Annotations/c.xml").write_text("broken")
    for name, text in {
        "Main/dark.txt": "c\nd e\n",
        "Main/tree_train.txt": "a b -1\nc  1\n",
        "Layout/val.txt": "d e 1\n",
    }.items():
        (root / f"ImageSets/{name}").parent.mkdir(exist_ok=True)
        (root / f"ImageSets/{name}").write_text(text)
    report = check_dataset(root, workers=1)
    write_cleaned_copy(report, out)
    lists = {path.relative_to(out / "ImageSets").as_posix(): path.read_text() for path in out.rglob("*.txt")}
    assert lists == {
        "Main/train.txt": "a b\n",
        "Main/val.txt": "d e\n",
        "Main/dark.txt": "d e\n",
        "Main/tree_train.txt": "a b -1\n",
        "Layout/val.txt": "d e 1\n",
    }
    assert report.count_by_kind() == {"bad-annotation": 1}


def test_lists_in_other_folders_lose_only_the_lines_of_removed_images(tmp_path: Path) -> None:
    root, out = make(tmp_path / "d", ["a", "b", "c"], train="a\nb\n", val="c\n"), tmp_path / "out"
    (root / "Annotations/b.xml").write_text(xml_of((9, 9, 4, 4)))
    lists = {
        "Layout/train.txt": ("a 2\na 3\nb 1\nc 12\n", "a 2\na 3\nc 12\n"),  # the number of an object
        "Action/jump_train.txt": ("a  1  1\na  2 -1\nb  1  1\n", "a  1  1\na  2 -1\n"),
        "Segmentation/val.txt": ("b\na\n", "a\n"),
        "notes.txt": ("b is blurred.\n\nThe rest is good.\r\n", "b is blurred.\n\nThe rest is good.\r\n"),
    }
    for name, (text, _) in lists.items():
        (root / f"ImageSets/{name}").parent.mkdir(exist_ok=True)
        (root / f"ImageSets/{name}").write_bytes(text.encode())
    write_cleaned_copy(check_dataset(root, workers=1), out)
    assert {name: (out / f"ImageSets/{name}").read_bytes().decode() for name in lists} == {
        name: expected for name, (_, expected) in lists.items()
    }


def test_lists_directly_in_imagesets(tmp_path: Path) -> None:
    root, out = make(tmp_path / "d", ["a", "b", "c"], train="a\nb\n", val="c\n"), tmp_path / "out"
    for path in list((root / "ImageSets/Main").iterdir()):
        path.rename(root / "ImageSets" / path.name)
    assert splits(root) == ("train", "val")
    (root / "Annotations/b.xml").write_text(xml_of((9, 9, 4, 4)))
    clean_and_check(root, out)
    assert images_of(out, "train") == ["a"]
    assert images_of(out, "val") == ["c"]


@pytest.mark.parametrize("name", ["readme.txt", "README.dataset.txt", "License.txt"])
def test_a_text_about_the_dataset_is_no_list(tmp_path: Path, name: str) -> None:
    root, out = make(tmp_path / "d", ["a", "b", "c"], train="a\nb\n", val="c\n"), tmp_path / "out"
    (root / "ImageSets/Main" / name).write_text("b\nis blurred\n")
    assert splits(root) == ("train", "val")
    (root / "Annotations/b.xml").write_text(xml_of((9, 9, 4, 4)))
    clean_and_check(root, out)
    assert (out / "ImageSets/Main" / name).read_text() == "b\nis blurred\n"
    for path in list((root / "ImageSets/Main").iterdir()):
        if path.name != name:
            path.rename(root / "ImageSets" / path.name)
    assert splits(root) == ("train", "val")


@pytest.mark.parametrize("path", ["train.txt", "ImageSets/Main/city/train.txt", "ImageSets/Segmentation/val.txt"])
def test_a_list_that_is_not_read_is_named(tmp_path: Path, path: str, caplog: pytest.LogCaptureFixture) -> None:
    root = make(tmp_path, ["a", "b"])
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("a\n")
    check_dataset(root, workers=1)
    assert f"{root / path} is not read as a list of a split: put such lists into {root}/ImageSets/Main" in caplog.text
    caplog.clear()
    check_dataset(make(root, ["a", "b"], train="a\n", val="b\n"), workers=1)
    assert "is not read" not in caplog.text


def test_images_without_annotation_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make(tmp_path, ["a", "b", "c"])
    (root / "Annotations/b.xml").unlink()
    check_dataset(root, workers=1)
    assert "1 image has no XML file and belongs to no split (the first is " in caplog.text
    (root / "Annotations/c.xml").write_text("broken")  # is reported by itself
    (root / "Annotations/a.xml").rename(root / "Annotations/x.xml")
    caplog.clear()
    check_dataset(root, workers=1)
    assert "2 images have no XML file and belong to no split" in caplog.text
