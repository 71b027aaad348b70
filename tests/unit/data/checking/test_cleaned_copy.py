"""What the cleaned copy keeps, leaves out and writes anew."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from vovnet.data.check import check_dataset, write_cleaned_copy
from vovnet.data.formats import open_dataset

from ...small_disk import small_disk
from ..small_datasets import (
    HEIGHT,
    WIDTH,
    clean_and_check,
    cut_short,
    make_coco,
    make_masked_coco,
    make_voc,
    make_yolo,
    same_pixels,
    set_entry,
    voc_lines,
)


def test_voc_copy_keeps_the_rest(tmp_path: Path) -> None:
    root, out = make_voc(tmp_path / "d"), tmp_path / "out"
    voc_lines("a", (1, 1, 70, 40), (30, 1, 4, 4), size=(1, 1))(root)
    same_pixels("JPEGImages/i.png", "JPEGImages/b.png")(root)
    clean_and_check(root, out)
    assert "<pose>Left</pose>" in (out / "Annotations/a.xml").read_text()
    assert (out / "Annotations/c.xml").read_bytes() == (root / "Annotations/c.xml").read_bytes()
    assert (out / "LICENSE").read_text() == "free"
    assert (out / "ImageSets/Main/cat_train.txt").read_text() == "a  1\nc  1\nd  1\ne  1\nf  1\n"
    assert [sample.image_id for sample in open_dataset(out, "train")] == list("acdef")
    assert [sample.image_id for sample in open_dataset(out, "trainval")] == list("acdefgh")
    assert not (out / "JPEGImages/b.png").exists()
    sample = open_dataset(out, "train")[0]
    assert sample.target.boxes.tolist() == [[0, 0, 60, 40]]
    assert sample.image_size == (HEIGHT, WIDTH)


def test_coco_copy_keeps_the_rest(tmp_path: Path) -> None:
    root, out = make_coco(tmp_path / "d"), tmp_path / "out"
    set_entry("train", "annotations", 0, bbox=[50, 5, 20, 3])(root)
    same_pixels("images/val/0.png", "images/train/1.png")(root)
    clean_and_check(root, out)
    content = json.loads((out / "annotations/instances_train.json").read_text())
    assert content["info"] == {"x": 1}
    assert [image["id"] for image in content["images"]] == [0, 2, 3, 4]
    assert [entry["id"] for entry in content["annotations"]] == [0, 2, 3, 4]
    assert content["annotations"][0] == {
        "id": 0, "image_id": 0, "category_id": 7, "bbox": [50, 5, 10, 3], "area": 30, "iscrowd": 0, "note": "mine"
    }  # fmt: skip


def test_yolo_splits_that_share_a_folder(tmp_path: Path) -> None:
    root, out = make_yolo(tmp_path / "d"), tmp_path / "out"
    (root / "data.yaml").write_text("train: images\nval: images/val\nnames: [cat, dog]\n")
    assert check_dataset(root, workers=1).count_by_kind() == {"split-leak": 2}
    clean_and_check(root, out)
    assert (len(open_dataset(out, "train")), len(open_dataset(out, "val"))) == (5, 2)
    assert yaml.safe_load((out / "data.yaml").read_text())["names"] == ["cat", "dog"]
    assert (out / "labels/train/0.txt").read_bytes() == (root / "labels/train/0.txt").read_bytes()


def test_the_copy_goes_to_a_new_folder_outside(tmp_path: Path) -> None:
    report = check_dataset(make_yolo(tmp_path / "d"), workers=1)
    with pytest.raises(ValueError, match="lies inside the data folder"):
        write_cleaned_copy(report, tmp_path / "d" / "clean")
    for out in (tmp_path, tmp_path / "d"):
        with pytest.raises(FileExistsError, match="not an empty folder"):
            write_cleaned_copy(report, out)
    (tmp_path / "empty").mkdir()
    write_cleaned_copy(report, tmp_path / "empty")
    assert len(open_dataset(tmp_path / "empty", "val")) == 2


def test_faults_of_yolo_lists(tmp_path: Path) -> None:
    root, out = make_yolo(tmp_path / "d"), tmp_path / "out"
    (root / "data.yaml").write_text("train: lists/train.txt\nval: images/val\nnames: [cat, dog]\n")
    (root / "lists").mkdir()
    (root / "lists/train.txt").write_text("images/train/0.png\nimages/train/9.png\n../images/train/0.png\n")
    assert check_dataset(root, workers=1).count_by_kind() == {"missing-image": 1, "listed-twice": 1}
    clean_and_check(root, out)
    assert [sample.image_path for sample in open_dataset(out, "train")] == [out / "images/train/0.png"]


def test_voc_without_lists(tmp_path: Path) -> None:
    root, out = make_voc(tmp_path / "d"), tmp_path / "out"
    for path in (root / "ImageSets/Main").iterdir():
        path.unlink()
    same_pixels("JPEGImages/a.png", "JPEGImages/b.png")(root)
    clean_and_check(root, out)
    assert [sample.image_id for sample in open_dataset(out)] == list("acdefghij")


def test_a_file_with_masks_but_no_problem_stays_as_it_is(tmp_path: Path) -> None:
    root, out = make_masked_coco(tmp_path / "d"), tmp_path / "out"
    path = root / "annotations/instances_val.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=3))
    set_entry("train", "annotations", 0, category_id=8)(root)
    clean_and_check(root, out)
    assert (out / path.relative_to(root)).read_bytes() == path.read_bytes()


def test_coco_with_images_beside_the_json(tmp_path: Path) -> None:
    source, root, out = make_coco(tmp_path / "s"), tmp_path / "d", tmp_path / "out"
    root.mkdir()
    for split in ("train", "val"):
        (source / f"images/{split}").rename(root / split)
        (source / f"annotations/instances_{split}.json").rename(root / split / "_annotations.coco.json")
    cut_short("train/3.png")(root)
    clean_and_check(root, out)
    assert (len(open_dataset(out, "train")), len(open_dataset(out, "val"))) == (4, 2)


MAKERS = [make_voc, make_coco, make_yolo]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("is_there", [True, False])
def test_a_full_disk_leaves_no_copy(tmp_path: Path, make: Callable[[Path], Path], is_there: bool) -> None:
    root, out = make(tmp_path / "d"), tmp_path / "out"
    if is_there:
        out.mkdir()
    report = check_dataset(root)
    largest = max(path.stat().st_size for path in root.rglob("*") if path.is_file())
    for room in (10, largest // 2):
        with pytest.raises(OSError, match=r"could not write .*out .*free some disk space"), small_disk(room):
            write_cleaned_copy(report, out)
        assert sorted(os.listdir(tmp_path)) == (["d", "out"] if is_there else ["d"])
        assert not is_there or os.listdir(out) == []
    write_cleaned_copy(report, out)
    assert files(out).keys() == files(root).keys() or make is make_yolo


@pytest.mark.parametrize("after", [0, 3, 9])
def test_a_kill_leaves_no_copy_that_looks_whole(tmp_path: Path, after: int) -> None:
    """after: files that are copied before the kill."""
    root, out = make_voc(tmp_path / "d"), tmp_path / "out"
    code = f"""
import os, shutil, signal
from vovnet.data.check import check_dataset, write_cleaned_copy
copy, count = shutil.copy2, 0
def kill(*arguments):
    global count
    if count == {after}:
        os.kill(os.getpid(), signal.SIGKILL)
    count += 1
    return copy(*arguments)
shutil.copy2 = kill
write_cleaned_copy(check_dataset({str(root)!r}), {str(out)!r})
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == -signal.SIGKILL
    assert not out.exists()
    write_cleaned_copy(check_dataset(root), out)  # what is left is not in the way


@pytest.mark.parametrize("name", ["a\nb.png", "a\rb.png", os.fsdecode(b"caf\xe9.png")])
def test_a_name_that_no_list_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    root, out = make_yolo(tmp_path / "d"), tmp_path / "out"
    image = next((root / "images").rglob("*.png"))
    shutil.copy(image, image.with_name(name))
    label = Path(str(image).replace("/images/", "/labels/")).with_suffix(".txt")
    shutil.copy(label, label.with_name(name).with_suffix(".txt"))
    image.unlink()
    label.unlink()
    with pytest.raises(ValueError, match="cannot name .*: rename that file"):
        write_cleaned_copy(check_dataset(root), out)
    assert not out.exists()
