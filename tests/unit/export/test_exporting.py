"""`export_detector`: a file appears whole, only if it passes, and what was there before stays otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import vovnet.export.exporting as exporting
from vovnet.engine.predicting.known_exports import known
from vovnet.errors import UsageError
from vovnet.export.exporting import export_detector, export_name
from vovnet.export.gate import Verdict
from vovnet.export.gate_report import AccuracyChange
from vovnet.export.network_folder import write_folder
from vovnet.export.onnx_file import set_info
from vovnet.export.parity import Parity
from vovnet.export.placing import place, unfinished_folder
from vovnet.runtime.network_folder import read_folder
from vovnet.runtime.onnx_runtime import OnnxSession

from ...exported import bccd_onnx
from ..held_lock import held_elsewhere

GOOD = Verdict(
    reasons=(), images=8, threshold=0.3, exact=True, parity=Parity(compared=9, worst_iou=0.999, worst_score=1e-6),
    accuracy=(AccuracyChange(metric="VOC07 mAP", before=0.8, after=0.799),), ms_before=20.0, ms_after=10.0,
)  # fmt: skip
BAD = Verdict(reasons=("3 of 9 boxes are missing",), images=8, threshold=0.3, exact=True)


@pytest.fixture
def quick(monkeypatch):
    """Writes the shipped detector without exporting it, and judges as told."""
    import onnx

    def write(loaded, info, to, path, calibration=None):
        network = onnx.load_from_string(bccd_onnx())
        set_info(network, info)
        path.write_bytes(network.SerializeToString())

    def judged(verdict):
        monkeypatch.setattr(exporting, "judge", lambda *arguments, **options: verdict)

    monkeypatch.setattr(exporting, "write_export", write)
    judged(GOOD)
    return judged


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_that_passes_appears_with_its_report_and_is_remembered(quick, tmp_path):
    result = export_detector("bccd", to="onnx", output=tmp_path / "exported")
    assert result.path == tmp_path / "exported/bccd.onnx"
    assert names(tmp_path / "exported") == ["bccd.export.json", "bccd.onnx"]
    report = json.loads(result.report_path.read_text())
    assert report["passed"]
    assert report["parity"]["compared"] == 9
    assert report["bytes_after"] == pytest.approx(result.path.stat().st_size, rel=0.01)
    info = OnnxSession(result.path).info
    assert info.gate == json.loads(json.dumps(result.report.summary()))
    assert str(tmp_path) not in info.to_json()
    (remembered,) = [item for item in known(info.weights_sha256) if item.path == str(result.path)]
    assert (remembered.runtime, remembered.latency_ms, remembered.ap_after) == ("onnxruntime", 10.0, 0.799)


def test_a_file_that_fails_does_not_appear_and_an_older_one_stays(quick, tmp_path):
    first = export_detector("bccd", to="onnx", output=tmp_path)
    content, report = first.path.read_bytes(), first.report_path.read_bytes()
    quick(BAD)
    second = export_detector("bccd", to="onnx", output=tmp_path)
    assert second.path is None
    assert names(tmp_path) == ["bccd.export.json", "bccd.onnx", "bccd.rejected.json"]
    assert json.loads(second.report_path.read_text())["reasons"] == ["3 of 9 boxes are missing"]
    assert (first.path.read_bytes(), first.report_path.read_bytes()) == (content, report)
    quick(GOOD)
    export_detector("bccd", to="onnx", output=tmp_path)
    assert names(tmp_path) == ["bccd.export.json", "bccd.onnx"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_export_leaves_nothing(quick, tmp_path, monkeypatch, error):
    def stop(*arguments, **options):
        raise error

    monkeypatch.setattr(exporting, "judge", stop)
    with pytest.raises(error):
        export_detector("bccd", to="onnx", output=tmp_path)
    assert names(tmp_path) == []


def test_what_a_killed_export_left_is_removed(quick, tmp_path):
    (tmp_path / ".vovnet-export-abc").mkdir()
    (tmp_path / ".vovnet-export-abc/bccd.onnx").write_bytes(b"half")
    export_detector("bccd", to="onnx", output=tmp_path)
    assert names(tmp_path) == ["bccd.export.json", "bccd.onnx"]


def test_a_folder_replaces_an_older_export_as_a_whole(quick, tmp_path, monkeypatch):
    def write(loaded, info, to, path, calibration=None):
        write_folder(path, {"model.xml": content, "model.bin": b"2"}, info)

    monkeypatch.setattr(exporting, "write_export", write)

    def opened(path, threads=None):
        session = OnnxSession(shipped)
        session.info, _ = read_folder(path, {"model.xml": "text_bytes", "model.bin": "weights_bytes"})
        return session

    monkeypatch.setattr(exporting, "open_session", opened)
    shipped = export_detector_file(tmp_path / "shipped.onnx")
    content = b"first"
    result = export_detector("bccd", to="openvino", output=tmp_path / "out")
    assert result.path.name == "bccd_openvino"
    (result.path / "stray").write_text("of the older export")
    content = b"second"
    export_detector("bccd", to="openvino", output=tmp_path / "out")
    assert names(result.path) == ["model.bin", "model.xml", "vovnet.json"]
    assert (result.path / "model.xml").read_bytes() == b"second"
    assert json.loads((result.path / "vovnet.json").read_text())["gate"]["compared"] == 9


@pytest.mark.parametrize("killed", [True, False])
def test_an_older_folder_returns_if_its_replacement_stops_half_way(tmp_path, monkeypatch, killed):
    target = tmp_path / "bccd_openvino"
    target.mkdir()
    (target / "model.xml").write_text("older")

    def stop(new, place):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), unfinished_folder(tmp_path) as folder:
        new = folder / target.name
        new.mkdir()
        monkeypatch.setattr(Path, "replace", stop)
        if killed:
            monkeypatch.setattr("vovnet.export.placing._remove", lambda unfinished: None)
        place(new, target)
    monkeypatch.undo()
    assert target.exists() is not killed
    with unfinished_folder(tmp_path):
        assert (target / "model.xml").read_text() == "older"
    assert names(tmp_path) == ["bccd_openvino"]


def test_a_description_that_does_not_read_as_written_is_not_published(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "set_export_info", lambda path, info: None)
    with pytest.raises(ValueError, match=r"bccd\.onnx was not written"):
        export_detector("bccd", to="onnx", output=tmp_path)
    assert names(tmp_path) == []


def export_detector_file(path):
    path.write_bytes(bccd_onnx())
    return path


def test_what_is_no_export_is_never_replaced(quick, tmp_path):
    (tmp_path / "bccd_openvino").mkdir()
    (tmp_path / "bccd_openvino/diary.txt").write_text("mine")
    (tmp_path / "bccd.onnx").mkdir()
    for to in ("openvino", "onnx"):
        (tmp_path / "bccd.onnx/keep").write_text("mine")
        with pytest.raises(OSError, match="no exported detector: move it away"):
            export_detector("bccd", to=to, output=tmp_path)
    assert (tmp_path / "bccd_openvino/diary.txt").read_text() == "mine"


def test_two_at_a_time_do_not_write_to_one_folder(quick, tmp_path):
    with held_elsewhere(tmp_path), pytest.raises(OSError, match="is in use by"):
        export_detector("bccd", to="onnx", output=tmp_path)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"to": "onnx", "precision": "bf16"}, "--to onnx has no bf16, only float32 and int8: use --to openvino"),
        ({"to": "mnn", "precision": "int8"}, "--to mnn has no int8, only float32: use --to openvino"),
        ({"to": "tflite"}, "no form of export is called 'tflite'"),
        ({"to": "onnx", "precision": "int4"}, "no precision is called 'int4'"),
        ({"to": "onnx", "precision": "int8"}, "average precision must judge it: give --data"),
        ({"to": "onnx", "split": "val"}, "give the folder of one as --data"),
    ],
)
def test_what_does_not_go_together_is_refused_with_what_does(tmp_path, options, sentence):
    with pytest.raises(UsageError, match=sentence):
        export_detector("bccd", output=tmp_path, **options)
    assert names(tmp_path) == []


def test_an_exported_file_is_no_weights(tmp_path):
    path = export_detector_file(tmp_path / "mine.onnx")
    with pytest.raises(UsageError, match="is exported already: name the weights"):
        export_detector(path, to="openvino", output=tmp_path)


@pytest.mark.parametrize(
    ("weights", "name"),
    [
        ("bccd", "bccd"),
        ("runs/cells/best.safetensors", "cells"),
        ("runs/cells/last.pt", "cells"),
        ("runs/cells/", "cells"),
        ("runs/cells", "cells"),
        ("my weights.safetensors", "my_weights"),
        ("v1.2.safetensors", "v1.2"),
        ("https://host/files/cars.safetensors?download=1", "cars"),
    ],
)
def test_exported_files_are_named_after_the_weights(weights, name):
    assert export_name(weights) == name


@pytest.mark.slow
def test_an_export_from_weights_to_a_file_that_passes(tmp_path):
    result = export_detector("bccd", to="onnx", output=tmp_path, threads=1)
    assert result.path is not None
    assert result.report.parity.compared > 100
    assert result.report.data is None
    assert not (tmp_path / ".vovnet-lock").exists()
