"""The log of a run that goes on after its process was killed, or that something else wrote to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vovnet.engine.log import json_lines

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
def test_a_line_that_cannot_be_read_ends_the_log(cut: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join([*WHOLE[:2], cut, *WHOLE[2:]]))
    json_lines(path, 4)({"step": 9})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 9]


def test_what_a_power_cut_leaves_ends_the_log(tmp_path: Path) -> None:
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
