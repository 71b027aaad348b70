"""Where the copy of an image lies, and which splits join others."""

from __future__ import annotations

from pathlib import Path

import pytest

from vovnet.data import voc
from vovnet.data.check import check_dataset, find_unions

from .small_datasets import Spoil, append, make_voc, same_pixels


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
    splits = voc.read(make_voc(tmp_path), ["train", "val", "test", "trainval"])
    assert find_unions(splits) == {"trainval": ["train", "val"]}
    assert find_unions(splits[:3]) == {}
