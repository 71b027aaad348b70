"""The comparison with YOLO11n: folded networks compute the same, the page shows the record, ultralytics is optional."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn


@pytest.fixture
def yolo11n(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """benchmarks/yolo11n.py, which writes to an empty folder and times one of our detectors."""
    monkeypatch.syspath_prepend("benchmarks")
    monkeypatch.delitem(sys.modules, "yolo11n", raising=False)
    import yolo11n

    monkeypatch.setattr(yolo11n, "RECORDS", tmp_path)
    monkeypatch.setattr(yolo11n, "OURS", ("bccd_small",))
    monkeypatch.setattr(sys, "argv", ["yolo11n.py", "--repetitions", "2"])
    return yolo11n


class StandIn(nn.Sequential):
    """What the script uses of ultralytics' class."""

    def __init__(self, config: str, nc: int, verbose: bool) -> None:
        super().__init__(nn.Conv2d(3, nc, 3), nn.BatchNorm2d(nc))
        self.config = config

    def fuse(self, verbose: bool) -> None:
        self[1] = nn.Identity()


def test_folded_norms_change_nothing_else(yolo11n: ModuleType) -> None:
    (_, _, model, size, run), (_, _, folded, _, run_folded) = yolo11n.ours("bccd_small")
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 100
    with torch.inference_mode():
        for expected, found in zip(run(images), run_folded(images), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())


def test_without_ultralytics_it_is_one_sentence(yolo11n: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    with pytest.raises(SystemExit, match="needs the package ultralytics, .*: pip install ultralytics$") as raised:
        yolo11n.main()
    assert "\n" not in str(raised.value)
    assert not (yolo11n.RECORDS / "yolo11n.json").exists()


def test_the_page_shows_the_record(yolo11n: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Not measured yet" in yolo11n.yolo_section(yolo11n.RECORDS)
    for name in ("ultralytics", "ultralytics.nn"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "ultralytics.nn.tasks", SimpleNamespace(DetectionModel=StandIn))
    monkeypatch.setattr(yolo11n, "installed_versions", lambda names: dict.fromkeys(names, "9.9"))
    for name in ("YOLO_CONFIG_DIR", "YOLO_OFFLINE", "YOLO_AUTOINSTALL", "YOLO_VERBOSE"):
        monkeypatch.setenv(name, "")
    yolo11n.main()

    record = json.loads((yolo11n.RECORDS / "yolo11n.json").read_text())
    kinds = [(row["name"], row["norms"]) for row in record["rows"]]
    assert kinds == [(name, norms) for name in ("bccd_small", "yolo11n") for norms in ("as trained", "folded")]
    assert all(len(row["latency"]["seconds"]) == 2 for row in record["rows"])
    assert [row["parameters"] for row in record["rows"]] == [1_423_024, 1_423_024, 90, 90]
    assert [row["to_yolo11n"]["median"] for row in record["rows"][2:]] == [1, 1]

    section = yolo11n.yolo_section(yolo11n.RECORDS)
    assert "of ultralytics 9.9" in section
    shown = [line.split(" | ")[:5] for line in section.splitlines() if line.startswith(("| `bccd_small`", "| YOLO11n"))]
    assert shown == [
        ["| `bccd_small`", "as trained", "320×320", "1,423,024", "0.71"],
        ["| `bccd_small`", "folded", "320×320", "1,423,024", "0.71"],
        ["| YOLO11n", "as trained", "320×320", "90", "0.01"],
        ["| YOLO11n", "folded", "320×320", "90", "0.01"],
    ]
