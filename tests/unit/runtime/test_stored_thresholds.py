"""Score thresholds that came with an exported detector: read from its file, used by runner, command and service.

The tiny detector gives a grey image of 51 the scores 0.8 for "dark" and 0.2 for "light".
"""

from __future__ import annotations

import json
import sys
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import save
from PIL import Image

from vovnet.runtime import Detector, command, load
from vovnet.runtime.export_info import ExportInfo
from vovnet.runtime.service import Service

from .tiny_detector import TINY, tiny_model, write_tiny

IMAGE = np.full((20, 40, 3), 51, np.uint8)
STORED = replace(TINY, score_thresholds=(0.9, 0.15))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save(tiny_model(STORED), tmp_path / "stored.onnx")
    return tmp_path / "stored.onnx"


@pytest.fixture
def detector(path: Path) -> Detector:
    return load(path, threads=1)


def names(detector: Detector, **options: Any) -> list[str]:
    return detector.predict(IMAGE, **options).names


def test_each_class_has_its_own(detector: Detector) -> None:
    assert detector.score_thresholds == (0.9, 0.15)
    assert names(detector) == ["light"]
    assert names(detector, classes="dark") == []
    assert names(detector, classes="light") == ["light"]
    assert [found.names for found in detector.stream([IMAGE, IMAGE])] == [["light"], ["light"]]


def test_one_that_is_given_holds_for_all(detector: Detector) -> None:
    assert names(detector, score_threshold=0.1) == ["dark", "light"]
    assert names(detector, score_threshold=0.3) == ["dark"]
    assert names(detector, score_threshold=0.1, top_k=1) == ["dark"]


def test_the_best_of_those_that_pass(detector: Detector) -> None:
    """The class "dark", which its own threshold drops, takes no place among the best."""
    assert names(detector, top_k=1) == ["light"]


def test_without_stored_ones(tmp_path: Path) -> None:
    detector = load(write_tiny(tmp_path / "tiny.onnx"), threads=1)
    assert detector.score_thresholds is None
    assert names(detector) == ["dark"]


def test_description_of_a_file() -> None:
    """Without thresholds it is what it was before there were any, which older runners read, as the others."""
    assert "score_thresholds" not in json.loads(TINY.to_json())
    assert ExportInfo.from_json(TINY.to_json()) == TINY
    stated = json.loads(STORED.to_json())
    assert (stated["format"], stated["score_thresholds"]) == (1, [0.9, 0.15])
    assert ExportInfo.from_json(STORED.to_json()) == STORED
    assert ExportInfo.from_json(json.dumps({**stated, "score_thresholds": None})) == TINY


@pytest.mark.parametrize("wrong", [[], [0.5], [0.5, 2], [0.5, "0.5"], "0.5", 0.5, {"dark": 0.5}, [True, False]])
def test_damaged_description(wrong: Any) -> None:
    stated = {**json.loads(STORED.to_json()), "score_thresholds": wrong}
    with pytest.raises(
        ValueError, match=r"has score_thresholds .*, expected a number from 0 to 1 for each of 2 classes"
    ):
        ExportInfo.from_json(json.dumps(stated))


def test_command(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)

    def run(*options: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["vovnet-runtime", *options])
        with pytest.raises(SystemExit) as stop:
            command.main()
        assert not stop.value.code
        return capsys.readouterr().out.splitlines()

    lines = run("predict", "stored.onnx", "a.png", "--no-draw")
    assert (
        lines[0]
        == "score thresholds, stored with the detector: dark 0.9, light 0.15; --score-threshold gives one for all"
    )
    assert lines[2:4] == ["dark   0", "light  1"]
    assert run("predict", "stored.onnx", "a.png", "--no-draw", "--score-threshold", "0.3")[:2] == [
        "class  detections",
        "dark   1",
    ]
    assert "score_thresholds  [0.9, 0.15]" in run("info", "stored.onnx")


@pytest.mark.parametrize(("given", "shown"), [(None, [0.9, 0.15]), (0.1, None)])
def test_service(detector: Detector, given: float | None, shown: list[float] | None) -> None:
    with Service(detector, ("127.0.0.1", 0), {"score_threshold": given, "top_k": 5, "classes": None}) as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.01,))
        thread.start()
        with urllib.request.urlopen(service.url, timeout=10) as answer:
            said = json.loads(answer.read())
        service.shutdown()
        thread.join()
    assert (said["score_threshold"], said.get("score_thresholds")) == (given, shown)
