"""The commands on exported files: `vovnet predict`, `evaluate` and `compare`, and those that need weights."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vovnet.cli.main import main
from vovnet.engine.predicting.known_exports import KnownExport, remember
from vovnet.runtime.opening import open_session

BCCD = Path(__file__).parents[2] / "samples" / "bccd"
IMAGE = BCCD / "JPEGImages" / "BloodImage_00007.jpg"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, bccd_onnx: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOVNET_CACHE", str(tmp_path / "cache"))
    shutil.copy(bccd_onnx, "bccd.onnx")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vovnet", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return call


def test_predict_with_an_exported_file(run: Run) -> None:
    code, out, err = run("predict", IMAGE, "--weights", "bccd.onnx", "--threads", 1, "--json", "x.json")
    assert (code, err) == (0, "")
    assert "bccd.onnx runs as float32 in ONNX Runtime" in out
    summary = json.loads(Path("x.json").read_text())
    assert summary["running"] == {"runtime": "onnxruntime", "precision": "float32", "file": "bccd.onnx"}
    assert summary["detections"]["RBC"] > 5
    assert Path("runs/predict/drawn/BloodImage_00007.jpg").is_file()
    assert run("predict", IMAGE, "--threads", 1, "--json", "y.json")[0] == 0
    assert json.loads(Path("y.json").read_text())["detections"] == summary["detections"]


def test_predict_with_weights_takes_the_export_that_passed(run: Run) -> None:
    code, out, _ = run("predict", IMAGE, "--threads", 1, "--no-draw", "--json", "x.json")
    assert code == 0
    assert "runs as" not in out
    assert json.loads(Path("x.json").read_text())["running"]["runtime"] == "torch"
    info = open_session("bccd.onnx", threads=1).info
    assert remember(KnownExport.of(Path("bccd.onnx"), info, runtime="onnxruntime", latency_ms=5))
    code, out, _ = run("predict", IMAGE, "--threads", 1, "--no-draw", "--device", "cpu")
    assert code == 0
    assert "bccd runs as float32 in ONNX Runtime, exported on" in out
    code, out, _ = run("predict", IMAGE, "--threads", 1, "--no-draw", "--runtime", "torch")
    assert code == 0
    assert "runs as" not in out


def test_evaluate_is_that_of_the_weights(run: Run, small_voc: Path) -> None:
    found = {}
    for name, runtime in (("bccd", "torch"), ("bccd.onnx", "onnxruntime")):
        arguments = [small_voc, "--split", "val", "--output", runtime, "--workers", 0, "--threads", 1]
        code, out, err = run("evaluate", name, *arguments, "--json", "x.json")
        assert (code, err) == (0, "")
        assert ("runs as" in out) == (runtime != "torch")
        found[name] = json.loads(Path("x.json").read_text())
        assert found[name] == json.loads(Path(runtime, "evaluation.json").read_text())
        assert found[name]["running"]["runtime"] == runtime
    assert found["bccd.onnx"]["voc07_map"] == pytest.approx(found["bccd"]["voc07_map"], abs=5e-4)


def test_compare_weights_with_their_export(run: Run) -> None:
    code, out, err = run("compare", "bccd", "bccd.onnx", "--images", IMAGE, "--threads", 1, "--json", "x.json")
    assert (code, err) == (0, "")
    assert "bccd.onnx (float32 in ONNX Runtime)" in out
    assert "bccd.onnx (float32 in ONNX Runtime)" in Path("runs/compare/comparison.html").read_text()
    torch, onnx = json.loads(Path("x.json").read_text())["columns"]
    assert torch["classes"] == onnx["classes"]
    assert (torch["running"]["runtime"], onnx["running"]["runtime"]) == ("torch", "onnxruntime")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["evaluate", "bccd.onnx", BCCD, "--split", "test", "--multi-scale", "voc"], 2, "needs the network in PyTorch"),
        (["evaluate", "bccd.onnx", BCCD, "--split", "test", "--device", "cuda"], 2, "runs on the CPU, got device"),
        (["evaluate", "bccd", BCCD, "--split", "test", "--runtime", "mnn"], 2, "vovnet export bccd --to mnn"),
        (["compare", "bccd.onnx", "./bccd.onnx", "--images", IMAGE], 2, "bccd.onnx and bccd.onnx are the same"),
        (["predict", IMAGE, "--weights", "bccd.onnx", "--contours"], 2, "--contours needs a detector with masks"),
        (["predict", IMAGE, "--weights", "bccd.onnx", "--runtime", "torch"], 2, "which PyTorch does not run"),
        (["predict", IMAGE, "--weights", "bccd.onnx", "--runtime", "tensorrt"], 2, "auto"),
        (["predict", IMAGE, "--weights", "cut.onnx"], 1, "cut.onnx"),
        (["predict", IMAGE, "--weights", "foreign.onnx"], 1, "foreign.onnx"),
        (["predict", IMAGE, "--weights", "newer.onnx"], 1, "newer than this one: update vovnet"),
        (["predict", IMAGE, "--weights", "gone.onnx"], 1, "gone.onnx is neither a weights file nor"),
        (["predict", IMAGE, "--weights", "."], 1, "name one of its files: bccd.onnx"),
        (["weights", "import", "bccd.onnx", "--output", "y.safetensors"], 2, "which is no weights: name the weights"),
    ],
)
def test_one_sentence_says_what_is_wrong(run: Run, arguments: list[object], status: int, says: str) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load("bccd.onnx")
    (entry,) = [entry for entry in model.metadata_props if entry.key == "vovnet"]
    if "newer.onnx" in arguments:
        entry.value = entry.value.replace('"format": 1', '"format": 99')
        onnx.save(model, "newer.onnx")
    if "foreign.onnx" in arguments:
        model.metadata_props.remove(entry)
        onnx.save(model, "foreign.onnx")
    Path("cut.onnx").write_bytes(Path("bccd.onnx").read_bytes()[: 10**6])
    code, out, err = run(*arguments)
    assert code == status
    assert says in err
    assert err.count("\n") == 1
    assert out == ""
    assert not Path("runs").exists()


def test_a_run_does_not_start_from_an_exported_file(run: Run, small_voc: Path) -> None:
    settings = ["weights=bccd.onnx", f"data.root={small_voc}", "output=run"]
    code, _, err = run("train", "bccd_dsod300_vovnet27_slim", *settings)
    assert code == 2
    assert "bccd.onnx holds an exported network, which is no weights" in err


def test_without_the_runtime(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, _, err = run("predict", IMAGE, "--weights", "bccd.onnx")
    assert code == 1
    assert "pip install" in err
    assert "onnx]" in err or "onnxruntime]" in err
    assert err.count("\n") == 1
