"""Tables, sentences and the folder of a report."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from vovnet.profiling.energy import EnergyResult
from vovnet.profiling.measurement import read_measurements
from vovnet.report.measurement import (
    columns,
    full_table,
    labels,
    layer_table,
    part_table,
    remarks,
    tables,
    to_markdown,
    write_csv,
    write_measurement_report,
)
from vovnet.report.table import Column, ColumnTable, make_table, number

from .measured import bare_measurements, energy, latency, measurements

BARE = bare_measurements()
FULL = measurements()


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_raw_numbers_with_units_in_the_header(tmp_path: Path) -> None:
    write_csv(full_table(FULL), tmp_path / "all.csv")
    first = read_csv((tmp_path / "all.csv").read_text(encoding="utf-8"))[0]
    one = FULL[0]
    assert first["model"] == "vovnet27_slim"
    assert float(first["latency_median_ms"]) == one.latency.median_ms
    assert float(first["latency_median_ms_low"]) == one.latency.interval_ms[0]
    assert int(first["multiply_adds"]) == one.cost.total.multiply_adds
    assert float(first["energy_j_per_image_high"]) == pytest.approx(0.936)
    assert float(first["peak_fraction"]) == one.peak_fraction
    assert first["device"] == "Invented GPU"


def test_people_see_scaled_numbers_with_the_interval() -> None:
    time = next(table for table in tables(FULL) if table.title == "Time")
    row = dict(zip(time.header, time.rows[1], strict=True))
    low, high = FULL[1].ratio.interval
    assert row["× first"] == f"{FULL[1].ratio.median:.3f} ({low:.3f} – {high:.3f})"
    assert dict(zip(time.header, time.rows[0], strict=True))["× first"] == "1.000"
    counts = tables(FULL)[0]
    assert dict(zip(counts.header, counts.rows[0], strict=True))["params (M)"] == "3.526"


def test_columns_without_any_value_are_left_out() -> None:
    names = {column.name for column in columns(BARE)}
    assert "latency_median_ms" in names
    assert not names & {"energy_j_per_image", "memory_peak_mib", "estimated_j_per_image", "accuracy_data"}
    assert [table.title for table in tables(BARE)] == ["Counts of one pass", "Time", "Computation efficiency"]
    some = full_table([BARE[0], FULL[1]])
    place = [column.name for column in some.columns].index("energy_j_per_image")
    assert [row[place] for row in some.rows] == ["–", "1.700 (1.632 – 1.768)"]


def test_absent_energy_has_its_reason() -> None:
    without = [replace(one, energy=EnergyResult(None, reason="this CPU shows no counter")) for one in BARE]
    assert "Energy not measured: this CPU shows no counter" in remarks(without)
    mixed = remarks([FULL[0], without[1]])
    assert any("resnet18: energy not measured: this CPU shows no counter" in line for line in mixed)
    assert "Energy was not measured, as it was not asked for." in remarks(BARE)


def test_disputed_and_estimated_energy_are_told_apart_from_measured() -> None:
    one = replace(FULL[0], energy=energy(1.0, disputed=True))
    table = next(table for table in tables([one]) if table.title == "Energy")
    row = dict(zip(table.header, table.rows[0], strict=True))
    assert row["method"] == "counter, disputed by sampled"
    assert row["by the other method (J/image)"] == "1.300"
    assert row["estimated, not measured (J/image)"] == number(one.estimate.estimated_j_per_image)
    assert any("disputed" in line for line in remarks([one]))
    undisputed = next(table for table in tables(FULL) if table.title == "Energy")
    assert "by the other method (J/image)" not in undisputed.header


def test_markdown_states_the_conditions() -> None:
    text = to_markdown(FULL)
    for expected in (
        "Invented GPU",
        "2 threads",
        "float32",
        "1×3×64×64",
        "torch 2.14.0",
        "2026-01-02",
        "Doubt: another",
    ):
        assert expected in text, expected
    assert "VOC 2007 test, 4952 images" in text


def test_names_from_users_are_escaped() -> None:
    table = make_table("", [Column[str]("name", "name", lambda row: row)], ["a|b", "=1+1", "  @x", "-2", "a_b", "<b>*"])
    assert table.to_markdown().splitlines()[2:] == [
        "| a\\|b |",
        "| =1+1 |",
        "| @x |",
        "| -2 |",
        "| a_b |",
        "| \\<b\\>\\* |",
    ]
    cells = [row["name"] for row in read_csv(table.to_csv())]
    assert cells == ["a|b", "'=1+1", "'  @x", "'-2", "a_b", "<b>*"]


def test_negative_numbers_are_no_formulas() -> None:
    table: ColumnTable[float] = make_table("", [Column("x_ms", "x", lambda row: row)], [-1.5])
    assert read_csv(table.to_csv()) == [{"x_ms": "-1.5"}]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (3.14159, "3.142"),
        (1234567, "1234567"),
        (0.5, "0.5000"),
        (0.000123, "0.0001230"),
        (1.5e-7, "1.500e-07"),
    ],
)
def test_numbers_have_four_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_layers_add_up_to_the_model() -> None:
    rows = read_csv(layer_table(FULL).to_csv())
    for one in FULL:
        mine = [row for row in rows if row["model"] == one.name]
        assert sum(int(row["multiply_adds"]) for row in mine) == one.cost.total.multiply_adds
        assert sum(float(row["time_share"]) for row in mine) == pytest.approx(1)
    assert "time_ms" not in {column.name for column in layer_table(BARE).columns}


def test_models_of_one_name_are_told_apart() -> None:
    larger = replace(BARE[0], input_shape=(1, 3, 128, 128))
    assert labels([BARE[0], larger, BARE[1]]) == ["vovnet27_slim 1×3×64×64", "vovnet27_slim 1×3×128×128", "resnet18"]
    assert labels([BARE[0], BARE[0]]) == ["vovnet27_slim #1", "vovnet27_slim #2"]


def test_several_runs_are_no_fair_comparison() -> None:
    other = replace(BARE[1], conditions=replace(BARE[1].conditions, run="ffff0000"))
    assert any("several runs" in line for line in remarks([BARE[0], other]))
    assert not any("several runs" in line for line in remarks(BARE))


def test_the_folder_of_a_report(tmp_path: Path) -> None:
    write_measurement_report(FULL[:2], tmp_path)
    write_measurement_report(BARE[:1], tmp_path)  # what it has no data for does not stay
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    plots = {
        f"{stem}{suffix}"
        for stem in ("tradeoffs", "roofline", "layers/01_vovnet27_slim")
        for suffix in (".png", ".svg")
    }
    tables = {"measurement.json", "measurement.csv", "measurement.md", "measurement.html", "layers.csv"}
    assert found == plots | tables
    assert read_measurements(tmp_path / "measurement.json") == BARE[:1]


def test_nothing_measured_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one measurement"):
        write_measurement_report([], tmp_path)


def test_a_sweep_includes_the_batch_of_the_run() -> None:
    rows = part_table([replace(BARE[0], batches={4: latency(4.0), 2: latency(2.5)})]).rows
    assert [row[1] for row in rows] == ["batch size 1", "batch size 2", "batch size 4"]
    assert rows[0][2].startswith(number(BARE[0].latency.median_ms))


@pytest.mark.parametrize(("passes", "percentiles"), [(5, set()), (30, {"p90"}), (100, {"p90", "p99"})])
def test_few_passes_give_neither_percentiles_nor_intervals(passes: int, percentiles: set[str]) -> None:
    one = replace(BARE[0], latency=latency(1.4, repetitions=passes))
    assert {column.title for column in columns([one])} & {"p90", "p99"} == percentiles
    said = "\n".join(remarks([one]))
    assert ("range of all 5 passes" in said) == (passes == 5)
    assert ("In parentheses: 95 % intervals." in said) == (passes >= 6)


def test_what_follows_from_uncounted_operations_is_a_lower_bound() -> None:
    one = replace(BARE[0], cost=replace(BARE[0].cost, uncounted={"aten::_weight_int8pack_mm": 3}))
    bounded = {"multiply_adds", "flops_per_byte", "gmultiply_adds_per_s", "gflop_per_s", "peak_fraction"}
    assert {column.name for column in columns([one]) if column.text(one).startswith("≥ ")} == bounded
    assert any("≥ are lower bounds" in line for line in remarks([one]))
    assert "≥" not in full_table([one]).to_csv()
    assert "≥" not in to_markdown(BARE)
