"""The table of runtimes says what was measured, and of the rest why not."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

from vovnet.export.measuring.runtime_measurement import read_runtimes
from vovnet.profiling.energy.measured import EnergyResult
from vovnet.report.runtime_table import runtime_remarks, runtime_table, runtimes_to_markdown, write_runtimes

from ..made_up_runtimes import made_up, row


def test_the_cells() -> None:
    table = runtime_table(made_up())
    rows = [dict(zip(table.header, cells, strict=True)) for cells in table.rows]
    assert table.title == "bccd in 4 runtimes"
    assert rows[3] == {
        "runtime": "openvino",
        "precision": "int8",
        "mAP (%)": "86.52",
        "pixels → boxes (ms)": "6.200 (6.100 – 6.300)",
        "boxes p90 (ms)": "6.400",
        "boxes p99 (ms)": "6.400",
        "× first": "0.1542 (0.1521 – 0.1563)",
        "network alone (ms)": "4.200 (4.100 – 4.300)",
        "network p90 (ms)": "4.400",
        "network p99 (ms)": "4.400",
        "start → first boxes (s)": "0.4000",
        "resident (MiB)": "100.0",
        "peak (MiB)": "150.0",
        "file (MiB)": "1.000",
    }
    assert list(rows[2].values()) == ["mnn", "float32", *["–"] * (len(table.header) - 2)]


def test_what_is_missing_has_its_reason() -> None:
    remarks = runtime_remarks(made_up(doubts=("other processes kept 1.1 CPU cores busy",)))
    assert "mnn: not measured: MNN is not installed" in remarks
    assert "Energy not measured: no sensor here." in remarks
    assert remarks[-1] == "Warning: other processes kept 1.1 CPU cores busy"
    assert "mAP: VOC07, IoU 0.5, on the 87 images of val of bccd." in remarks
    assert any("Made-up CPU (AVX512 VNNI), 2 threads" in remark for remark in remarks)
    bare = runtime_remarks(made_up(replace(row("torch", "float32", 40), accuracy=None)))
    assert "mAP: not measured, because no dataset was given." in bare


def test_few_passes_give_no_p99() -> None:
    few = row("torch", "float32", 40)
    assert few.boxes is not None
    assert few.network is not None
    boxes, network = (replace(latency, seconds=latency.seconds[:50]) for latency in (few.boxes, few.network))
    measurement = made_up(replace(few, boxes=boxes, network=network))
    assert not any("p99" in title for title in runtime_table(measurement).header)
    assert "p99 needs at least 100 passes." in runtime_remarks(measurement)


def test_measured_energy_is_a_column() -> None:
    measured = replace(row("torch", "float32", 40), energy=EnergyResult(0.25, reason=None))
    table = runtime_table(made_up(measured))
    assert table.rows[0][table.header.index("energy (J/image)")] == "0.2500"


def test_the_files_of_a_report(tmp_path: Path) -> None:
    measurement = made_up()
    write_runtimes(measurement, {"command": "vovnet measure bccd"}, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runtimes.csv", "runtimes.json", "runtimes.md"]
    assert read_runtimes(tmp_path / "runtimes.json") == measurement
    assert json.loads((tmp_path / "runtimes.json").read_text())["command"] == "vovnet measure bccd"
    lines = list(csv.DictReader((tmp_path / "runtimes.csv").read_text().splitlines()))
    assert [line["runtime"] for line in lines] == ["torch", "onnxruntime", "mnn", "openvino"]
    assert float(lines[0]["boxes_median_ms"]) == 40.2
    assert lines[2]["boxes_median_ms"] == ""
    assert (tmp_path / "runtimes.md").read_text() == runtimes_to_markdown(measurement)
