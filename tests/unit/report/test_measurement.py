"""Tables, sentences and the folder of a report."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vovnet.profiling.cost import count_cost
from vovnet.profiling.energy.measured import EnergyResult
from vovnet.profiling.measurement import Measurement, read_measurements
from vovnet.report.document import Table, parts_to_markdown
from vovnet.report.layer_tables import LAYER_COLUMNS, group_layers, layer_rows, layer_table, with_own_layers
from vovnet.report.measurement_remarks import is_warning, remarks
from vovnet.report.measurement_report import to_markdown, write_measurement_report
from vovnet.report.model_tables import MULTIPLY_ADDS_PER_S, label_measurements, model_columns, model_tables
from vovnet.report.table import Column, describe, make_table, number, to_csv

from ..small_disk import small_disk
from .measured import bare_measurements, energy, in_two_runs, latency, measurements

BARE = bare_measurements()
FULL = measurements()
ROWS = label_measurements(FULL)


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def table_of(measurements: list[Measurement], title: str) -> Table:
    tables = model_tables(label_measurements(measurements))
    return next(table for table in tables if table.title == title)


def row_of(table: Table, index: int) -> dict[str, str]:
    return dict(zip(table.header, table.rows[index], strict=True))


def remarks_on(measurements: list[Measurement]) -> list[str]:
    return remarks(label_measurements(measurements))


def test_csv_has_raw_numbers_with_units_in_the_header() -> None:
    first = read_csv(to_csv(model_columns(ROWS), ROWS))[0]
    one = FULL[0]
    assert first["model"] == "vovnet27_slim"
    assert float(first["latency_median_ms"]) == one.latency.median_ms
    assert float(first["latency_median_ms_low"]) == one.latency.interval_ms[0]
    assert int(first["multiply_adds"]) == one.cost.total.multiply_adds
    assert float(first["energy_j_per_image_high"]) == pytest.approx(0.936)
    assert float(first["peak_fraction"]) == one.peak_fraction
    assert first["device"] == "Invented GPU"


def test_people_see_scaled_numbers_with_the_interval() -> None:
    time = table_of(FULL, "Time")
    low, high = FULL[1].ratio.interval
    assert row_of(time, 1)["× first"] == f"{FULL[1].ratio.median:.3f} ({low:.3f} – {high:.3f})"
    assert row_of(time, 0)["× first"] == "1.000"
    assert row_of(table_of(FULL, "Counts of one pass"), 0)["params (M)"] == "3.526"


def test_columns_without_any_value_are_left_out() -> None:
    bare = label_measurements(BARE)
    names = {column.name for column in model_columns(bare)}
    assert "latency_median_ms" in names
    assert not names & {"energy_j_per_image", "memory_peak_mib", "estimated_j_per_image", "accuracy_data"}
    assert [table.title for table in model_tables(bare)] == ["Counts of one pass", "Time", "Computation efficiency"]
    some = table_of([BARE[0], FULL[1]], "Energy")
    assert [row_of(some, index)["energy (J/image)"] for index in range(2)] == ["–", "1.700 (1.632 – 1.768)"]


def test_absent_energy_has_its_reason() -> None:
    without = [replace(one, energy=EnergyResult(None, reason="this CPU shows no counter")) for one in BARE]
    assert "Energy not measured: this CPU shows no counter" in remarks_on(without)
    mixed = remarks_on([FULL[0], without[1]])
    assert any("resnet18: energy not measured: this CPU shows no counter" in line for line in mixed)
    assert "Energy was not measured: it was not requested." in remarks_on(BARE)


def test_disputed_and_estimated_energy_are_told_apart_from_measured() -> None:
    one = replace(FULL[0], energy=energy(1.0, disputed=True))
    row = row_of(table_of([one], "Energy"), 0)
    assert row["method"] == "counter, disputed by sampled"
    assert row["by the other method (J/image)"] == "1.300"
    assert row["estimated, not measured (J/image)"] == number(one.estimate.estimated_j_per_image)
    assert any("disputed" in line and is_warning(line) for line in remarks_on([one]))
    assert "by the other method (J/image)" not in table_of(FULL, "Energy").header


def test_markdown_states_the_conditions() -> None:
    text = to_markdown(FULL)
    for expected in (
        "Invented GPU",
        "2 threads",
        "float32",
        "1×3×64×64",
        "torch 2.14.0",
        "2026-01-02",
        "Warning: another",
    ):
        assert expected in text, expected
    assert "VOC 2007 test, 4952 images" in text


def test_names_from_users_are_escaped() -> None:
    columns, rows = [Column[str]("name", "name", lambda row: row)], ["a|b", "=1+1", "  @x", "-2", "a_b", "<b>*"]
    assert parts_to_markdown([make_table("", columns, rows)]).splitlines()[2:] == [
        "| a\\|b |",
        "| =1+1 |",
        "| @x |",
        "| -2 |",
        "| a_b |",
        "| \\<b\\>\\* |",
    ]
    cells = [row["name"] for row in read_csv(to_csv(columns, rows))]
    assert cells == ["a|b", "'=1+1", "'  @x", "'-2", "a_b", "<b>*"]


def test_negative_numbers_are_no_formulas() -> None:
    assert read_csv(to_csv([Column[float]("x_ms", "x", lambda row: row)], [-1.5])) == [{"x_ms": "-1.5"}]


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
    rows = read_csv(to_csv(LAYER_COLUMNS, [layer for row in ROWS for layer in layer_rows(row)]))
    for one in FULL:
        mine = [row for row in rows if row["model"] == one.name]
        assert sum(int(row["multiply_adds"]) for row in mine) == one.cost.total.multiply_adds
        assert sum(float(row["time_share"]) for row in mine) == pytest.approx(1)
    assert "time (ms)" in layer_table(ROWS).header
    assert "time (ms)" not in layer_table(label_measurements(BARE)).header


def test_models_of_one_name_are_told_apart() -> None:
    def labels(*measurements: Measurement) -> list[str]:
        return [row.name for row in label_measurements(measurements)]

    larger = replace(BARE[0], input_shape=(1, 3, 128, 128))
    assert labels(BARE[0], larger, BARE[1]) == ["vovnet27_slim 1×3×64×64", "vovnet27_slim 1×3×128×128", "resnet18"]
    slower = replace(larger, ratio=BARE[1].ratio)  # it has the name of the first model, but is another
    time = table_of([BARE[0], slower], "Time")
    assert ["(" in row_of(time, index)["× first"] for index in (0, 1)] == [False, True]
    assert labels(BARE[0], BARE[0]) == ["vovnet27_slim #1", "vovnet27_slim #2"]


def test_runs_of_a_model_stand_side_by_side() -> None:
    rows = in_two_runs(BARE)
    assert [row.name for row in label_measurements(rows)][:3] == [
        "vovnet27_slim eager",
        "vovnet27_slim graph",
        "resnet18 eager",
    ]
    time = table_of(rows, "Time")
    assert [row_of(time, index)["run"] for index in range(4)] == ["eager", "graph", "eager", "graph"]
    assert row_of(time, 0)["× first run"] == "1.000"
    low, high = rows[3].run_ratio.interval if rows[3].run_ratio else (0, 0)
    assert row_of(time, 3)["× first run"] == f"{rows[3].run_ratio.median:.4f} ({low:.4f} – {high:.4f})"  # type: ignore[union-attr]
    said = remarks_on(rows)
    assert any("both run as a CUDA graph" in remark and "resnet18 graph" in remark for remark in said)
    assert any("both run eagerly" in remark and "resnet18 eager" in remark for remark in said)
    assert "× first run: latency over that of the same model run eagerly." in said
    csv_rows = read_csv(to_csv(model_columns(rows), rows))
    assert [row["run_as"] for row in csv_rows[:2]] == ["eager", "graph"]


def test_a_single_run_that_is_not_eager_is_stated() -> None:
    graph = replace(BARE[0], run="graph")
    assert row_of(table_of([graph], "Time"), 0)["run"] == "graph"
    assert any("PyTorch, float32, run as a CUDA graph, input" in remark for remark in remarks_on([graph]))
    assert "run" not in table_of(BARE, "Time").header


def test_layers_are_shown_once_for_all_runs() -> None:
    def kept(rows: list[Measurement]) -> list[str]:
        return [f"{row.name} {row.run}" for row in with_own_layers(rows)]

    rows = in_two_runs(FULL[:2])
    assert kept(rows) == ["vovnet27_slim eager", "resnet18 eager"]
    reordered = [replace(row, run_ratio_to="graph") for row in rows]
    assert kept(reordered) == ["vovnet27_slim eager", "resnet18 eager"]
    compiled = [replace(row, run_ratio_to="graph", run="compile") if row.run == "eager" else row for row in rows]
    compiled = [replace(row, run_ratio_to="graph") for row in compiled]
    assert kept(compiled) == ["vovnet27_slim graph", "resnet18 graph"]
    assert kept(FULL) == [f"{row.name} eager" for row in FULL]


def test_a_page_of_two_runs_counts_models(tmp_path: Path) -> None:
    write_measurement_report(in_two_runs(FULL[:1]), tmp_path)
    assert "<title>What vovnet27_slim costs" in (tmp_path / "measurement.html").read_text()
    assert {path.stem for path in (tmp_path / "layers").iterdir()} == {
        "01_vovnet27_slim_eager",
        "01_vovnet27_slim_eager_roofline",
    }


def test_how_cudnn_chose_is_stated() -> None:
    chose = [replace(row, conditions=replace(row.conditions, cudnn_benchmark=True)) for row in BARE]
    assert any("cuDNN chose them in the warm-up after trying each" in remark for remark in remarks_on(chose))
    assert not any("cuDNN" in remark for remark in remarks_on(BARE))


def test_several_runs_are_no_fair_comparison() -> None:
    other = replace(BARE[1], conditions=replace(BARE[1].conditions, run="ffff0000"))
    assert any("several runs" in line for line in remarks_on([BARE[0], other]))
    assert not any("several runs" in line for line in remarks_on(BARE))


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


@pytest.mark.parametrize("room", [10, 60_000])
def test_a_small_disk_cuts_no_file_of_a_report(tmp_path: Path, room: int) -> None:
    write_measurement_report(BARE[:1], tmp_path / "new")
    write_measurement_report(FULL[:2], tmp_path / "out")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    old = {path: path.read_bytes() for path in files}
    with pytest.raises(OSError, match=r"could not write .*free some disk space"), small_disk(room):
        write_measurement_report(BARE[:1], tmp_path / "out")
    for path, content in old.items():
        new = tmp_path / "new" / path.relative_to(tmp_path / "out")
        assert path.read_bytes() in (content, new.read_bytes() if new.exists() else content)
    assert not list(tmp_path.rglob("*.part*"))


def test_nothing_measured_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one measurement"):
        write_measurement_report([], tmp_path)


def test_a_sweep_includes_the_batch_of_the_run() -> None:
    swept = replace(BARE[0], batches={4: latency(4.0), 2: latency(2.5)})
    rows = table_of([swept], "Batch sizes and stages").rows
    assert [row[1] for row in rows] == ["batch size 1", "batch size 2", "batch size 4"]
    assert rows[0][2].startswith(number(BARE[0].latency.median_ms))


@pytest.mark.parametrize(("passes", "percentiles"), [(5, set()), (30, {"p90"}), (100, {"p90", "p99"})])
def test_few_passes_give_neither_percentiles_nor_intervals(passes: int, percentiles: set[str]) -> None:
    one = replace(BARE[0], latency=latency(1.4, repetitions=passes))
    assert {column.title for column in model_columns(label_measurements([one]))} & {"p90", "p99"} == percentiles
    said = "\n".join(remarks_on([one]))
    assert ("range of all 5 passes" in said) == (passes == 5)
    assert ("In parentheses: 95 % intervals." in said) == (passes >= 6)


def test_what_follows_from_uncounted_operations_is_a_lower_bound() -> None:
    one = replace(BARE[0], cost=replace(BARE[0].cost, uncounted={"aten::_weight_int8pack_mm": 3}))
    bounded = {"multiply_adds", "flops_per_byte", "gmultiply_adds_per_s", "gflop_per_s", "peak_fraction"}
    bounded.add("memory_access_cost_elements")  # the operation may be a product
    rows = label_measurements([one])
    assert {column.name for column in model_columns(rows) if column.text(rows[0]).startswith("≥ ")} == bounded
    assert "memory_access_ratio" not in {column.name for column in model_columns(rows)}  # of two lower bounds
    assert read_csv(to_csv(model_columns(rows), rows))[0]["uncounted"] == "aten::_weight_int8pack_mm (3×)"
    assert one.cost.to_dict()["total"]["uncounted_calls"] == 3
    assert any("≥ are lower bounds" in line for line in remarks(rows))
    assert "≥" not in to_csv(model_columns(rows), rows)
    assert "≥" not in to_markdown(BARE)


BOUNDED_LAYER_COLUMNS = {"multiply_adds", "memory_access_cost_elements", "flops_per_byte", "gflop_per_s"}


class Unknown(nn.Module):
    """A convolution, then an operation that only this test knows, in a module of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.inverse, self.again = nn.Conv2d(3, 4, 1), Inverse(), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.inverse(self.conv(x)))


class Inverse(nn.Linear):
    """A product beside the operation."""

    def __init__(self) -> None:
        super().__init__(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.linalg.inv(self.weight)


def measured_unknown(**changes: object) -> Measurement:
    cost = count_cost(Unknown(), (1, 3, 8, 8))
    seconds = tuple(1e-3 for _ in cost.layers)
    return replace(FULL[0], name="unknown", cost=replace(cost, **changes), layer_seconds=seconds)


def test_a_layer_with_uncounted_operations_is_a_lower_bound_and_the_others_are_not() -> None:
    rows = label_measurements([measured_unknown()])
    layers = {layer.cost.path: layer for layer in layer_rows(rows[0])}
    for path, bounded in {"conv": set(), "inverse": BOUNDED_LAYER_COLUMNS, "again": set()}.items():
        texts = {column.name: column.text(layers[path]) for column in LAYER_COLUMNS}
        assert {name for name, text in texts.items() if text.startswith("≥ ")} == bounded
        assert (texts["memory_access_ratio"] == "–") == bool(bounded)
    assert "≥" in "".join(map("".join, layer_table(rows).rows))
    (first, *_) = group_layers(rows[0], at_most=1)
    assert first.lower_bound
    fields = read_csv(to_csv(LAYER_COLUMNS, list(layers.values())))
    assert [field["uncounted_calls"] for field in fields] == ["", "1", ""]


def test_records_that_do_not_say_which_layers_are_uncounted_make_lower_bounds_of_all() -> None:
    one = measured_unknown()
    layers = tuple(replace(layer, uncounted_calls=0) for layer in one.cost.layers)
    assert all(layer.lower_bound for layer in layer_rows(replace(one, cost=replace(one.cost, layers=layers))))
    assert one.cost.total.uncounted_calls == replace(one.cost, layers=layers).total.uncounted_calls == 1
    assert not any(layer.lower_bound for layer in layer_rows(FULL[0]))


def test_where_sizes_are_not_known_either_nothing_is_compared() -> None:
    one = measured_unknown()
    layers = tuple(replace(layer, unsized_calls=layer.uncounted_calls) for layer in one.cost.layers)
    rows = label_measurements([replace(one, cost=replace(one.cost, layers=layers))])
    texts = {column.name: column.text(rows[0]) for column in model_columns(rows)}
    assert "flops_per_byte" not in texts
    assert all(texts[name].startswith("≥ ") for name in ("other_elements", "bandwidth_fraction", "gflop_per_s"))


def test_an_estimate_from_a_lower_bound_says_so() -> None:
    rows = label_measurements([measured_unknown()])
    assert row_of(table_of(rows, "Energy"), 0)["estimated, not measured (J/image)"].startswith("≥ ")
    assert any("estimated" in line.lower() and "a lower bound" in line for line in remarks(rows))
    assert not any("a lower bound" in line for line in remarks(ROWS))


def test_a_report_of_an_uncounted_operation_marks_it_everywhere(tmp_path: Path) -> None:
    write_measurement_report([measured_unknown(), FULL[1]], tmp_path)
    page = (tmp_path / "measurement.html").read_text()
    assert "aten::linalg_inv_ex (1×)" in page
    assert "unknown (≥)" in (tmp_path / "roofline.svg").read_text()
    assert "resnet18 (≥)" not in (tmp_path / "roofline.svg").read_text()
    assert "≥" in (tmp_path / "layers" / "01_unknown.svg").read_text()
    assert "inverse (≥)" in (tmp_path / "layers" / "01_unknown_roofline.svg").read_text()
    assert "without counted multiply-adds" in (tmp_path / "layers" / "01_unknown_roofline.svg").read_text()
    assert "≥" not in (tmp_path / "layers" / "02_resnet18.svg").read_text()


def test_intervals_of_rates_are_for_plots_only() -> None:
    row = ROWS[0]
    fast_ms, slow_ms = row.latency.interval_ms
    work = row.cost.total.multiply_adds / 1e6
    assert MULTIPLY_ADDS_PER_S.scaled_interval(row) == pytest.approx((work / slow_ms, work / fast_ms))
    assert "(" not in MULTIPLY_ADDS_PER_S.text(row)
    assert "gmultiply_adds_per_s_low" not in read_csv(to_csv([MULTIPLY_ADDS_PER_S], [row]))[0]


def test_a_description_has_a_line_for_each_value() -> None:
    columns = [
        Column[float]("name", "name", lambda row: "a model"),
        Column[float]("time_ms", "time", lambda row: row, "ms"),
        Column[float]("energy_j", "energy", lambda row: None, "J"),
    ]
    assert describe(columns, 2.0) == "a model\ntime (ms): 2.000"
