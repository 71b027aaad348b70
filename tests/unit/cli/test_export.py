"""What `vovnet export` prints, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import vovnet.export.exporting as exporting
from vovnet.cli.main import app
from vovnet.export.exporting import ExportResult
from vovnet.export.gate_report import AccuracyChange, GateReport
from vovnet.export.parity import Parity


def report(**changes) -> GateReport:
    values = {
        "passed": True, "reasons": (), "weights": "bccd", "detector": "dsod300",
        "weights_sha256": "0" * 64,
        "runtime": "onnxruntime", "precision": "float32", "data": "cells", "split": "val", "images": 87,
        "calibration_images": 0, "threshold": 0.3, "exact": True,
        "parity": Parity(compared=1546, missing=0, tied=2, worst_iou=0.99987, worst_score=2.1e-6),
        "accuracy": (AccuracyChange(metric="VOC07 mAP", before=0.8652, after=0.8641),), "max_drop": 0.005,
        "blank_boxes": 0,
        "ms_before": 84.9, "ms_after": 55.5, "bytes_before": 17_800_000, "bytes_after": 17_900_000, "threads": 2,
        "instruction_set": "AVX2", "machine": "a processor", "versions": {}, "date": "2026-01-01", "seconds": 41.0,
    }  # fmt: skip
    return GateReport(**(values | changes))


@pytest.fixture
def exports(monkeypatch):
    def give(result):
        monkeypatch.setattr(exporting, "export_detector", lambda weights, **options: result)

    return give


def run(*arguments):
    return app(["export", *arguments], exit_on_error=False, print_error=False, result_action="return_value")


def test_a_file_that_passes_is_shown_beside_the_weights_with_the_next_command(exports, capsys):
    path = Path("exported/bccd.onnx")
    exports(ExportResult(path, report(), Path("exported/bccd.export.json"), Path("my cells/1.jpg")))
    assert run("bccd", "--to", "onnx") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if line.startswith("VOC07")] == [["VOC07", "mAP", "0.8652", "0.8641"]]
    assert (
        "1546 boxes compared in 87 images of cells, split val: scores differ by up to 2.1e-06, "
        "the lowest IoU is 0.9999, 2 tied"
    ) in lines
    assert lines[-1] == f"next: vovnet predict 'my cells/1.jpg' --weights {path}"


def test_a_file_that_fails_is_status_1_with_reasons_and_what_helps(exports, capsys):
    reason = "VOC07 mAP drops by 0.0200, from 0.8652 to 0.8452; allowed is 0.005"
    failed = report(passed=False, reasons=(reason,), precision="int8", exact=False)
    exports(ExportResult(None, failed, Path("exported/bccd_int8.rejected.json"), Path("my cells/1.jpg")))
    assert run("bccd", "--to", "onnx", "--json", "-") == 1
    out, err = capsys.readouterr()
    assert f"- {reason}" in err
    assert "--calibration-images" in err
    assert "next:" not in err
    assert json.loads(out)["accuracy"][0]["drop"] == pytest.approx(0.0011)
