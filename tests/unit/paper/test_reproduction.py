"""Cells of the reproduced tables: what is recomputed, derived, measured and needed, and that a difference shows."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from decimal import Decimal
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
import torch

from vovnet.errors import UsageError
from vovnet.paper import accuracy, figures, measured_tables, published, structure, tables
from vovnet.paper.accuracy import Accuracies
from vovnet.paper.blood_cells import bottleneck_table, equal_budget_table, read_studies
from vovnet.paper.claims import claims, recompute
from vovnet.paper.measured_tables import measured_answer, measured_speed, read_record
from vovnet.paper.memory_access import bound, equation_1, memory_access
from vovnet.paper.names import SUBJECTS, choose
from vovnet.paper.page import write_page
from vovnet.paper.published import CIFAR, CLAIMS, TABLE_2, TABLE_3, TABLE_4, TABLES
from vovnet.paper.rounding import how_equal, whole_ms
from vovnet.paper.structure import check_flops, check_parameters, counts
from vovnet.provenance import device_name
from vovnet.report.document import Figure, Section, Table, to_dict, to_markdown
from vovnet.weights.checkpoint import ModelInfo, save_weights

from .reproduced import TABLE_2 as TIMES
from .reproduced import models_of, write_record, write_study

VOC_NAMES = ("Platelets", "RBC", "WBC")


def data_of(section, column, title=""):
    """Row → the cell of a column in a compared table, as programs get it."""
    table = next(part for part in section.parts if isinstance(part, Table) and part.title == title)
    return {cell["row"]: cell for cell in table.data if cell["column"].startswith(column)}


def kinds(cells):
    return {row: [answer["kind"] for answer in cell["answers"]] for row, cell in cells.items()}


@pytest.mark.parametrize(
    ("value", "text", "way"),
    [
        ("5.971932", "5.9", "cut"),
        ("5.833372", "5.9", None),
        ("63.459460", "63.46", "rounded"),
        ("1.204969", "1.2", ""),
        ("32.6555", "32.6", "cut"),
        ("42.536", "42", "cut"),
        ("2.5", "3", "rounded"),
        ("6.0", "5.9", None),
    ],
)
def test_printed_digits(value, text, way):
    assert how_equal(Decimal(value), text) == way


@pytest.mark.parametrize(
    ("fps", "ms"), [("37", 27), ("35", 28), ("71", 14), ("23.2", 43), ("12.0", 83), ("25.0", 40), ("12.7", 79)]
)
def test_whole_milliseconds_behind_fps(fps, ms):
    assert whole_ms(fps)[0] == ms


def test_fps_of_no_whole_milliseconds(monkeypatch):
    assert whole_ms("30.9") is None  # 1000 / 33 is 30.3, 1000 / 32 is 31.25
    rows = tuple(replace(row, figures={**row.figures, "fps": "30.9"}) for row in TABLE_2.rows)
    monkeypatch.setitem(TABLES, "table2", replace(TABLE_2, rows=rows))
    section = tables.table_section("table2", None, Accuracies(), {})
    for column in ("FPS", "efficiency"):
        assert set(map(tuple, kinds(data_of(section, column)).values())) == {("differs", "needs")}


def test_counts_of_table_2_and_4():
    """All are what is printed, but the parameters of DenseNet-67, which are so only with its running statistics."""
    for table in (TABLE_2, TABLE_4):
        for row in table.rows:
            assert check_flops(row.model, row.figures["flops"], norms_too=table is TABLE_4).kind == "exact", row.name
            answer = check_parameters(row.model, row.figures["parameters"])
            assert answer.kind == "exact", row.name
            assert (answer.remark == "with running statistics") == (row.model == "dsod300_densenet67")
    dense = check_parameters("dsod300_densenet67", "5.9")
    assert (dense.text, dense.note[:6], dense.note[-7:]) == ("5.872", "38,908", "5.833 M")
    assert (counts("dsod300_vovnet27_slim").parameters, counts("refinedet320_vovnet39").parameters) == (
        5_971_932,
        56_283_844,
    )


def test_flops_of_table_4_need_the_norms():
    assert check_flops("refinedet320_resnet50", "25.43", norms_too=False).kind == "differs"
    assert counts("refinedet320_resnet50").multiply_adds == 25_399_219_200


@pytest.mark.parametrize("printed", ["5.5", "5.8", "56.6"])
def test_another_figure_differs(printed):
    answer = check_flops("dsod300_vovnet27_slim", printed, norms_too=False)
    assert (answer.kind, answer.text[:4]) == ("differs", "5.66")
    wrong = check_parameters("dsod300_vovnet27_slim", "6.1")
    assert (wrong.kind, wrong.note) == ("differs", "")


def test_table_1_and_a_backbone_that_is_not_its(monkeypatch):
    cells = data_of(tables.table_1(), "VoVNet-39")
    assert set(map(tuple, kinds(cells).values())) == {("exact",)}
    assert cells["stage 4"]["published"] == "2 × OSA(5 × 3×3 of 192 → 768)"
    changed = ("3×3, 32, stride 2", *published.TABLE_1["vovnet39"][1:])
    monkeypatch.setitem(published.TABLE_1, "vovnet39", changed)
    assert kinds(data_of(tables.table_1(), "VoVNet-39"))["stem 1, 3×3"] == ["differs"]


def test_totals_of_table_1():
    table = tables.table_1().parts[-1]
    assert table.rows[1][-3:] == ["21,575,296", "22,600,296", "7,765,860,352"]
    assert table.rows[0][1:3] == ["112,832", "279,424"]


@pytest.mark.parametrize("row", [*TABLE_2.rows, *TABLE_4.rows], ids=lambda row: row.model)
def test_efficiency_is_flops_over_whole_milliseconds(row):
    norms = row in TABLE_4.rows
    ms = whole_ms(row.figures["fps"])[0]
    assert tables.efficiency(row, ms, norms).kind == "derived"
    wrong = replace(row, figures={**row.figures, "efficiency": "999"})
    assert tables.efficiency(wrong, ms, norms).kind == "differs"


def test_without_records_all_that_must_be_run_is_needed():
    section = tables.table_section("table4", None, Accuracies(), {})
    (cell,) = [cell for row, cell in data_of(section, "AP").items() if row == "VoVNet-39"]
    assert cell["answers"][0]["kind"] == "needs"
    section = tables.table_section("table2", None, Accuracies(), {})
    for column in ("FPS", "memory", "energy", "efficiency", "mAP"):
        for cell in data_of(section, column).values():
            last = cell["answers"][-1]
            assert (last["kind"], last["text"], last["value"]) == ("needs", "", None)
            assert last["note"].startswith(("`vovnet reproduce table2 --measure`", "`vovnet train configs/"))
    assert [cell["answers"][0]["text"] for cell in data_of(section, "implied power").values()] == [
        "85",
        "84",
        "130",
        "64",
    ]


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
    speed = measured_speed(record, "table2", "ssd300_mobilenet", "dsod300_vovnet27_slim")
    assert speed.value == pytest.approx(0.5)
    assert measured_answer(record, "table2", "vovnet39", "fps").kind == "needs"


def test_on_a_cpu_the_note_says_what_can_be_compared(tmp_path):
    write_record(tmp_path, "table2", TIMES, device="cpu", sensor=False)
    record = read_record("table2", tmp_path)
    assert "not comparable with a TITAN X" in measured_answer(record, "table2", "pelee304", "fps").note
    energy = measured_answer(record, "table2", "pelee304", "energy")
    assert (energy.kind, energy.value) == ("needs", None)
    assert "no sensor was invented" in energy.note


def test_measuring_asks_for_the_papers_protocol(tmp_path, monkeypatch):
    asked = {}

    def measure_models(modules, shapes, **options):
        asked.update(options, shapes=shapes, classes={name: module.num_classes for name, module in modules.items()})
        write_record(tmp_path, "invented", {name: (10.0, 1.0) for name in modules})
        return list(read_record("invented", tmp_path).measurements.values())

    monkeypatch.setattr(measured_tables, "measure_models", measure_models)
    monkeypatch.setattr(measured_tables, "find_sensor", lambda device: SimpleNamespace(sources={"paper": None}))
    small = {"refinedet320_vovnet27_slim": "table4", "pelee304": "table2"}
    for model, table in small.items():
        row = replace(TABLES[table].rows[0], model=model)
        monkeypatch.setitem(TABLES, table, replace(TABLES[table], rows=(row,)))
        measured_tables.measure_table(table, tmp_path / f"{table}.json", device="cpu")
        assert (asked["repetitions"], asked["energy"]) == (200, "paper")
        content = json.loads((tmp_path / f"{table}.json").read_text())
        assert {"command", "commit", "date", "measurements"} == content.keys()
        assert read_record(table, tmp_path).measurements.keys() == {model}
    assert asked["shapes"] == {"pelee304": (1, 3, 304, 304)}
    assert structure.classes_of("refinedet320_vovnet27_slim") == 80
    assert structure.classes_of("pelee304") == 20


@pytest.fixture
def voc(small_voc):
    lists = small_voc / "ImageSets" / "Main"
    shutil.copy(lists / "val.txt", lists / "test.txt")
    return small_voc


def make_run(runs, config, model):
    torch.manual_seed(0)
    info = ModelInfo("pelee304", {}, VOC_NAMES, (1, 2, 3))
    path = runs / config / "best.safetensors"
    path.parent.mkdir(parents=True)
    save_weights(path, info.build().state_dict(), replace(info, name=model), {"step": 7})
    path.with_name("record.json").write_text("{}")


def test_accuracy_of_a_finished_run(voc, tmp_path):
    make_run(tmp_path / "runs", "voc_pelee304", "pelee304")
    known = Accuracies(tmp_path / "out", tmp_path / "runs", {"voc": voc}, device="cpu")
    row = TABLE_2.row("Pelee304, PeleeNet")
    answer = known.answer("table2", row, "map")
    record = json.loads((tmp_path / "out" / "evaluations" / "voc_pelee304.json").read_text())
    assert answer.kind == "measured"
    assert answer.value == pytest.approx(100 * record["voc07_map"])
    assert "3 images" in answer.note
    assert (record["device"], record["run"]["step"], record["split"]) == (device_name(torch.device("cpu")), 7, "test")
    make_run(tmp_path / "runs", "voc_ssd300_mobilenet", "ssd300_mobilenet")
    (tmp_path / "runs/voc_ssd300_mobilenet/record.json").unlink()  # as of a run that was interrupted
    other = known.answer("table2", TABLE_2.rows[0], "map")
    assert other.kind == "needs"
    assert "configs/voc_ssd300_mobilenet.yaml" in other.note
    # Later, from the record alone.
    later = Accuracies(records=tmp_path / "out").answer("table2", row, "map")
    assert (later.kind, later.value) == ("measured", answer.value)


def test_a_run_of_another_model_is_refused(voc, tmp_path):
    make_run(tmp_path / "runs", "voc_ssd300_mobilenet", "pelee304")
    known = Accuracies(tmp_path / "out", tmp_path / "runs", {"voc": voc}, device="cpu")
    with pytest.raises(UsageError, match="must hold a ssd300_mobilenet, as its name says, got pelee304"):
        known.answer("table2", TABLE_2.rows[0], "map")


@pytest.mark.parametrize(
    ("table", "row", "soft_nms", "scales"),
    [
        ("table4", "VoVNet-39", True, None),
        ("table5", "VoVNet-39-GN", False, None),
        ("table6", "RefineDet512, VoVNet-39, multi-scale", False, 9),
    ],
)
def test_how_coco_is_tested(table, row, soft_nms, scales, tmp_path, monkeypatch):
    row = TABLES[table].row(row)
    path = tmp_path / "runs" / row.config / "best.safetensors"
    path.parent.mkdir(parents=True)
    path.touch()
    path.with_name("record.json").touch()
    asked = {}

    def evaluate(model, dataset, **options):
        asked.update(options)
        figures = {"AP": 0.335, "AP50": 0.5, "AP75": 0.4, "APs": None, "APm": 0.1, "APl": 0.2}
        content = {"coco": figures, "coco_masks": None, "data": "coco", "split": "val2017", "images": 2}
        return SimpleNamespace(to_dict=lambda: {**content, "soft_nms": options["soft_nms"]})

    def load_weights(source):
        info = SimpleNamespace(name=row.model, class_names=VOC_NAMES)
        return SimpleNamespace(model=structure.build(row.model), info=info, record={})

    def open_dataset(root, split, **options):
        asked.update(options, split=split)
        return [1, 2]

    monkeypatch.setattr(accuracy, "evaluate", evaluate)
    monkeypatch.setattr(accuracy, "load_weights", load_weights)
    monkeypatch.setattr(accuracy, "open_dataset", open_dataset)
    monkeypatch.setattr(accuracy, "splits", lambda root: ("train2017", "val2017"))
    known = Accuracies(None, tmp_path / "runs", {"coco": tmp_path})
    assert known.answer(table, row, "ap").text == "33.5"
    assert (asked["soft_nms"], asked["split"], asked["masks"]) == (soft_nms, "val2017", table == "table5")
    assert (asked["multi_scale"] and len(asked["multi_scale"].scales)) == scales
    assert known.answer(table, row, "ap_small").kind == "needs"  # a figure without objects is none


def test_claims_by_hand():
    verdicts = {(claim.figure, claim.says.partition(",")[0]): recompute(claim) for claim in CLAIMS}
    assert verdicts["3.3", "AP of VoVNet-39 over ResNet-50"] == ("33.5 − 30.3 = 3.2", "differs")
    assert verdicts["4.1", "× less energy than DSOD300"] == ("3.7 / 0.9 = 4.11", "holds")
    assert verdicts["0.9", "box AP over ResNet-101-GN"][0].startswith("41.7 − 41.0 = 0.7; 41.9 − 41.0 = 0.9 ")
    assert verdicts["3.69", "mAP lost by the 1×1 bottleneck"][1] == "holds"
    differ = {figure for (figure, _), (_, verdict) in verdicts.items() if verdict == "differs"}
    assert differ == {"10", "3.3", "1.9", "0.9"}  # of the two claims of 10 ×, that over PeleeNet


def test_a_wrong_claim_differs():
    claim = next(claim for claim in CLAIMS if claim.figure == "6.87")
    assert recompute(claim)[1] == "holds"
    assert recompute(replace(claim, figure="6.88"))[1] == "differs"


def test_claims_beside_what_was_measured(tmp_path):
    write_record(tmp_path, "table2", TIMES)
    table = claims(lambda table: read_record(table, tmp_path)).parts[1]
    assert table.rows[0][-1].startswith("4.00 on Invented GPU")
    assert table.rows[1][-1] == ""  # Table 4 was not measured


def test_memory_access_cost():
    assert (equation_1(32, 3, 43, 43), round(bound(32, 3, 43, 43))) == (104_705, 104_705)
    assert (equation_1(32, 3, 148, 12), round(bound(32, 3, 148, 12))) == (179_824, 102_292)
    _, layers, networks, *_ = memory_access().parts
    assert [row[-1] for row in layers.rows] == ["1.000", "1.758"]
    readings = {row[0]: row[1:] for row in networks.rows}
    assert readings["blocks and transitions"][:2] == ["3,659,616 exact (rounded)", "2,567,321 exact (cut)"]
    assert readings["3×3 layers of the three blocks"][:2] == ["3,058,272", "1,092,075"]

    def dense(side, c_in):
        return sum(equation_1(side, 3, c_in + 12 * layer, 12) for layer in range(12))

    def osa(side, c_in):
        return equation_1(side, 3, c_in, 43) + 4 * equation_1(side, 3, 43, 43)

    assert readings["3×3 layers of block 2"][:2] == [f"{dense(16, 160):,}", f"{osa(16, 231):,}"]
    assert readings["blocks and two transitions"][1] == "2,045,792"


def test_memory_access_that_is_not_the_printed_one_differs(monkeypatch):
    rows = (replace(CIFAR.rows[0], figures={"memory_access_cost": "9.9"}), *CIFAR.rows[1:])
    monkeypatch.setattr("vovnet.paper.memory_access.CIFAR", replace(CIFAR, rows=rows))
    networks = memory_access().parts[2]
    assert next(row for row in networks.rows if row[0] == "whole network")[1] == "3,684,442 differs"


def test_blood_cells(tmp_path):
    write_study(tmp_path, "dsod300_vovnet27_slim", [0.80, 0.84, 0.82])
    write_study(tmp_path, "dsod300_vovnet27_slim_bottleneck", [0.79, 0.81, 0.83])
    write_study(tmp_path, "pelee304", [0.7])
    studies = read_studies(tmp_path)
    table = bottleneck_table(studies)
    assert [row[1] for row in table.rows] == ["82.00", "81.00", "−1.00"]
    assert table.rows[2][2] == "−1.00; −3.00; +1.00"
    assert any("−3.00 … +1.00 over 3 seeds, standard deviation 2.00" in note for note in table.notes)
    assert any("24 epochs" in note for note in table.notes)
    write_record(tmp_path, "table2", TIMES)
    rows = {row[0]: row[1:] for row in equal_budget_table(studies, read_record("table2", tmp_path)).rows}
    assert rows["Pelee304, PeleeNet"][:4] == ["70.0"] * 4
    assert rows["DSOD300, VoVNet-27-slim"][3:7] == ["82.0", "5,000,000", "6,000,000,000", "27.00"]
    assert rows["DSOD300, VoVNet-27-slim"][8] == "500"
    assert rows["SSD300, MobileNet"][0] == "needs"


def test_a_study_without_its_pair_gives_no_difference(tmp_path):
    write_study(tmp_path, "dsod300_vovnet27_slim", [0.8, 0.9])
    table = bottleneck_table(read_studies(tmp_path))
    assert [row[1] for row in table.rows] == ["85.00", "needs"]
    assert "bccd_study.py" in table.notes[-1]


def test_points_of_the_plots(tmp_path):
    write_record(tmp_path, "table2", TIMES)
    write_study(tmp_path, "pelee304", [0.7])
    ours = figures._measured("figure3", read_record("table2", tmp_path), Accuracies(), read_studies(tmp_path))
    assert ours.values["map"] == {"Pelee304, PeleeNet": pytest.approx(70)}
    assert ours.accuracy == "mAP on blood cells"
    panel = figures.PANELS["figure3"][2]
    (point,) = figures._points(TABLE_2.rows, ours.values, panel)
    assert (point.label, point.x, point.y) == ("PeleeNet", pytest.approx(2.5), pytest.approx(70))


def test_without_accuracy_efficiency_against_speed_is_shown(tmp_path):
    write_record(tmp_path, "table4", {model: (50.0, 5.0) for model in models_of("table4")}, sensor=False)
    ours = figures._measured("figure4", read_record("table4", tmp_path), Accuracies(), {})
    first, *others = figures._lower_panels(figures.PANELS["figure4"], ours)
    assert (first.x.key, first.y.key) == ("fps", "efficiency")
    assert len(figures._points(TABLE_4.rows, ours.values, first)) == 6
    assert not any(figures._points(TABLE_4.rows, ours.values, panel) for panel in others)


def test_the_plots_are_drawn(tmp_path):
    write_record(tmp_path, "table4", {model: (50.0 + 9 * i, 5.0) for i, model in enumerate(models_of("table4"))})
    section = figures.scatter_section("figure4", read_record("table4", tmp_path), Accuracies(), {})
    (figure,) = section.figures
    assert figure.make().startswith(b"\x89PNG")
    alone = figures.scatter_section("figure4", None, Accuracies(), {})
    assert "too little was measured here" in alone.figures[0].caption


def test_figure_5_is_shown_where_it_was_drawn(tmp_path):
    assert not figures.figure_5(tmp_path).figures
    assert "needs `vovnet compare" in figures.figure_5(tmp_path).parts[-1]
    (tmp_path / "figure5.jpg").write_bytes(b"picture")
    assert figures.figure_5(tmp_path).figures[0].make() == b"picture"


def test_names():
    assert choose(["claims", "table2", "claims"]) == ["table2", "claims"]
    assert choose(["all"]) == list(SUBJECTS)
    with pytest.raises(UsageError, match=r"nothing to reproduce is called 'tabel2', did you mean 'table2'\?"):
        choose(["tabel2"])


HOSTILE = "<script>alert(1)</script> | *x*"
SECTION = Section(
    "A & B",
    (f"Said `a|b <x>` of {HOSTILE}", Table(["one", "two"], [[HOSTILE, "`c` differs"]], "T", ["see `d`"]),
     Figure("p.png", "a [picture]", lambda: b"bytes")),
)  # fmt: skip


def test_section_as_markdown():
    text = to_markdown(SECTION, "there/")
    assert "Said `a|b <x>` of \\<script\\>alert(1)\\</script\\> \\| \\*x\\*" in text
    assert "| \\<script\\>alert(1)\\</script\\> \\| \\*x\\* | `c` differs |\n\n- see `d`" in text
    assert "![a \\[picture\\]](there/p.png)" in text


def test_section_for_programs():
    parts = to_dict(SECTION)["parts"]
    assert parts[1]["rows"] == [[HOSTILE, "`c` differs"]]
    assert json.dumps(parts)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def test_page_needs_no_network_and_runs_nothing(tmp_path):
    write_page([SECTION, tables.table_section("table3", None, Accuracies(), {})], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    parser = Tags()
    parser.feed(text)
    tags = [tag for tag, _ in parser.seen]
    assert "script" not in tags
    assert "link" not in tags
    policy = next(attrs["content"] for tag, attrs in parser.seen if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    sources = [attrs["src"] for tag, attrs in parser.seen if "src" in attrs]
    assert sources == ["data:image/png;base64,Ynl0ZXM="]
    assert "http://" not in text.replace("http-equiv", "")
    assert "https://" not in text
    assert "<code>a|b &lt;x&gt;</code>" in text
    assert '<td class="differs">' in text
    assert TABLE_3.rows[1].name in text
