"""What `vovnet data check` prints about what a cleaned copy lacks, and its exit status."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from vovnet.cli.data import check


def spoil_boxes(path: Path, count: int | None = None) -> int:
    """Inverts the first boxes of an annotation, or all; returns how many it has."""
    pattern = r"<xmin>\d+</xmin>"
    text = path.read_text()
    path.write_text(re.sub(pattern, "<xmin>99999</xmin>", text, count=count or 0))
    return len(re.findall(pattern, text))


def annotations_of(root: Path, split: str) -> list[Path]:
    return [root / f"Annotations/{stem}.xml" for stem in (root / f"ImageSets/Main/{split}.txt").read_text().split()]


def test_images_without_objects_and_images_that_lose_some_are_counted_aloud(
    small_voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third, *_ = annotations_of(small_voc, "train")
    lost = spoil_boxes(first)
    spoil_boxes(second, 1)
    spoil_boxes(third, 1)
    out = small_voc.with_name("out")
    assert check(small_voc, fix=out, json_file=str(small_voc.with_name("r.json"))) == 1
    text = capsys.readouterr().out
    assert "1 image left out because every object annotated there has a problem" in text
    assert "2 images kept without some objects, which are still visible there" in text
    report = json.loads(small_voc.with_name("r.json").read_text())
    objects = [entry for entry in report["removed"] if entry["what"] == "object"]
    assert len(objects) == lost + 2
    assert {entry["kind"] for entry in objects} == {"inverted-box"}
    assert [Path(name).stem for name in report["images_losing_objects"]] == sorted([second.stem, third.stem])
    train = next(split for split in report["statistics"]["splits"] if split["split"] == "train")
    row = next(line.split() for line in text.split("--fix keeps")[1].splitlines() if line.startswith("train"))
    kept = sum(len(re.findall("<object>", path.read_text())) for path in annotations_of(out, "train"))
    assert row == ["train", "4", "5", str(kept), str(train["annotated_objects"])]
    assert kept == train["annotated_objects"] - lost - 2


def test_nothing_is_said_of_a_good_dataset(small_voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(small_voc, fix=small_voc.with_name("out")) == 0
    text = capsys.readouterr().out
    assert "--fix keeps" not in text
    assert "left out" not in text
    assert "hint" not in text


def test_a_hint_is_a_line_and_no_problem(small_voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = annotations_of(small_voc, "train")[0]
    path.write_text(path.read_text().replace("<name>RBC<", "<name>rbc<", 1))
    assert check(small_voc) == 0
    assert "hint: the classes 'RBC', 'rbc' differ only in case" in capsys.readouterr().out


def test_files_that_the_copy_lacks_are_named(small_voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(25):
        (small_voc / f"link{number}").symlink_to(os.devnull)
    check(small_voc, fix=small_voc.with_name("out"), json_file=str(small_voc.with_name("r.json")))
    text = capsys.readouterr().out
    assert text.count("not in the copy: link") == 20
    assert "… and 5 more files" in text
    removed = json.loads(small_voc.with_name("r.json").read_text())["removed"]
    assert [entry["what"] for entry in removed] == ["file"] * 25


def test_the_sizes_in_a_network_are_shown(small_voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(small_voc)
    text = capsys.readouterr().out
    assert re.search(r"√area in a network's input +300 × 300 +320 × 320 +512 × 512", text)
    assert re.search(r"below 16 pixels +\d+%", text)


@pytest.mark.parametrize(
    ("out", "message"), [("taken", "is not an empty folder"), ("d/out", "lies inside the data folder")]
)
def test_a_folder_that_cannot_take_the_copy_is_refused_before_the_check(
    tmp_path: Path, small_voc: Path, monkeypatch: pytest.MonkeyPatch, out: str, message: str
) -> None:
    def check_dataset(*_: object, **__: object) -> None:
        pytest.fail("the images were read")

    monkeypatch.setattr("vovnet.data.check.check_dataset", check_dataset)
    (tmp_path / "d").symlink_to(small_voc)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/mine.txt").touch()
    with pytest.raises((FileExistsError, ValueError), match=message):
        check(tmp_path / "d", fix=tmp_path / out)
