"""The log of a training run stays one record per line, whatever happens to the disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from vovnet.engine.log import json_lines
from vovnet.files import LEFTOVERS, replacing

from ..small_disk import small_disk


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
