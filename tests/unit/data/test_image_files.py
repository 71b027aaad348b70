"""Images of every suffix that can be read are found, and files that may be images are named."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, features

from vovnet.data.check import check_dataset
from vovnet.data.formats import open_dataset

from .small_datasets import clean_and_check, make_voc, make_yolo


def in_images(root: Path) -> Path:
    """The folder of the images of a split."""
    return root / "JPEGImages" if (root / "JPEGImages").is_dir() else root / "images/train"


def make_flat(root: Path) -> Path:
    """VOC annotations beside the images."""
    make_voc(root.parent / "voc")
    shutil.copytree(root.parent / "voc/JPEGImages", root)
    shutil.copytree(root.parent / "voc/Annotations", root, dirs_exist_ok=True)
    return root


@pytest.mark.parametrize("make", [make_voc, make_yolo])
@pytest.mark.parametrize(
    "suffix", [".avif", ".AVIF", ".webp", ".jfif", ".JPE", ".mpo", ".bmp", ".TIF", ".ppm", ".jp2", ".gif"]
)
def test_images_of_other_suffixes_are_read(tmp_path: Path, make: Callable[[Path], Path], suffix: str) -> None:
    if suffix.lower() == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    root = make(tmp_path)
    count = len(open_dataset(root, "train"))
    for path in sorted(in_images(root).iterdir()):
        Image.open(path).save(path.with_suffix(suffix))
        path.unlink()
    data = open_dataset(root, "train")
    assert {sample.image_path.suffix for sample in data} == {suffix}
    assert (len(data), len(data[0].target)) == (count, 2)
    assert check_dataset(root, workers=1).problems == ()


@pytest.mark.parametrize("make", [make_voc, make_yolo, make_flat])
@pytest.mark.parametrize("name", ["a.heic", "B.HEIF", "c.dng", "d.jxl", "e.jpg.part", "f", "g.mp4"])
def test_a_file_that_may_be_an_image_is_reported(
    tmp_path: Path, make: Callable[[Path], Path], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = make(tmp_path / "d")
    folder = root if make is make_flat else in_images(root)
    (folder / name).write_bytes(b"\0\0\0\x18ftypheic")
    (problem,) = check_dataset(root, workers=1).problems
    assert (problem.kind, problem.image) == ("skipped-file", (folder / name).relative_to(root).as_posix())
    assert "is not read as an image" in problem.detail
    with caplog.at_level(logging.WARNING, logger="vovnet"):
        assert len(open_dataset(root, None if make is make_flat else "train")) >= 5
    assert f"skipped 1 file (the first is {name})" in caplog.text
    clean_and_check(root, tmp_path / "out")
    assert not (tmp_path / "out" / problem.image).exists()


@pytest.mark.parametrize("make", [make_voc, make_yolo])
def test_usual_companions_are_silent(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    root = make(tmp_path)
    for name in ("Thumbs.db", ".DS_Store", "README", "LICENSE", "notes.txt", "classes.txt", "train.cache", "a.json"):
        (in_images(root) / name).write_text("x")
    (in_images(root) / "folder.heic").mkdir()
    assert check_dataset(root, workers=1).problems == ()


def test_a_split_without_images_does_not_stop_the_check(tmp_path: Path) -> None:
    root = make_yolo(tmp_path)
    for path in (root / "images/val").iterdir():
        path.rename(path.with_suffix(".heic"))
    report = check_dataset(root, workers=1)
    assert report.count_by_kind()["skipped-file"] == 2
    assert [split.images for split in report.statistics.splits] == [5, 0]
    with pytest.raises(ValueError, match="the split val has no images"):
        open_dataset(root, "val")
