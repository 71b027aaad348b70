"""The page of accuracy against cost: what it shows with and without times, and which detectors are on the front."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from vovnet import create_model
from vovnet.profiling.measure import measure
from vovnet.profiling.measurement import Measurement, write_measurements
from vovnet.profiling.pareto import undominated
from vovnet.profiling.speed import Latency


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/bccd_front.py; its folder is on the path as when it is run."""
    monkeypatch.syspath_prepend("benchmarks")
    monkeypatch.delitem(sys.modules, "bccd_front", raising=False)
    import bccd_front

    return bccd_front


def write_record(
    folder: Path, name: str, *, multiply_adds: int, coco_ap: float, voc07_map: float, epochs: float
) -> None:
    model = "dsod300_vovnet27_slim" if name == "bccd" else "ssdfpn320_vovnet19_tiny"
    record = {
        "config": {"model": model, "model_options": {}, "schedule": {"epochs": epochs}},
        "parameters": 1000,
        "multiply_adds": multiply_adds,
        "test": {"classes": {"RBC": {}, "WBC": {}}, "voc07_map": voc07_map, "coco": {"AP": coco_ap}},
    }
    (folder / f"{name}.json").write_text(json.dumps(record))


def fill_folder(folder: Path) -> None:
    write_record(folder, "bccd", multiply_adds=5_000_000_000, coco_ap=0.6, voc07_map=0.8, epochs=60)
    write_record(folder, "bccd_small", multiply_adds=700_000_000, coco_ap=0.5, voc07_map=0.9, epochs=120)


def timed(name: str, seconds: float) -> Measurement:
    measured = measure(torch.nn.Conv2d(3, 2, 1), 8, repetitions=3, memory=False)
    return replace(measured, name=name, latency=Latency((seconds,) * 20))


def test_undominated_keeps_what_no_other_beats() -> None:
    assert undominated([(1, 0.5), (2, 0.4), (2, 0.6), (3, 0.6), (1, 0.5)]) == [True, False, True, False, True]
    assert undominated([]) == []


def test_without_times_the_front_is_that_of_the_multiply_adds(pages: ModuleType, tmp_path: Path) -> None:
    fill_folder(tmp_path)
    section = pages.front_section(tmp_path)
    assert "not measured together yet" in section
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    assert lines[2:] == [
        "| ssdfpn320_vovnet19_tiny | 120 | 1,000 | 0.70 | 0.500 | 0.900 | multiply-adds: COCO AP and VOC07 mAP |",
        "| dsod300_vovnet27_slim | 60 | 1,000 | 5.00 | 0.600 | 0.800 | multiply-adds: COCO AP |",
    ]
    assert len(pages.plot_front(tmp_path).figure.axes) == 2


def test_with_times_there_is_a_second_front(pages: ModuleType, tmp_path: Path) -> None:
    fill_folder(tmp_path)
    write_measurements([timed("bccd", 0.02), timed("bccd_small", 0.07)], tmp_path / pages.COSTS)
    section = pages.front_section(tmp_path)
    assert "not measured" not in section
    by_time = [line for line in section.splitlines() if line.startswith("| dsod300")]
    assert by_time == [
        "| dsod300_vovnet27_slim | 60 | 1,000 | 5.00 | 20.0 | 0.600 | 0.800 "
        "| multiply-adds: COCO AP; median latency: COCO AP and VOC07 mAP |"
    ]
    assert len(pages.plot_front(tmp_path).figure.axes) == 4


def test_a_record_that_was_not_timed_has_a_dash(pages: ModuleType, tmp_path: Path) -> None:
    fill_folder(tmp_path)
    write_measurements([timed("bccd", 0.02)], tmp_path / pages.COSTS)
    assert "| ssdfpn320_vovnet19_tiny | 120 | 1,000 | 0.70 | – | 0.500" in pages.front_section(tmp_path)


def test_every_record_names_a_detector_that_can_be_built(pages: ModuleType) -> None:
    rows: list[Any] = pages.trained(Path("docs/records"))
    assert {"bccd", "bccd_refinedet320"} <= {row.name for row in rows}
    for row in rows:
        with torch.device("meta"):
            model = create_model(row.model, row.classes, **row.options)
        assert sum(p.numel() for p in model.parameters()) == row.parameters


def test_the_small_weights_are_described_once_there_is_a_record(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend("benchmarks")
    monkeypatch.delitem(sys.modules, "results", raising=False)
    import results

    monkeypatch.setattr(results, "RECORDS", tmp_path)
    shutil.copy("docs/records/bccd.json", tmp_path)
    assert results.small_detector() == []
    assert results.small_sentence() == ""
    shutil.copy("docs/records/bccd.json", tmp_path / "bccd_small.json")
    (section,) = results.small_detector()
    assert section.startswith("## Blood cells: the small bundled weights `bccd_small`")
    assert "for 1538 steps with batch\nsize 8 in 54 minutes" in section
    assert results.by_class(results.read("bccd")) in section
    assert "86.5 % mAP (VOC07) and 57.3 % COCO AP on the same test images with 5.3 G" in results.small_sentence()
