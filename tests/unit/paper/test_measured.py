"""Measured values of a record, and what a measurement asks for."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from vovnet.paper import measured
from vovnet.paper.measured import measured_answer, measured_speed_ratio, read_record
from vovnet.paper.published import TABLES
from vovnet.paper.recomputed import foreground_classes

from .reproduced import TABLE_2 as TIMES
from .reproduced import write_record


def test_measured_cells(tmp_path):
    write_record(tmp_path, "table2", TIMES)
    record = read_record("table2", tmp_path)
    fps = measured_answer(record, "table2", "dsod300_densenet67", "fps")
    assert fps.kind == "measured"
    assert fps.value == pytest.approx(1e3 / 40, rel=0.03)
    assert "Invented GPU (cuda:0)" in fps.note
    assert "table2.json" in fps.note
    efficiency = measured_answer(record, "table2", "dsod300_densenet67", "efficiency")
    assert efficiency.value == pytest.approx(fps.value)  # of 1 G multiply-adds
    assert measured_answer(record, "table2", "pelee304", "energy").text == "2.50"
    assert measured_answer(record, "table2", "pelee304", "memory").text == "500"
    speed = measured_speed_ratio(record, "table2", "ssd300_mobilenet", "dsod300_vovnet27_slim")
    assert speed.value == pytest.approx(0.5)
    assert measured_answer(record, "table2", "vovnet39", "fps").kind == "needs"


def test_on_a_cpu_the_note_says_what_can_be_compared(tmp_path):
    write_record(tmp_path, "table2", TIMES, device="cpu", sensor=False)
    record = read_record("table2", tmp_path)
    note = measured_answer(record, "table2", "pelee304", "fps").note
    assert "only ratios within this run are comparable with the TITAN X (Pascal) results" in note
    energy = measured_answer(record, "table2", "pelee304", "energy")
    assert (energy.kind, energy.value) == ("needs", None)
    assert "no sensor was invented" in energy.note


def test_the_mark_says_that_a_cpu_was_measured_under_a_heading_for_gpus(tmp_path):
    for device, time_mark, memory_mark in (
        ("cpu", "measured (CPU time)", "measured (MiB of RAM)"),
        ("cuda:0", "measured", "measured (MiB)"),
    ):
        write_record(tmp_path, "table3", {"dsod300_vovnet27_slim": (20.0, 1.0)}, device=device)
        record = read_record("table3", tmp_path)
        assert measured_answer(record, "table3", "dsod300_vovnet27_slim", "time").mark == time_mark
        assert measured_answer(record, "table3", "dsod300_vovnet27_slim", "memory").mark == memory_mark


def test_measuring_asks_for_the_papers_protocol(tmp_path, monkeypatch):
    asked = {}

    def measure_models(modules, shapes, **options):
        asked.update(options, shapes=shapes, classes={name: module.num_classes for name, module in modules.items()})
        write_record(tmp_path, "invented", {name: (10.0, 1.0) for name in modules})
        return list(read_record("invented", tmp_path).measurements.values())

    monkeypatch.setattr(measured, "measure_models", measure_models)
    monkeypatch.setattr(measured, "find_sensor", lambda device: SimpleNamespace(sources={"paper": None}))
    small = {"refinedet320_vovnet27_slim": "table4", "pelee304": "table2"}
    for model, table in small.items():
        row = replace(TABLES[table].rows[0], model=model)
        monkeypatch.setitem(TABLES, table, replace(TABLES[table], rows=(row,)))
        measured.measure_table(table, tmp_path / f"{table}.json", device="cpu")
        assert (asked["repetitions"], asked["energy"]) == (200, "paper")
        content = json.loads((tmp_path / f"{table}.json").read_text())
        assert {"command", "commit", "date", "measurements"} == content.keys()
        assert read_record(table, tmp_path).measurements.keys() == {model}
    assert asked["shapes"] == {"pelee304": (1, 3, 304, 304)}
    assert foreground_classes("refinedet320_vovnet27_slim") == 80
    assert foreground_classes("pelee304") == 20
