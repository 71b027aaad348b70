"""`vovnet measure … --runtimes`: what goes with it, what it prints, and its status."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from vovnet.cli.main import main
from vovnet.export.measuring import measure_runtimes as measuring

from ..made_up_runtimes import made_up, row


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["vovnet", "measure", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


@pytest.mark.parametrize(
    "arguments",
    [
        ("bccd", "dsod300_vovnet27_slim"),
        ("bccd", "--batches", "2"),
        ("bccd", "--input-size", "320"),
        ("bccd", "--precision", "bfloat16"),
        ("bccd", "--device", "cuda"),
        ("bccd", "--no-memory"),
        ("bccd", "--layers"),
        ("bccd", "--pareto"),
        ("vovnet39",),
        ("model.onnx",),
    ],
)
def test_what_does_not_go_with_it(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *arguments, "--runtimes", "torch") == 2
    assert "--runtimes measures" in capsys.readouterr().err


def test_an_unknown_runtime(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "bccd", "--runtimes", "torch", "openvno") == 2
    assert "did you mean 'openvino'" in capsys.readouterr().err


def test_the_table_the_json_and_the_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A row without a result fails the command; the others are there."""
    seen = {}

    def measure(weights, names, plan, *, on_step):
        seen.update(weights=weights, names=list(map(str, names)), plan=plan)
        return made_up()

    monkeypatch.setattr(measuring, "measure_runtimes", measure)
    out, file = tmp_path / "report", tmp_path / "all.json"
    arguments = ("bccd", "--runtimes", "torch", "openvino:int8", "--repetitions", "9", "--threads", "1")
    assert call(monkeypatch, *arguments, "--output", str(out), "--json", str(file)) == 1
    assert (seen["weights"], seen["names"]) == ("bccd", ["torch", "openvino:int8"])
    assert (seen["plan"].repetitions, seen["plan"].threads, seen["plan"].energy) == (9, 1, "auto")
    assert seen["plan"].exports == out / "exports"
    printed = capsys.readouterr().out
    assert "bccd in 4 runtimes" in printed
    assert "mnn: not measured: MNN is not installed" in printed
    content = json.loads(file.read_text())
    assert content["runtimes"]["rows"][3]["precision"] == "int8"
    assert {"command", "commit", "date"} <= content.keys()
    assert (out / "runtimes.md").exists()

    monkeypatch.setattr(measuring, "measure_runtimes", lambda *_, **__: made_up(row("torch", "float32", 40)))
    assert call(monkeypatch, "bccd", "--runtimes", "torch") == 0
