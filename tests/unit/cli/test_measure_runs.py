"""`vovnet measure … --run`: what it hands on, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from vovnet.cli.main import main
from vovnet.engine import measure_by_name as by_name
from vovnet.profiling.measurement import read_measurements, write_measurements

from ..report.measured import in_two_runs, measurements


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["vovnet", "measure", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


@pytest.mark.parametrize(
    ("options", "runs"),
    [
        ((), ("eager",)),
        (("--run", "graph"), ("graph",)),
        (("--run", "eager", "graph"), ("eager", "graph")),
        (("--run", "eager", "--run", "compile"), ("eager", "compile")),
    ],
)
def test_the_runs_are_handed_on(
    options: tuple[str, ...], runs: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []

    def fake(models: object, **given: Any) -> Any:
        asked.append(given["runs"])
        return in_two_runs(measurements()[:1])

    monkeypatch.setattr(by_name, "measure_by_name", fake)
    assert call(monkeypatch, "resnet18", *options, "--json", str(tmp_path / "costs.json")) == 0
    assert asked == [runs]
    written = json.loads((tmp_path / "costs.json").read_text())["measurements"]
    assert [(row["name"], row["run"], row["run_ratio_to"]) for row in written] == [
        ("vovnet27_slim", "eager", "eager"),
        ("vovnet27_slim", "graph", "eager"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vovnet27_slim", "--run", "graph", "--device", "cpu"), "a graph needs a CUDA GPU, and the device is cpu"),
        (("vovnet27_slim", "--run", "quick"), "quick"),
        (("record.json", "--run", "graph"), "a record is shown as it is"),
        (("bccd", "--run", "graph", "--runtimes", "torch"), "--runtimes measures"),
    ],
)
def test_what_is_refused(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_record_of_two_runs_is_shown_and_chosen_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    record, rows = tmp_path / "record.json", in_two_runs(measurements())
    write_measurements(rows, record)
    assert [row.run for row in read_measurements(record)] == [row.run for row in rows]
    assert call(monkeypatch, str(record), "--pareto", "--by", "time") == 0
    shown = capsys.readouterr().out
    assert "× first run" in shown
    assert "vovnet27_slim graph is the cheapest model" in shown
