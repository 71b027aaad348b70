"""The log of a training run stays one record per line, whatever happens to the disk, the process or the file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from vovnet.data.formats import open_dataset
from vovnet.engine.config import load_config
from vovnet.engine.training.log import announce, json_lines
from vovnet.files import LEFTOVERS, replacing

from ..small_disk import small_disk

WHOLE = [json.dumps({"step": step, "loss": 0.5}) for step in range(1, 6)]


@pytest.mark.parametrize(
    "cut",
    [
        '{"step": 3, "lo',
        "[" * 100_000,
        '{"step": ' + "9" * 5_000 + "}",
        '{"step": "3"}',
        '{"loss": 1}',
        "[]",
        "null",
    ],
)
def test_a_line_that_cannot_be_read_is_left_out(cut: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join([*WHOLE[:2], cut, *WHOLE[2:]]))
    json_lines(path, 4)({"step": 9})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4, 9]


def test_what_a_power_cut_leaves_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for rest in (b"\0" * 100, b'{"step": 3, "loss": \xff}', b"\xff\xfe{\0"):
        path.write_bytes("\n".join(WHOLE[:2]).encode() + b"\n" + rest)
        json_lines(path, 4)({"step": 9})
        assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 9]


def test_a_log_that_is_no_file_or_too_large_is_named_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(ValueError, match=r"folder\.jsonl is a folder, not a file"):
        json_lines(tmp_path / "folder.jsonl", 4)
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(WHOLE))
    monkeypatch.setenv("VOVNET_LIMITS", "record_bytes=50")
    with pytest.raises(ValueError, match=r"log\.jsonl has more than 50 bytes: .* --limit record_bytes=N"):
        json_lines(path, 4)
    assert path.read_text() == "\n".join(WHOLE)


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = json_lines(path, last_step=0)
    log({"step": 1})
    with pytest.raises(OSError, match=r"could not write .*log.jsonl .*free some disk space"), small_disk(30):
        log({"step": 2, "loss": 1.2345678})
    log({"step": 3})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 3]


def test_only_unfinished_files_of_a_killed_run_match(tmp_path: Path) -> None:
    (tmp_path / ".notes.part1").touch()
    (tmp_path / ".partial").touch()
    with replacing(tmp_path / "last.pt") as temporary:
        temporary.touch()
        assert list(tmp_path.glob(LEFTOVERS)) == [temporary]
    assert sorted(os.listdir(tmp_path)) == [".notes.part1", ".partial", "last.pt"]


def test_a_run_says_first_how_its_data_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = load_config("bccd_dsod300_vovnet27_slim", ["data.root=samples/bccd", f"output={tmp_path}"])
    announce(config, open_dataset("samples/bccd", "val"), step=0, steps=1000, device="cpu")
    data, start = capsys.readouterr().err.splitlines()[:2]
    assert data == "samples/bccd is read as VOC, because Annotations/ holds XML files"
    assert start.startswith("87 images, 3 classes (Platelets, RBC, WBC)")
