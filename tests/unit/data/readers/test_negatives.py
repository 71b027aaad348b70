"""Images without an annotation file show no object where a list names them, and only there."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from vovnet.data.check import check_dataset
from vovnet.data.formats import open_dataset, splits

from ..small_datasets import clean_and_check, cut_short, make_voc, unlink, write_image


def counts(root: Path, split: str) -> dict[str, int]:
    return {sample.image_path.stem: len(sample.target.labels) for sample in open_dataset(root, split)}


@pytest.mark.parametrize("line", ["n", "n.png", "JPEGImages/n.png", "data\\JPEGImages\\n.png"])
def test_an_image_that_a_voc_list_names_needs_no_xml_file(
    tmp_path: Path, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    root, out = make_voc(tmp_path / "d"), tmp_path / "out"
    write_image(root / "JPEGImages/n.png", 77)
    (root / "ImageSets/Main/val.txt").write_text(f"g\n{line}\nh\n")
    with caplog.at_level(logging.WARNING):
        assert counts(root, "val") == {"g": 2, "n": 0, "h": 2}
    assert "val.txt lists 1 image without an XML file (the first is n), which therefore shows no object" in caplog.text
    assert "n" not in counts(root, "all")
    report = check_dataset(root, workers=1)
    assert report.problems == ()
    assert {split.split: split.images_without_objects for split in report.statistics.splits}["val"] == 1
    clean_and_check(root, out)
    assert counts(out, "val") == {"g": 2, "n": 0, "h": 2}
    assert not (out / "Annotations/n.xml").exists()


def test_in_folders_a_name_is_a_path(tmp_path: Path) -> None:
    root = make_voc(tmp_path)
    write_image(root / "JPEGImages/night/a.png", 77)
    (root / "ImageSets/Main/val.txt").write_text("g\nnight/a\n")
    dataset = open_dataset(root, "val")
    assert [(sample.image_id, len(sample.target.labels)) for sample in dataset] == [("g", 2), ("night/a", 0)]


def test_a_list_names_no_image_of_another_annotation_as_a_negative(tmp_path: Path) -> None:
    """An XML file may state an image of another name, which then shows the objects of that file."""
    root = make_voc(tmp_path)
    (root / "JPEGImages/g.png").rename(root / "JPEGImages/photo.png")
    path = root / "Annotations/g.xml"
    path.write_text(path.read_text().replace("<size>", "<filename>photo.png</filename><size>"))
    (root / "ImageSets/Main/val.txt").write_text("photo\nh\n")
    with pytest.raises(FileNotFoundError, match=r"val\.txt: lists photo, the image of an annotation that has another"):
        open_dataset(root, "val")
    assert check_dataset(root, workers=1).count_by_kind()["missing-annotation"] == 1


def test_neither_image_nor_annotation_is_a_problem(tmp_path: Path) -> None:
    root, out = make_voc(tmp_path / "d"), tmp_path / "out"
    write_image(root / "JPEGImages/n.png", 77)
    (root / "ImageSets/Main/val.txt").write_text("g\nn\nh\nz\n")
    cut_short("JPEGImages/n.png")(root)
    assert check_dataset(root, workers=1).count_by_kind() == {"missing-annotation": 1, "unreadable-image": 1}
    clean_and_check(root, out)
    assert (out / "ImageSets/Main/val.txt").read_text() == "g\nh\n"


def test_an_image_that_no_list_names_belongs_to_no_split(tmp_path: Path) -> None:
    root = make_voc(tmp_path)
    unlink("Annotations/c.xml")(root)
    (root / "ImageSets/Main/train.txt").write_text("a\nb\n")
    assert splits(root) == ("test", "train", "trainval", "val")
    assert "c" not in counts(root, "train")
    assert counts(root, "trainval")["c"] == 0  # that list names it
