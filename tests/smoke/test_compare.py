"""`vovnet compare` as a user meets it, on the bundled images with the bundled weights and untrained ones."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from vovnet.cli.main import main
from vovnet.weights.detector import ModelInfo, save_weights

BCCD = Path(__file__).parents[2] / "samples" / "bccd"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vovnet", "compare", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return call


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of classes that are not the data's."""
    torch.manual_seed(0)
    info = ModelInfo("dsod300_vovnet27_slim", {"anchors": "coco"}, ("RBC", "<b>dust</b>"), (1, 2))
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    save_weights(path, info.build().state_dict(), info, {})
    return path


def test_detectors_beside_the_ground_truth(run: Run, untrained: Path) -> None:
    arguments = ["--data", BCCD, "--split", "test", "--images", "BloodImage_00007", "BloodImage_00011.jpg"]
    code, out, err = run("bccd", untrained, *arguments, "--json", "summary.json")
    assert (code, err) == (0, "")
    assert "untrained: errors are not marked" in out
    assert "bccd: errors" not in out
    assert "2 images; figure.jpg and comparison.html in runs/compare" in out
    summary = json.loads(Path("summary.json").read_text())
    truth, bccd, other = summary["columns"]
    assert (truth["name"], truth["weights"]) == ("ground truth", None)
    assert truth["classes"]["WBC"] == 2
    assert bccd["classes"]["WBC"] == 2
    assert bccd["found"] + bccd["missed"] >= truth["found"]
    assert (other["name"], other["missed"]) == ("untrained", None)
    assert [Path(picture["source"]).stem for picture in summary["pictures"]] == ["BloodImage_00007", "BloodImage_00011"]
    with Image.open("runs/compare/figure.jpg") as figure:
        assert figure.width > 3 * 640
        assert figure.height > 2 * 480
    page = Path("runs/compare/comparison.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 6


def test_a_broken_picture_is_named_and_skipped(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(BCCD / "JPEGImages" / "BloodImage_00007.jpg", folder / "b.jpg")
    (folder / "a.jpg").write_bytes(b"no image")
    code, out, err = run("bccd", "--images", folder, "--output", "out", "--names", "cells", "--json", "-")
    assert code == 1
    assert err.startswith(f"vovnet: {folder / 'a.jpg'} is not an image")
    assert "1 of 2 images could not be read" in err
    summary = json.loads(out)
    assert [column["name"] for column in summary["columns"]] == ["cells"]
    assert [Path(one["source"]).name for one in summary["failures"]] == ["a.jpg"]
    assert len(summary["pictures"]) == 1
    assert {path.name for path in Path("out").iterdir()} == {"figure.jpg", "comparison.html"}

    code, out, err = run("bccd", "--images", folder / "a.jpg", "--output", "nothing")
    assert code == 1
    assert "0 images; nothing is written" in out
    assert not list(Path("nothing").iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "say which detectors to compare"),
        (["bccd"], "say which images to compare on"),
        (["bccd", "bccd", "--images", "a.jpg"], "bccd is given twice"),
        (["bccd", "--images", "a.jpg", "--split", "test"], "give --data DIR too"),
        (["bccd", "--data", BCCD, "--split", "tset"], "did you mean 'test'?"),
        (["bccd", "--data", BCCD, "--split", "test", "--images", "x"], "x is not an image of"),
        (["bccd", "--images", "a.jpg", "--limit", "0"], "--limit. Must be >= 1"),
    ],
)
def test_wrong_usage(run: Run, arguments: list[object], says: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert says in re.sub(r'"(--[\w-]+)"', r"\1", err)  # which some versions of cyclopts quote
    assert err.count("\n") == 1
    assert not Path("runs").exists()
