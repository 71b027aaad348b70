"""`--tiles` on the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vovnet import load
from vovnet.cli.main import main

IMAGE = Path(__file__).parents[2] / "samples/bccd/JPEGImages/BloodImage_00007.jpg"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs the command line in an empty folder; gives exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vovnet", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        printed = capsys.readouterr()
        return int(stopped.value.code or 0), printed.out, printed.err

    return call


def test_predict_in_tiles(run: Run) -> None:
    status, out, _ = run("predict", IMAGE, "--tiles", 400, "--overlap", 0.5, "--no-draw", "--json", "-")
    assert status == 0
    detector = load("bccd")
    expected = detector.predict(IMAGE, tiles=400, overlap=0.5)
    assert sum(json.loads(out)["detections"].values()) == len(expected) > 0
    assert expected.boxes.tolist() != detector.predict(IMAGE).boxes.tolist()


def test_evaluate_in_tiles(run: Run, small_voc: Path) -> None:
    status, out, err = run(
        "evaluate", "bccd", small_voc, "--split", "val", "--tiles", 500, "--workers", 0, "--json", "-"
    )
    assert status == 0, err
    assert json.loads(out)["tiles"] == {"size": 500, "overlap": 0.2}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("predict IMAGE --tiles 31", "31"),
        ("predict IMAGE --tiles 64 --overlap 1", "0.9"),
        ("predict IMAGE --overlap 0.5", "give tiles as well"),
        ("evaluate bccd DATA --split val --overlap 0.5", "give tiles as well"),
        ("evaluate bccd DATA --split val --tiles 64 --soft-nms --workers 0", "does not go with soft-NMS"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(run: Run, small_voc: Path, arguments: str, sentence: str) -> None:
    words = [{"IMAGE": str(IMAGE), "DATA": str(small_voc)}.get(word, word) for word in arguments.split()]
    status, out, err = run(*words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert sentence in err
