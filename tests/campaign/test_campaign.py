"""A small, fixed part of the campaign, and that its judge notices each kind of fault."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from . import full_disk, sandbox, targets
from .commands import contents
from .harm import harm_in_file, harm_in_text
from .sandbox import changed, run_cases
from .seeds import ROOT, Seed
from .structured import any_tree
from .targets import KINDS, Kind

_BALLAST: list[bytearray] = []


def _evil_reader(path: Path, folder: Path) -> list[Callable[[], Any]]:
    """What the file says, done."""
    neighbour = folder.parents[1] / "neighbour"

    def leak() -> object:
        return Path(neighbour, "secret.txt").read_text()

    def grow() -> None:
        _BALLAST.append(bytearray(os.urandom(1) * 1_700_000_000))

    def fail(error: Exception) -> None:
        raise error

    deeds: dict[str, Callable[[], Any]] = {
        "unexpected": lambda: fail(KeyError(f"{path}")),
        "unnamed": lambda: fail(ValueError("it is damaged")),
        "long": lambda: fail(ValueError(f"{path} {'x' * 500}")),
        "hang": lambda: time.sleep(60),
        "memory": grow,
        "outside": lambda: (neighbour / "new").write_text("x"),
        "process": lambda: subprocess.run(["true"]),
        "network": lambda: socket.create_connection(("127.0.0.1", 9), timeout=1),
        "secret": leak,
        "crash": os.abort,
        "": lambda: fail(ValueError(f"{path} is damaged")),
    }
    return [deeds[path.read_text()]]


@pytest.mark.parametrize("fault", [*sandbox.FAULTS, ""])
def test_the_judge_notices(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "HANG_S", 0.5 if fault == "hang" else 10.0)
    kind = Kind(1, lambda: [Seed({"a.bin": fault.encode()})], lambda data, chance, others: data, _evil_reader)
    monkeypatch.setitem(KINDS, "evil", kind)
    targets.seeds_of.cache_clear()
    outcomes = list(run_cases([("evil", 0), ("evil", 1)], seed=1, root=tmp_path / "root"))
    assert len(outcomes) == 2, "the parent goes on after each"
    for outcome in outcomes:
        assert fault in outcome.faults if fault else not outcome.faults, outcome
        assert not outcome.accepted or fault in ("hang", "memory", "outside", "process", "secret")


def test_a_case_is_the_same_every_time() -> None:
    for kind in ("png", "coco", "yolo-yaml", "voc-xml", "meter"):
        assert changed(kind, 77, 1) == changed(kind, 77, 1)
        assert len({changed(kind, number, 1)[1][changed(kind, number, 1)[0]] for number in range(50, 80)}) > 15


def test_trees_change() -> None:
    import random

    tree = {"a": [1, {"b": "c"}], "d": None}
    changes = {repr(any_tree(tree, random.Random(seed))) for seed in range(100)}
    assert len(changes) > 50
    assert tree == {"a": [1, {"b": "c"}], "d": None}


@pytest.mark.parametrize(
    "text", [b"a\x1b[2J", "\u202egpj.exe".encode(), b"x\nvovnet: all is well\n", b"\xff", b"\x9b31m"]
)
def test_harmful_output_is_noticed(text: bytes) -> None:
    assert harm_in_text(text)


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.csv", b"x,=cmd()\n"), ("a.json", b"{"), ("a.svg", b"<svg>"), ("a.html", b"<script>alert(1)</script></html>")],
)
def test_harmful_files_are_noticed(name: str, data: bytes) -> None:
    assert harm_in_file(name, data)


def test_a_full_disk_is_one(tmp_path: Path) -> None:
    from .commands import forked

    finished = forked(lambda: Path("x").write_bytes(bytes(1000)), tmp_path, prepare=full_disk.limited)
    assert finished.status == 70
    assert len(contents(tmp_path)["x"]) == 300


@pytest.mark.skipif(sys.platform != "linux", reason="watches its children through /proc and inotify")
def test_the_short_campaign() -> None:
    """600 changed files of all kinds, three kills and a few of everything else."""
    command = [sys.executable, "-m", "tests.campaign.run", "--short"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-2000:]}"


@pytest.mark.campaign
def test_the_whole_campaign(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.campaign.run",
        "--sections",
        "--jobs",
        "2",
        "--record",
        str(tmp_path / "x.json"),
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
