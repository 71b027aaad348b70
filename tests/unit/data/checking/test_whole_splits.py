"""Problems of whole splits, class names that look alike, and objects too small to learn."""

from __future__ import annotations

from pathlib import Path

import pytest

from vovnet.data.check import check_dataset, write_cleaned_copy
from vovnet.data.checking.statistics import InputBoxSizes
from vovnet.data.checking.whole_splits import hints_about_names

from ..small_datasets import edit, make_coco, make_voc, make_yolo, set_entry, voc_lines


def test_an_empty_split_is_a_problem(tmp_path: Path) -> None:
    yolo = make_yolo(tmp_path / "yolo")
    for path in (yolo / "images/val").iterdir():
        path.unlink()
    for path in (yolo / "labels/val").iterdir():
        path.unlink()
    coco = make_coco(tmp_path / "coco")
    edit(coco, "val", lambda content: content.update(images=[], annotations=[]))
    voc = make_voc(tmp_path / "voc")
    (voc / "ImageSets/Main/val.txt").write_text("")
    (voc / "ImageSets/Main/trainval.txt").unlink()
    (voc / "ImageSets/Main/seq.txt").write_text("")  # no split to train or test on
    for root in (yolo, coco, voc):
        (problem,) = check_dataset(root, workers=1).problems
        assert (problem.kind, problem.split, problem.image) == ("empty-split", "val", "")


def test_a_split_that_the_fix_leaves_empty_is_announced(tmp_path: Path) -> None:
    root = make_coco(tmp_path / "d")
    for index in range(2):
        set_entry("val", "annotations", index, bbox=[5, 5, 0, 3])(root)
    report = check_dataset(root, workers=1)
    assert report.count_by_kind() == {"empty-box": 2}
    assert report.hints == ("the cleaned copy has a new problem, empty-split: val: the split has no image",)
    write_cleaned_copy(report, tmp_path / "out")
    assert check_dataset(tmp_path / "out", workers=1).count_by_kind() == {"empty-split": 1}


def test_a_class_that_the_fix_takes_out_of_train_is_announced(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "d")
    voc_lines("a", (9, 9, 4, 4), name="dog")(root)
    voc_lines("i", (1, 1, 60, 40), name="dog")(root)
    report = check_dataset(root, workers=1)
    assert report.count_by_kind() == {"inverted-box": 1}
    assert report.hints == ("the cleaned copy has a new problem, class-not-in-train: test: 'dog'",)


def test_a_split_without_objects_is_a_problem(tmp_path: Path) -> None:
    yolo = make_yolo(tmp_path / "yolo")
    for path in (yolo / "labels/train").iterdir():
        path.write_text("")
    coco = make_coco(tmp_path / "coco")
    edit(coco, "train", lambda content: content.update(annotations=[]))
    voc = make_voc(tmp_path / "voc")
    for stem in "abcdef":
        voc_lines(stem)(voc)
    for root in (yolo, coco, voc):
        problems = check_dataset(root, workers=1).problems
        assert ("split-without-objects", "train") in {(problem.kind, problem.split) for problem in problems}


def test_a_class_without_objects_in_train_is_a_problem(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "d")
    voc_lines("i", (1, 1, 60, 40), name="dog")(root)
    voc_lines("j", (1, 1, 60, 40), name="cow")(root)
    voc_lines("h", (1, 1, 60, 40), name="cow")(root)
    found = [(p.kind, p.split, p.detail) for p in check_dataset(root, workers=1).problems]
    assert found == [("class-not-in-train", "test", "'cow', 'dog'"), ("class-not-in-train", "val", "'cow'")]


def test_a_class_that_only_train_has_is_none(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "d")
    voc_lines("a", (1, 1, 60, 40), name="dog")(root)
    assert check_dataset(root, workers=1).problems == ()


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (["car", "Car"], 1),
        (["car ", "car"], 1),
        (["traffic light", "traffic_light", "Traffic-Light", "bus"], 1),
        (["a", "A", "b", "B"], 2),
        (["car", "cars", "cat"], 0),
        (["car", "car"], 0),
    ],
)
def test_names_that_differ_in_case_and_spacing_only(names: list[str], count: int) -> None:
    hints = hints_about_names(names)
    assert len(hints) == count
    assert all(repr(name) in "".join(hints) for name in names[: 2 * count])


def test_such_names_are_a_hint_and_no_problem(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "d")
    voc_lines("a", (1, 1, 60, 40), (3, 3, 9, 9), name="Cat")(root)
    report = check_dataset(root, workers=1)
    assert report.problems == ()
    assert report.removed == ()
    assert report.to_dict()["hints"] == list(report.hints)
    assert "'Cat', 'cat'" in report.hints[0]


@pytest.mark.parametrize(("side", "small"), [(2, True), (0.9, True), (3, False), (20, False)])
def test_objects_that_are_too_small_to_learn_are_a_hint(tmp_path: Path, side: float, small: bool) -> None:
    """In images of 60 × 40, which become 300 × 300: √(2 · 5 · 2 · 7.5) = 12.2 pixels at most for side 2."""
    root = make_coco(tmp_path / "d")
    for split, count in (("train", 5), ("val", 2)):
        for index in range(count):
            set_entry(split, "annotations", index, bbox=[3, 3, side, side * 2 / 3])(root)
    report = check_dataset(root, workers=1)
    assert report.problems == ()
    sizes = report.statistics.boxes.at_input_size
    median = (side * 5 * side * 2 / 3 * 7.5) ** 0.5
    assert sizes[300].median == pytest.approx(median)
    assert sizes[512].median == pytest.approx(median * 512 / 300)
    assert isinstance(sizes[320], InputBoxSizes)
    assert (sizes[300].below_8, sizes[300].below_16) == (float(median < 8), float(median < 16))
    assert bool(report.hints) == small == (median <= 10)
    if small:
        assert f"{median:.1f} at 300 × 300" in report.hints[0]
