"""Problems of masks: what counts as one, and what remains of the annotation."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

from vovnet.data.check import check_dataset
from vovnet.data.formats import open_dataset

from ..small_datasets import (
    BAR,
    HEIGHT,
    HOLE,
    WIDTH,
    Spoil,
    clean_and_check,
    make_coco,
    make_masked_coco,
    mask_entry,
    repeat_entry,
    set_entry,
)

MASK_PROBLEMS: list[tuple[str, Spoil]] = [
    ("missing-mask", mask_entry([])),
    ("missing-mask", mask_entry(None)),
    ("bad-mask", mask_entry("polygon")),
    ("bad-mask", mask_entry(3)),
    ("bad-mask", mask_entry([[1, 2, 3]])),
    ("bad-mask", mask_entry([[1, 2, 3, None, 5, 6]])),
    ("bad-mask", mask_entry([[0, 0, 9e5, 9e5, 0, 9e5]])),
    ("bad-mask", mask_entry({"size": [HEIGHT, WIDTH], "counts": [1, -1, 2400]})),
    ("bad-mask", mask_entry({"size": [HEIGHT, WIDTH], "counts": "\ud800"})),
    ("bad-mask", mask_entry({"size": [HEIGHT, WIDTH], "counts": "12"})),
    ("bad-mask", mask_entry({"counts": [2400]})),
    ("mask-size", mask_entry({"size": [WIDTH, HEIGHT], "counts": [2400]})),
    ("empty-mask", mask_entry(HOLE)),
    ("empty-mask", mask_entry([[5, 5, 5, 5, 5, 5]])),
    ("empty-mask", mask_entry([[100, 100, 120, 100, 120, 120]])),
    ("mask-elsewhere", mask_entry([[40, 25, 50, 25, 50, 35]])),
    ("mask-box-mismatch", mask_entry(BAR)),
    ("mask-box-mismatch", mask_entry([[1, 2, 55, 2, 55, 22, 1, 22]])),
    ("duplicate-box", repeat_entry("train", "annotations")),
]


@pytest.mark.parametrize(("kind", "spoil"), MASK_PROBLEMS)
def test_faults_of_masks_are_found_and_fixed(tmp_path: Path, kind: str, spoil: Spoil) -> None:
    root = make_masked_coco(tmp_path / "d")
    assert check_dataset(root, workers=1).problems == ()
    spoil(root)
    assert check_dataset(root, workers=1).count_by_kind() == {kind: 1}
    clean_and_check(root, tmp_path / "out")
    open_dataset(tmp_path / "out", "train", masks=True)


@pytest.mark.parametrize(
    "spoil",
    [
        mask_entry([[1.5, 2.5, 30.5, 2.5, 30.5, 21.5, 1.5, 21.5]]),  # COCO's boxes and polygons have fractions
        mask_entry([[1, 2, 26, 2, 26, 22, 1, 22]]),  # five pixels short
        mask_entry([[1, 2, 10, 2, 10, 22, 1, 22], [20, 2, 31, 2, 31, 22, 20, 22]]),  # an object seen in two parts
        mask_entry(BAR, bbox=[1, 2, 2, 20], iscrowd=1),
        mask_entry([[40, 5, 70, 5, 70, 30, 40, 30]], bbox=[40, 5, 20.3, 25]),  # a polygon over the edge
    ],
)
def test_what_is_normal_for_masks(tmp_path: Path, spoil: Spoil) -> None:
    root = make_masked_coco(tmp_path / "d")
    spoil(root)
    assert check_dataset(root, workers=1).problems == ()


def test_what_the_copy_does_about_masks(tmp_path: Path) -> None:
    root, out = make_masked_coco(tmp_path / "d"), tmp_path / "out"
    mask_entry(BAR)(root)
    set_entry("train", "annotations", 1, segmentation=[])(root)
    # Cut by the image's edge, as its mask is: one problem, not two.
    over = [[50, 5, 70, 5, 70, 8, 50, 8]]
    set_entry("train", "annotations", 2, bbox=[50, 5, 20, 3], segmentation=over)(root)
    kinds = {"box-partly-outside": 1, "missing-mask": 1, "mask-box-mismatch": 1}
    assert check_dataset(root, workers=1).count_by_kind() == kinds
    clean_and_check(root, out)
    annotations = json.loads((out / "annotations/instances_train.json").read_text())["annotations"]
    assert [entry["id"] for entry in annotations] == [0, 2, 3, 4]
    assert annotations[0]["bbox"] == [1, 2, 2, 20]
    assert annotations[0]["segmentation"] == BAR
    assert annotations[1]["bbox"] == [50, 5, 10, 3]
    assert annotations[1]["segmentation"] == over


def test_one_box_with_two_masks_is_two_objects(tmp_path: Path) -> None:
    root = make_masked_coco(tmp_path / "d")
    halves = [[[1, 2, 31, 2, 1, 22]], [[31, 2, 31, 22, 1, 22]]]
    repeat_entry("train", "annotations")(root)
    for index, half in zip((0, 5), halves, strict=True):
        set_entry("train", "annotations", index, id=index, segmentation=half)(root)
    assert check_dataset(root, workers=1).problems == ()


def test_a_few_masks_in_a_dataset_of_boxes_are_no_fault(tmp_path: Path) -> None:
    root = make_coco(tmp_path / "d")
    mask_entry("polygon")(root)
    report = check_dataset(root, workers=1)
    assert report.problems == ()
    train, val = report.statistics.splits
    assert (train.with_mask, val.with_mask) == (1, 0)


def test_without_the_extra_all_but_masks_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_masked_coco(tmp_path / "d")
    mask_entry("polygon", bbox=[5, 5, 0, 3])(root)
    set_entry("train", "annotations", 1, segmentation="polygon")(root)
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    with caplog.at_level(logging.WARNING, "vovnet"):
        report = check_dataset(root, workers=1)
    assert report.count_by_kind() == {"empty-box": 1}
    assert 'masks were not checked: masks need an extra: pip install "vovnet[eval]"' in caplog.text
    assert '"vovnet[eval]"' in report.to_dict()["masks_unchecked"]


def test_data_without_masks_needs_no_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_coco(tmp_path / "d")
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    assert check_dataset(root, workers=1).masks_unchecked == ""
