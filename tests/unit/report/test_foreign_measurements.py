"""What strangers wrote into a record of measurements breaks no table, page, CSV file or plot."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from vovnet.profiling.measurement import Accuracy, read_measurements, write_measurements
from vovnet.report.layer_tables import LAYER_COLUMNS, layer_rows
from vovnet.report.measurement_remarks import remarks
from vovnet.report.measurement_report import to_markdown, write_measurement_report
from vovnet.report.model_tables import label_measurements, model_columns
from vovnet.report.roofline import roofs_of
from vovnet.report.table import to_csv

from .measured import measurements

NAMES = (
    "<script>alert(1)</script>",
    "=cmd()|'/c calc'!A1",
    "\x1b[31mred\x07\x00",
    "a|b\n\n# heading\n- item",
    "\u202egnp.exe",
    "x" * 4_000,
    "",
)
POWER = "\x1b\x07\x00\u202e"


def foreign(name: str) -> list[object]:
    first, *others = measurements()
    where = replace(first.conditions, device_name=name, run=name, system=name, software={name: name})
    where = replace(where, surroundings=replace(where.surroundings, doubts=(name,)))
    layers = tuple(replace(layer, path=name, kind=name) for layer in first.cost.layers)
    accuracy = Accuracy(name, name, 3, {name: 0.5})
    cost = replace(first.cost, layers=layers, note=name)
    return [replace(first, name=name, conditions=where, cost=cost, precision=name, accuracy=accuracy), *others]


@pytest.mark.parametrize("name", NAMES)
def test_texts_of_strangers_in_tables(name: str, tmp_path: Path) -> None:
    write_measurements(foreign(name), tmp_path / "r.json")  # type: ignore[arg-type]
    read = read_measurements(tmp_path / "r.json")
    rows = label_measurements(read)
    assert all(len(row.name) <= 140 and row.name.isprintable() for row in rows)
    markdown = to_markdown(read)
    assert not set(POWER) & set(markdown)
    assert "<script>" not in markdown
    assert "\n# heading" not in markdown
    cells = {
        line.replace(r"\|", "").count("|") for line in markdown.partition("\n\n###")[0].splitlines() if "|" in line
    }
    assert len(cells) == 1
    for text in (to_csv(model_columns(rows), rows), to_csv(LAYER_COLUMNS, layer_rows(rows[0]))):
        records = list(csv.reader(io.StringIO(text)))
        assert len({len(record) for record in records}) == 1
        assert not any(field.startswith(("=", "+", "@")) for record in records for field in record)
        assert not set(POWER) & set(text)
    assert not any(set(POWER) & set(remark) for remark in remarks(rows))
    assert all(len(label) < 250 and label.isprintable() for label in roofs_of(rows))


def test_a_page_of_such_names(tmp_path: Path) -> None:
    write_measurement_report([foreign(name)[0] for name in NAMES[:5]], tmp_path)  # type: ignore[misc]
    page = (tmp_path / "measurement.html").read_text()
    assert not set(POWER) & set(page)
    assert "<script>alert" not in page


def test_a_text_that_is_too_long_for_a_record(tmp_path: Path) -> None:
    write_measurements(foreign("x" * 100_000), tmp_path / "r.json")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"r\.json is not a record of .*: .*at most 5000 characters") as caught:
        read_measurements(tmp_path / "r.json")
    assert len(str(caught.value)) < len(str(tmp_path)) + 400


@pytest.mark.parametrize("data", [b"", b"[" * 100_000, b"\xff\xfe{\0", b'{"measurements": [' + b'{"a":' * 5_000])
def test_what_is_no_record(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"r\.json is not a record of `vovnet measure`") as caught:
        read_measurements(tmp_path / "r.json")
    assert len(str(caught.value)) < len(str(tmp_path)) + 400


def test_a_pipe_or_a_large_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="is a folder, not a file"):
        read_measurements(tmp_path)
    (tmp_path / "r.json").write_text("{" + " " * 1000)
    monkeypatch.setenv("VOVNET_LIMITS", "record_bytes=100")
    with pytest.raises(ValueError, match="more than 100 bytes: .* --limit record_bytes=N"):
        read_measurements(tmp_path / "r.json")
