"""What the paper's pages take from made-up records of a GPU."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from vovnet.paper.aggregation.figure2 import figure_2_section
from vovnet.paper.claims import claims_section
from vovnet.paper.figures import measured_values
from vovnet.paper.gpu_records import read_stage
from vovnet.paper.gpu_tables import gpu_answer, gpu_speed_ratio, gpu_table, read_gpu_tables
from vovnet.paper.published import FIGURES
from vovnet.paper.sources import Sources
from vovnet.paper.tables import table_section
from vovnet.report.document import to_markdown

from .gpu_run import CARD, D67, TABLES, V27, joules, kernels, times, write_stage
from .reproduced import TABLE_2, write_record


@pytest.fixture
def records(tmp_path: Path) -> Path:
    write_stage(tmp_path, "tables", TABLES)
    return tmp_path


def test_answers_show_eager_and_graph_beside_each_other(records: Path) -> None:
    gpu = read_gpu_tables(records)
    fps = gpu_answer(gpu, V27, "fps")
    assert (fps.kind, fps.text, fps.value) == ("measured", "250 eager, 1000 graph", 250.0)
    assert CARD in fps.note
    assert "gpu/tables.json" in fps.note
    assert gpu_answer(gpu, V27, "time").text == "4.00 eager, 1.00 graph"
    assert gpu_answer(gpu, V27, "energy").text == "1.00 eager, 0.500 graph"
    assert gpu_answer(gpu, D67, "energy").text == "3.00 eager"  # its graph failed
    assert gpu_answer(gpu, V27, "efficiency").value == pytest.approx(5.663451392 * 250)
    assert gpu_answer(gpu, V27, "memory").text == "123"


def test_what_a_stopped_run_lacks_needs_another_run_and_what_was_never_timed_is_left_to_other_records(
    records: Path,
) -> None:
    gpu = read_gpu_tables(records)
    for column in ("energy", "memory", "efficiency"):
        answer = gpu_answer(gpu, "pelee304", column)
        assert answer.kind == "needs"
        assert "make gpu" in answer.note
    assert gpu_answer(gpu, "refinedet320_vovnet39", "fps") is None
    assert gpu_answer(None, V27, "fps") is None


def test_ratios_are_those_of_passes_of_one_run(records: Path) -> None:
    gpu = read_gpu_tables(records)
    ratio = gpu_speed_ratio(gpu, D67, V27)
    assert ratio.text == "0.50 (0.50 – 0.50)"
    assert gpu.time_ratio(D67, V27, ("float32", 1, "graph")).median == pytest.approx(2.5)
    assert gpu.time_ratio("pelee304", V27, ("float32", 1, "graph")) is None
    joule_ratio, (low, high) = gpu.joule_ratio(D67, V27, ("float32", 1, "eager"))
    assert joule_ratio == 3.0
    assert low <= 3.0 <= high
    assert gpu.joule_ratio(D67, V27, ("float32", 1, "graph")) is None


def test_models_of_different_runs_have_no_ratio(tmp_path: Path) -> None:
    apart = {"time a float32 batch one eager": times({V27: 4.0}), "time b float32 batch one eager": times({D67: 8.0})}
    write_stage(tmp_path, "tables", apart)
    assert read_gpu_tables(tmp_path).time_ratio(D67, V27, ("float32", 1, "eager")) is None


SINGLE = ("float32", 1, "eager")


@pytest.mark.parametrize(("change", "compared"), [({"run": "bb"}, True), ({"run": "cc"}, False), ({"key": "l"}, False)])
def test_joules_are_compared_on_the_same_card_and_with_the_same_code(
    change: dict[str, str], compared: bool, tmp_path: Path
) -> None:
    write_stage(tmp_path, "tables", {"energy a": joules(V27, 1.0), "energy b": {**joules(D67, 3.0), **change}})
    gpu = read_gpu_tables(tmp_path)
    assert (gpu.joule_ratio(D67, V27, SINGLE) is not None) is compared


def test_interval_of_joules_is_that_of_trials_which_are_no_pairs(tmp_path: Path) -> None:
    """In both the trials drift alike; as pairs their ratio would be 3 exactly."""
    write_stage(tmp_path, "tables", {"energy a": joules(V27, 1.0), "energy b": joules(D67, 3.0)})
    ratio, (low, high) = read_gpu_tables(tmp_path).joule_ratio(D67, V27, SINGLE)
    deviation = math.log(1.01 / 0.99) / 2
    half = 2.7764 * deviation * math.sqrt(2 / 3)  # Student's t at 4 degrees of freedom
    assert ratio == 3.0
    assert high / low == pytest.approx(math.exp(2 * half), rel=1e-3)


def test_kernels_of_other_code_are_not_compared_with_a_pass(records: Path) -> None:
    others = {name: result for name, result in TABLES.items() if not name.startswith("kernels")}
    write_stage(records, "tables", {**others, "kernels x": {**kernels(V27, 0.8), "key": "l"}})
    assert not any("by themselves" in note for note in gpu_table("table2", read_gpu_tables(records)).notes)


def test_table_names_its_runs_and_the_models_that_could_not_be_run(records: Path) -> None:
    graph = times({D67: 2.5, "pelee304": 2.0}, run="graph") | {"run": "bb", "left_out": {V27: "ValueError: no `graph`"}}
    name = "time lightweight float32 batch one graph"
    write_stage(records, "tables", {**TABLES, name: graph})
    table = gpu_table("table2", read_gpu_tables(records))
    assert "measured in runs aa, bb of gpu/tables.json; ratios only between values of the same card and code" in (
        table.notes
    )
    assert (
        "DSOD300, VoVNet-27-slim, float32, batch 1, CUDA graph: could not be run (ValueError: no 'graph')"
    ) in table.notes
    assert [row[4] for row in table.rows if row[1] == "float32, batch 1, CUDA graph"] == ["", ""]  # not the VoVNet's


def test_table_of_all_ways(records: Path) -> None:
    table = gpu_table("table2", read_gpu_tables(records))
    lines = {(row[0], row[1]): row for row in table.rows}
    paper = lines["DSOD300, DenseNet-67", "paper"]
    assert (paper[2], paper[5], paper[8]) == ("35", "3.7", "1294")
    ours = table.rows[table.rows.index(paper) + 1 : table.rows.index(paper) + 4]
    assert [row[1] for row in ours] == [
        "float32, batch 1, eager",
        "float32, batch 1, CUDA graph",
        "float32, batch 64, eager",
    ]
    assert [row[4].partition(" ")[0] for row in ours] == ["2.00", "2.50", "1.80"]
    assert [row[5] for row in ours] == ["3", "needs `make gpu`", "needs `make gpu`"]
    assert ours[0][6].startswith("3.00 (")
    assert ours[2][2] == "1778"  # 64 images in 36 ms
    assert any(CARD in note for note in table.notes)
    assert any("differ by at most 2.0%" in note for note in table.notes)
    assert table.notes[-1] == (
        "DSOD300, VoVNet-27-slim: the kernels of a pass take 0.800 ms by themselves, a pass as a graph 1.25 × that"
    )
    assert gpu_table("table4", read_gpu_tables(records)) is None


def test_a_gpu_takes_the_place_of_a_cpu_record_in_the_table_but_not_of_a_new_measurement(records: Path) -> None:
    write_record(records, "table2", TABLE_2, device="cpu")
    page = to_markdown(table_section("table2", Sources(records)), "")
    assert "250 eager, 1000 graph measured" in page
    assert "On a GPU (measured)" in page
    anew = Sources(records, output=records, measured=("table2",))
    assert "eager" not in to_markdown(table_section("table2", anew), "")


def test_figures_and_claims(records: Path) -> None:
    values = measured_values(FIGURES["figure3"], Sources(records))
    assert values.values["fps"]["DSOD300, VoVNet-27-slim"] == 250.0
    assert values.values["energy"]["DSOD300, DenseNet-67"] == 3.0
    assert any(CARD in note for note in values.notes)
    rows = claims_section(Sources(records)).parts[1].rows
    (speed,) = [row for row in rows if "as fast as DSOD300, DenseNet-67" in row[0]]
    assert speed[4] == (
        "2.00 (2.00 – 2.00) float32, batch 1, eager; 2.50 (2.50 – 2.50) float32, batch 1, CUDA graph; "
        f"1.80 (1.80 – 1.80) float32, batch 64, eager, on {CARD} (gpu/tables.json)"
    )
    (energy,) = [row for row in rows if "reduction in energy vs DSOD300, DenseNet-67" in row[0]]
    assert energy[4].startswith("3.00 (")
    assert "graph" not in energy[4]


def test_without_a_record_the_page_says_what_it_needs(tmp_path: Path) -> None:
    assert read_gpu_tables(None) is None
    assert read_gpu_tables(tmp_path) is None
    page = to_markdown(table_section("table2", Sources(tmp_path)), "")
    assert "On a GPU (measured)" not in page
    assert "on a GPU with a power sensor" in page


def test_a_rehearsal_and_foreign_files_are_refused(tmp_path: Path) -> None:
    write_stage(tmp_path, "tables", TABLES, rehearsal=True)
    with pytest.raises(ValueError, match="of a rehearsal, whose values mean nothing"):
        read_gpu_tables(tmp_path)
    write_stage(tmp_path, "tables", {"time x": {**TABLES["time lightweight float32 batch one eager"], "batch": 0}})
    with pytest.raises(ValueError, match=r"gpu/tables.json has a faulty result time x: batch: must be at least 1"):
        read_gpu_tables(tmp_path)
    (tmp_path / "gpu/tables.json").write_text("[]")
    with pytest.raises(ValueError, match="is not a record of the stage tables of `make gpu`"):
        read_stage(tmp_path, "tables")


def test_figure_2_takes_the_networks_that_were_trained_on_a_gpu(tmp_path: Path) -> None:
    runs = json.loads(Path("docs/records/cifar10_aggregation.json").read_text())["runs"]
    (densenet,) = [run for run in runs if run["network"] == "densenet40"][:1]
    on_gpu = {**densenet, "device": CARD, "run": "aa", "key": "k"}
    write_stage(tmp_path, "study", {"trial densenet40": {"images_per_s": 9.0, "run": "aa"}, "densenet40": on_gpu})
    section = figure_2_section(tmp_path)
    assert CARD in section.parts[0]
    assert "Not trained on a GPU yet: OSA (12/20), OSA (5/43), ResNet-56" in section.parts[0]
    write_stage(tmp_path, "study", {"densenet40": {**on_gpu, "test_accuracy": 2.0}})
    with pytest.raises(ValueError, match=r"study.json is not a record of the aggregation study: runs.0.test_accuracy"):
        figure_2_section(tmp_path)
