"""What a view of a dataset shows: images with problems first, then some of every class and size."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from PIL import Image

from vovnet.cli.data_view import view
from vovnet.data.check import check_dataset
from vovnet.data.dataset import count_images
from vovnet.data.shown_images import choose_images
from vovnet.errors import UsageError

from ...small_voc import BCCD
from .small_datasets import make_coco, make_voc, set_entry, voc_lines


def test_every_class_and_size_is_there_in_a_small_sample() -> None:
    report = check_dataset(BCCD, headers=True)
    chosen = choose_images(report, 9)
    assert len(chosen) == len({shown.path for shown in chosen}) == 9
    assert set().union(*(shown.class_names for shown in chosen)) == {"RBC", "WBC", "Platelets"}
    assert choose_images(report, 9) == chosen
    assert {shown.split for shown in choose_images(report, 5, "val")} == {"val"}
    assert len(choose_images(report, 1000)) == 364
    with pytest.raises(UsageError, match="has no split 'tran', did you mean 'train'"):
        choose_images(report, 5, "tran")


def test_few_of_many_images_are_in_memory() -> None:
    report = check_dataset(BCCD, headers=True)
    choose_images(report, 5)
    tracemalloc.start()
    chosen = choose_images(report, 5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(chosen) == 5
    assert peak < 400 * count_images(report.annotated)


def test_problems_come_first_and_leave_room_for_others(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "data")
    for stem in "abcdef":
        voc_lines(stem, (1, 1, 90, 20))(root)
    chosen = choose_images(check_dataset(root, headers=True), 6)
    assert [bool(shown.problems) for shown in chosen] == [True] * 3 + [False] * 3
    assert "box-partly-outside: object 1 (cat): x1 y1 x2 y2 = 0 0 90 20" in chosen[0].problems
    assert len([shown for shown in choose_images(check_dataset(root, headers=True), 9) if shown.problems]) == 5


def test_the_problem_of_an_annotation_file_is_that_of_its_image(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "data")
    (root / "Annotations/d.xml").write_text("<annotation><broken")
    chosen = choose_images(check_dataset(root, headers=True), 4)
    assert chosen[0].name == "JPEGImages/d.png"
    assert chosen[0].problems[0].startswith("bad-annotation: is not well-formed XML")


def test_faulty_boxes_do_not_stop_the_view(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_coco(tmp_path / "data")
    boxes = ([1e30, 2, 3, 4], [5, 5, -3, 2], [-500, -500, 10, 10], [0, 0, 1e12, 1e12], ["x", 1, 2, 3])
    for index, box in enumerate(boxes):
        set_entry("train", "annotations", index, bbox=box)(root)
    view(root, output=tmp_path / "out")
    assert "7 images in" in capsys.readouterr().out
    assert (tmp_path / "out/view.html").read_text().count("<figure") == 7
    with Image.open(tmp_path / "out/sheet.jpg") as sheet:
        assert sheet.width > 900
