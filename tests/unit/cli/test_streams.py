"""Where nobody reads what is printed, or nothing more can be written there, commands end quietly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = [["list"], ["--help"], ["predict", "--help"], ["list", "--json", "-"], ["list", "--json", "/dev/stdout"]]
VOVNET = [sys.executable, "-c", "from vovnet.cli.main import main; main()"]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_reader_that_has_enough(command: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        result = subprocess.run([*VOVNET, *command], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    finally:
        os.close(writing)
    assert result.returncode == 141
    assert "Error" not in result.stderr
    assert "Exception" not in result.stderr
    assert "pipe" not in result.stderr


@pytest.mark.parametrize("command", COMMANDS[:3], ids=" ".join)
def test_a_disk_that_is_full(command: list[str]) -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run([*VOVNET, *command], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert result.returncode == 1
    assert "free some disk space" in result.stderr
    assert result.stderr.startswith("vovnet: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("command", "status"), [("list --json out.json", 0), ("nonsense", 2)])
def test_streams_that_are_closed(tmp_path: Path, closed: str, command: str, status: int) -> None:
    """What is printed must not end up in a file that the command opens instead."""
    shell = f"\"$0\" -c 'from vovnet.cli.main import main; main()' {command} {closed}"
    result = subprocess.run(["sh", "-c", shell, sys.executable], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == status
    assert "Traceback" not in result.stderr
    assert "Exception" not in result.stderr
    if status == 0:
        assert (tmp_path / "out.json").read_text().startswith("{")
        assert "models     " not in (tmp_path / "out.json").read_text()


def test_an_error_of_the_system_is_a_sentence(tmp_path: Path) -> None:
    command = [*VOVNET, "list", "--json", str(tmp_path / "file" / "x.json")]
    (tmp_path / "file").touch()
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "Errno" not in result.stderr
    assert "is not a folder" in result.stderr
