"""Every kind of problem is found, and nothing else; the statistics count what is valid."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vovnet.data.check import KINDS, check_dataset, find_unions
from vovnet.data.dataset import raise_problem
from vovnet.data.formats import open_dataset
from vovnet.data.readers import voc

from .small_datasets import (
    HEIGHT,
    WIDTH,
    Spoil,
    append,
    clean_and_check,
    cut_short,
    edit,
    make_coco,
    make_voc,
    make_yolo,
    repeat_entry,
    same_pixels,
    set_entry,
    unlink,
    voc_lines,
    xml_of,
)


def test_bccd_has_no_problems() -> None:
    calls: list[tuple[int, int]] = []
    report = check_dataset("samples/bccd", workers=1, progress=lambda done, total: calls.append((done, total)))
    assert report.problems == ()
    assert calls[0] == (1, 364)
    assert calls[-1] == (364, 364)
    train = next(split for split in report.statistics.splits if split.split == "train")
    assert (train.images, sum(train.objects_per_class.values())) == (205, train.objects)
    assert json.loads(json.dumps(report.to_dict()))["fault_count"] == 0


GOOD = (1, 1, 60, 40)
VOC_PROBLEMS: list[tuple[str, str, Spoil]] = [
    ("unreadable-image", "a.png", cut_short("JPEGImages/a.png")),
    ("missing-image", "a.xml", unlink("JPEGImages/a.png")),
    ("missing-annotation", "train.txt", append("ImageSets/Main/train.txt", "zzz\n")),
    ("bad-annotation", "a.xml", append("Annotations/a.xml", "<")),
    ("listed-twice", "train.txt", append("ImageSets/Main/train.txt", "a\n")),
    ("size-mismatch", "a.png", voc_lines("a", GOOD, size=(HEIGHT, WIDTH))),
    ("not-a-number", "a.png", voc_lines("a", GOOD, ("nan", 1, 4, 4))),
    ("not-a-number", "a.png", voc_lines("a", GOOD, ("one", 1, 4, 4))),
    ("inverted-box", "a.png", voc_lines("a", GOOD, (30, 1, 4, 4))),
    ("empty-box", "a.png", voc_lines("a", GOOD, (5, 1, 4, 4))),
    ("box-outside", "a.png", voc_lines("a", GOOD, (70, 1, 90, 4))),
    ("box-partly-outside", "a.png", voc_lines("a", GOOD, (30, 10, 62, 30))),
    ("box-partly-outside", "a.png", voc_lines("a", GOOD, (0, 10, 30, 30))),
    ("duplicate-box", "a.png", voc_lines("a", GOOD, GOOD)),
    ("duplicate-image", "b.png", same_pixels("JPEGImages/a.png", "JPEGImages/b.png")),
    ("split-leak", "a.png", same_pixels("JPEGImages/i.png", "JPEGImages/a.png")),
    ("split-leak", "g.png", same_pixels("JPEGImages/i.png", "JPEGImages/g.png")),
    ("split-leak", "a.png", append("ImageSets/Main/test.txt", "a\n")),
]


@pytest.mark.parametrize(("kind", "file", "spoil"), VOC_PROBLEMS)
def test_voc_problems_are_found_and_fixed(tmp_path: Path, kind: str, file: str, spoil: Spoil) -> None:
    root = make_voc(tmp_path / "d")
    assert check_dataset(root, workers=1).problems == ()
    spoil(root)
    report = check_dataset(root, workers=1)
    # A list's fault is met again in the list that joins others.
    assert {(problem.kind, Path(problem.image).name) for problem in report.problems} == {(kind, file)}
    assert kind in KINDS
    clean_and_check(root, tmp_path / "out")


def test_voc_files_in_no_list_are_checked_and_kept(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "d")
    (root / "ImageSets/Main/test.txt").write_text("i\n")
    voc_lines("j", (1, 1, 70, 40))(root)
    report = check_dataset(root, workers=1)
    assert [(problem.kind, problem.split) for problem in report.problems] == [("box-partly-outside", "unlisted")]
    clean_and_check(root, tmp_path / "out")
    assert len(open_dataset(tmp_path / "out", "all")) == 10
    assert [sample.image_id for sample in open_dataset(tmp_path / "out", "test")] == ["i"]


def test_unknown_classes_of_voc_need_the_names(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "d")
    voc_lines("a", GOOD, name="catt")(root)
    assert check_dataset(root, workers=1).problems == ()
    (problem,) = check_dataset(root, workers=1, class_names=["cat"]).problems
    assert (problem.kind, problem.image) == ("unknown-class", "JPEGImages/a.png")
    assert "did you mean 'cat'?" in problem.detail


COCO_PROBLEMS: list[tuple[str, Spoil]] = [
    ("unreadable-image", cut_short("images/train/0.png")),
    ("missing-image", unlink("images/train/0.png")),
    ("annotation-without-image", set_entry("train", "annotations", 0, image_id=99)),
    ("bad-annotation", set_entry("train", "images", 0, file_name="../../x.png")),
    ("listed-twice", repeat_entry("train", "images")),
    ("size-mismatch", set_entry("train", "images", 0, width=33)),
    ("unknown-class", set_entry("train", "annotations", 0, category_id=8)),
    ("not-a-number", set_entry("train", "annotations", 0, bbox=[0, 0, None, 3])),
    ("inverted-box", set_entry("train", "annotations", 0, bbox=[5, 5, -3, 3])),
    ("empty-box", set_entry("train", "annotations", 0, bbox=[5, 5, 0, 3])),
    ("box-outside", set_entry("train", "annotations", 0, bbox=[59.9, 5, 10, 3])),
    ("box-partly-outside", set_entry("train", "annotations", 0, bbox=[50, 5, 20, 3])),
    ("duplicate-box", repeat_entry("train", "annotations")),
    ("duplicate-image", same_pixels("images/train/0.png", "images/train/1.png")),
    ("split-leak", same_pixels("images/val/0.png", "images/train/1.png")),
]


YOLO_PROBLEMS: list[tuple[str, Spoil]] = [
    ("unreadable-image", cut_short("images/train/0.png")),
    ("unreadable-image", lambda root: (root / "images/train/0.png").write_text("hello")),
    ("annotation-without-image", lambda root: (root / "labels/train/zz.txt").touch()),
    ("unknown-class", append("labels/train/0.txt", "2 0.5 0.5 0.1 0.1\n")),
    ("not-a-number", append("labels/train/0.txt", "1 0.5 0.5 nan 0.1\n")),
    ("not-a-number", append("labels/train/0.txt", "1 0.5 half 0.1 0.1\n")),
    ("bad-annotation", append("labels/train/0.txt", "1 0.5\n")),
    ("bad-annotation", append("labels/train/0.txt", "1 0.5 0.5 0.1 0.1 0.9\n")),
    ("inverted-box", append("labels/train/0.txt", "1 0.5 0.5 -0.1 0.1\n")),
    ("empty-box", append("labels/train/0.txt", "1 0.5 0.5 0 0.1\n")),
    ("box-outside", append("labels/train/0.txt", "1 1.5 0.5 0.1 0.1\n")),
    ("box-partly-outside", append("labels/train/0.txt", "1 1 0.5 0.5 0.1\n")),
    ("box-partly-outside", append("labels/train/0.txt", "1 0.5 0.5 1.5 0.5 0.7 0.9\n")),
    ("duplicate-box", append("labels/train/0.txt", "0 0.5 0.5 0.5 0.5\n")),
    ("duplicate-image", same_pixels("images/train/0.png", "images/train/1.png")),
    ("split-leak", same_pixels("images/val/0.png", "images/train/1.png")),
]


@pytest.mark.parametrize(
    ("make", "kind", "spoil"),
    [*((make_coco, *problem) for problem in COCO_PROBLEMS), *((make_yolo, *problem) for problem in YOLO_PROBLEMS)],
)
def test_problems_are_found_and_fixed(tmp_path: Path, make: Callable[[Path], Path], kind: str, spoil: Spoil) -> None:
    root = make(tmp_path / "d")
    assert check_dataset(root, workers=1).problems == ()
    spoil(root)
    assert check_dataset(root, workers=1).count_by_kind() == {kind: 1}
    clean_and_check(root, tmp_path / "out")


@pytest.mark.parametrize(
    ("spoil", "kind", "detail"),
    [
        (same_pixels("JPEGImages/a.png", "JPEGImages/b.png"), "duplicate-image", "same pixels as a.png in this split"),
        (same_pixels("JPEGImages/i.png", "JPEGImages/a.png"), "split-leak", "same pixels as i.png in the split test"),
        (append("ImageSets/Main/test.txt", "a\n"), "split-leak", "same file as a.png in the split test"),
    ],
)
def test_the_problem_says_where_the_copy_is(tmp_path: Path, spoil: Spoil, kind: str, detail: str) -> None:
    spoil(make_voc(tmp_path))
    (problem,) = check_dataset(tmp_path, workers=1).problems
    assert (problem.kind, problem.split) == (kind, "train")
    assert problem.detail.replace("JPEGImages/", "") == detail


def test_a_split_that_joins_others_is_found_by_its_images(tmp_path: Path) -> None:
    splits = voc.read(make_voc(tmp_path), ["train", "val", "test", "trainval"], raise_problem)
    assert find_unions(splits) == {"trainval": ["train", "val"]}
    assert find_unions(splits[:3]) == {}


def test_statistics(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "d")
    (root / "Annotations/a.xml").write_text(xml_of())
    statistics = check_dataset(root, workers=1).statistics
    split = next(split for split in statistics.splits if split.split == "train")
    assert (split.images, split.images_without_objects, split.objects) == (6, 1, 10)
    assert split.objects_per_class == {"cat": 10}
    assert split.images_per_class == {"cat": 5}
    boxes = statistics.boxes  # nine of 60 × 40 and nine of 16 × 26
    assert (boxes.small, boxes.medium, boxes.large) == (9, 9, 0)
    assert boxes.relative_size[100] == pytest.approx(1)
    assert boxes.relative_size[0] == pytest.approx((16 * 26 / 2400) ** 0.5)
    assert boxes.aspect_ratio[100] == pytest.approx(1.5)


def test_statistics_leave_out_a_box_that_is_endlessly_thin(tmp_path: Path) -> None:
    root = make_coco(tmp_path / "d")
    edit(root, "train", lambda content: content["annotations"][0].update(bbox=[0, 0, 10, 1e-310]))
    boxes = check_dataset(root, workers=1).statistics.boxes
    assert boxes.small + boxes.medium + boxes.large == 6
    assert boxes.aspect_ratio == dict.fromkeys(boxes.aspect_ratio, 1.5), "JSON has no infinity"
