"""Which file a row of the table of runtimes runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vovnet.engine.predicting.known_exports import KnownExport, known, remember
from vovnet.errors import UsageError
from vovnet.export.measuring import known_or_new
from vovnet.export.measuring.known_or_new import exported_file, remember_times
from vovnet.export.measuring.runtime_measurement import RuntimeName
from vovnet.export.source import describe_export
from vovnet.weights.detector import digest_of_weights, load_weights

from ..made_up_runtimes import made_up, row

NOTHING: dict[str, Any] = {"data": None, "split": None, "threads": 1}


@pytest.fixture(autouse=True)
def _own_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOVNET_CACHE", str(tmp_path / "cache"))


def remembered(path: Path, precision: str, latency_ms: float) -> Path:
    path.write_bytes(b"exported")
    info = describe_export(load_weights("bccd"), precision)
    assert remember(KnownExport.of(path, info, runtime="openvino", latency_ms=latency_ms))
    return path


def test_the_fastest_remembered_export_of_the_precision_runs(tmp_path: Path) -> None:
    remembered(tmp_path / "slow", "float32", 30)
    fast = remembered(tmp_path / "fast", "float32", 20)
    int8 = remembered(tmp_path / "int8", "int8", 5)
    assert exported_file("bccd", RuntimeName("openvino"), tmp_path, **NOTHING) == fast
    assert exported_file("bccd", RuntimeName("openvino", "int8"), tmp_path, **NOTHING) == int8


def test_without_one_it_is_exported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[dict[str, Any]] = []

    def export(weights: str, **options: Any) -> SimpleNamespace:
        calls.append({"weights": weights, **options})
        return SimpleNamespace(path=tmp_path / "new", report=None)

    monkeypatch.setattr(known_or_new, "export_detector", export)
    assert exported_file("bccd", RuntimeName("onnxruntime"), tmp_path, **NOTHING) == tmp_path / "new"
    assert calls == [{"weights": "bccd", "to": "onnx", "precision": "float32", "output": tmp_path, **NOTHING}]
    with pytest.raises(UsageError, match="int8 needs training images"):
        exported_file("bccd", RuntimeName("onnxruntime", "int8"), tmp_path, **NOTHING)


def test_an_export_that_does_not_pass_is_no_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refused = SimpleNamespace(path=None, report=SimpleNamespace(reasons=("AP falls by 0.1", "3 boxes are missing")))
    monkeypatch.setattr(known_or_new, "export_detector", lambda weights, **options: refused)
    with pytest.raises(ValueError, match="did not pass its test: AP falls by 0.1; 3 boxes are missing"):
        exported_file("bccd", RuntimeName("mnn"), tmp_path, **NOTHING)


def test_the_times_of_a_run_are_remembered(tmp_path: Path) -> None:
    """Of the file that ran; `auto` then takes what was fastest in one run."""
    one, other = remembered(tmp_path / "one", "float32", 10), remembered(tmp_path / "other", "int8", 20)
    rows = [replace(row("openvino", precision, ms), file=str(path)) for precision, ms, path in (
        ("float32", 25, one), ("int8", 6, other)
    )]  # fmt: skip
    remember_times("bccd", made_up(*rows))
    digest = digest_of_weights("bccd")
    assert [(Path(item.path).name, item.latency_ms) for item in known(digest)] == [
        ("other", pytest.approx(6.2)),
        ("one", pytest.approx(25.2)),
    ]
    remember_times("bccd", made_up(replace(row("openvino", "int8", 1), file="/elsewhere")))
    assert known(digest)[0].latency_ms == pytest.approx(6.2)
