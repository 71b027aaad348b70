"""Damaged and hostile records of `vovnet reproduce`: one sentence with the file and the place, or a harmless page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vovnet.paper.aggregation.connections import TITLES
from vovnet.paper.aggregation.figure2 import figure_2_section
from vovnet.paper.blood_cells import bottleneck_table, read_studies
from vovnet.paper.measured import conditions, read_record
from vovnet.paper.published import TABLES
from vovnet.paper.records import read_aggregation, read_aggregation_run, read_blood_cells, read_evaluation
from vovnet.paper.sources import Sources
from vovnet.report.document import Section, to_markdown

from .reproduced import TABLE_2, write_record, write_study

RECORDS = Path(__file__).parents[3] / "docs" / "records"
FIGURES = dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm", "APl"), 0.3)
EVALUATION: dict[str, Any] = {
    "data": "/data/VOC2007",
    "split": "test",
    "images": 3,
    "soft_nms": False,
    "voc07_map": 0.5,
    "coco": FIGURES,
    "coco_masks": None,
    "weights": "runs/voc_pelee304/last.safetensors",
    "device": "an invented CPU",
}
BLOCK = [[1.0, None, None], [4.0, 1.0, None], [0.5, 1.0, 2.0]]
RUN: dict[str, Any] = {
    "network": "densenet40",
    "seed": 0,
    "test_accuracy": 0.9,
    "parameters": 10,
    "multiply_adds": 2000,
    "memory_access_cost": 3_000_000,
    "train_images": 50_000,
    "images": "original",
    "device": "CPU, 1 threads",
    "strengths": [BLOCK] * 3,
    "targets": [["1", "2", "transition 1"]] * 3,
    "log": [[1, 2, 3]],
    "settings": {"epochs": 2.0, "precision": "fp32", "batch_size": 64, "learning_rate": 0.1, "weight_decay": 1e-4},
}
HOSTILE = "<script>alert(1)</script>|\n# `a` =cmd()\x1b[31m\u202e$x"


def study_record(tmp_path: Path) -> dict[str, Any]:
    write_study(tmp_path, "pelee304", [0.7])
    record: dict[str, Any] = json.loads((tmp_path / "bccd_study" / "pelee304_0.json").read_text())
    return record


def changed(record: Any, place: str, value: Any) -> Any:
    """A copy with another value at a place; without it if the value is `...`."""
    record = json.loads(json.dumps(record))
    inside = record
    *way, last = [int(key) if key.isdigit() else key for key in place.split(".")]
    for key in way:
        inside = inside[key]
    if value is ...:
        del inside[last]
    else:
        inside[last] = value
    return record


READERS: dict[str, Callable[[Path], object]] = {
    "evaluation": read_evaluation,
    "study": read_blood_cells,
    "run": lambda path: read_aggregation_run(path, TITLES),
    "aggregation": lambda path: read_aggregation(path, TITLES),
}


def whole(kind: str, tmp_path: Path) -> Any:
    if kind == "study":
        return study_record(tmp_path)
    return {"evaluation": EVALUATION, "run": RUN, "aggregation": {"runs": [RUN, RUN]}}[kind]


@pytest.mark.parametrize("kind", READERS)
def test_a_whole_record_is_returned_as_it_is(kind: str, tmp_path: Path) -> None:
    record = whole(kind, tmp_path)
    (tmp_path / "r.json").write_text(json.dumps(record))
    read = READERS[kind](tmp_path / "r.json")
    assert (read == record["runs"]) if kind == "aggregation" else (read == record)


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"a":' * 5_000,
        b"\0" * 1_000,
        b"\xff\xfe{\0}\0",
        b"\x89PNG",
        b'{"seed": 1' + b"0" * 5_000 + b"}",
        b'{"runs": [{"network": NaN}]}',
    ],
)
def test_what_is_no_record(kind: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(data)
    check(READERS[kind], path, "r.json (is|holds) ")


def check(use: Callable[[Path], object], path: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        use(path)
    text = str(caught.value)
    assert text.startswith(f"{path} ")
    assert len(text.removeprefix(str(path))) <= 400
    assert text.isprintable()


@pytest.mark.parametrize(
    ("kind", "place", "value", "message"),
    [
        ("evaluation", "data", ..., "an evaluation of `vovnet reproduce`: data: Field required"),
        ("evaluation", "voc07_map", 1.5, "voc07_map: must be at most 1, got 1.5"),
        ("evaluation", "voc07_map", float("nan"), "voc07_map: Input should be a finite number"),
        ("evaluation", "coco.AP", "0.3", "coco.AP: Input should be a valid number, got '0.3'"),
        ("evaluation", "coco.APs", ..., "coco.APs: Field required"),
        ("evaluation", "coco_masks", [], "coco_masks: Input should be a valid dictionary"),
        ("evaluation", "split", "x" * 100_000, "split: String should have at most 5000 characters, got 'xxx"),
        ("evaluation", "device", None, "device: Input should be a valid string"),
        ("study", "test.classes", {}, "test.classes: Dictionary should have at least 1 item"),
        ("study", "test.classes.RBC.voc07_ap", None, "test.classes.RBC.voc07_ap: Input should be a valid number"),
        ("study", "seed", "0", "seed: Input should be a valid integer, got '0'"),
        ("study", "config.schedule.epochs", None, "config.schedule.epochs: Input should be a valid number"),
        ("study", "config", [], "config: Input should be a valid dictionary"),
        ("study", "parameters", -1, "parameters: must be at least 0, got -1"),
        ("run", "network", "resnet57", "network: must be one of densenet40, .*, got 'resnet57'"),
        ("run", "settings.epochs", 0, "settings.epochs: must be at least 1e-30, got 0"),
        ("run", "settings.x", {"a": 1}, "settings.x"),
        ("run", "more", [[[1]]], "more"),
        ("run", "test_accuracy", True, "test_accuracy: Input should be a valid number"),
        ("run", "strengths", ..., "strengths and targets must both be there, or neither"),
        ("run", "targets", None, "strengths and targets must both be there, or neither"),
        ("run", "strengths", [BLOCK] * 2, "strengths: List should have at least 3 items"),
        ("run", "strengths.1.2", [0.5, 1.0], "strengths.1.2: List should have at least 3 items"),
        ("run", "strengths.1.0", [1.0, None, None, None], r"strengths.1 must have 3 values in each list"),
        ("run", "strengths.2.2", [0.5, 0, 1], "strengths.2 must have values above 0 in its last list"),
        ("run", "strengths.2.2.1", None, "strengths.2 must have values above 0 in its last list"),
        ("run", "strengths.0.0", [None] * 3, "strengths.0 must have a value above 0 in each list"),
        ("run", "strengths.0.1.1", None, "strengths.0 must have, for each source but the last, a value"),
        ("run", "targets.1", ["1"], "strengths.1 must have one list for each of the 1 targets, got 3"),
        ("aggregation", "runs.1.seed", 1.5, "runs.1.seed: Input should be a valid integer, got 1.5"),
        ("aggregation", "runs", {}, "runs: Input should be a valid list"),
        ("aggregation", "runs.0.network", "x" * 4_000, "network: must be one of"),
        ("aggregation", "runs.1.strengths", [[[1.0] * 4] * 3] * 3, "densenet40 with different numbers of strengths"),
    ],
)
def test_a_wrong_value_is_named(kind: str, place: str, value: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps(changed(whole(kind, tmp_path), place, value)))
    check(READERS[kind], path, message)


def test_the_shipped_records_are_read() -> None:
    assert len(read_aggregation(RECORDS / "cifar10_aggregation.json", TITLES)) == 7
    assert len(read_studies(RECORDS)) == 5
    for table in ("table2", "table3", "table4"):
        assert read_record(table, RECORDS) is not None


def test_studies_of_different_classes_are_not_mixed(tmp_path: Path) -> None:
    write_study(tmp_path, "pelee304", [0.7])
    other = changed(study_record(tmp_path), "test.classes", {"RBC": {"voc07_ap": 0.1}})
    (tmp_path / "bccd_study" / "other_1.json").write_text(json.dumps({**other, "seed": 1}))
    with pytest.raises(ValueError, match=r"pelee304_0\.json has other classes than .*other_1\.json"):
        read_studies(tmp_path)


def test_a_table_of_different_numbers_of_passes_is_not_one_run(tmp_path: Path) -> None:
    write_record(tmp_path, "table2", TABLE_2)
    content = json.loads((tmp_path / "table2.json").read_text())
    del content["measurements"][1]["latency"]["seconds"][0]
    (tmp_path / "table2.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"table2\.json is not a record of one run"):
        read_record("table2", tmp_path)


def is_harmless(text: str) -> bool:
    return not any(part in text for part in ("\x1b", "\u202e", "`a`", "\n#")) and len(text) < 3_000


def test_what_strangers_wrote_breaks_no_page(tmp_path: Path) -> None:
    (tmp_path / "evaluations").mkdir()
    evaluation = {**EVALUATION, "data": f"/x/{HOSTILE}", "split": HOSTILE, "device": HOSTILE * 50}
    (tmp_path / "evaluations" / "voc_pelee304.json").write_text(json.dumps(evaluation))
    answer = Sources(tmp_path).accuracy("table2", TABLES["table2"].row("Pelee304, PeleeNet"), "map")
    assert answer.kind == "measured"
    assert is_harmless(answer.note)

    write_record(tmp_path, "table2", TABLE_2)
    content = json.loads((tmp_path / "table2.json").read_text())
    content["measurements"][0]["conditions"] |= {"device_name": HOSTILE * 50, "run": HOSTILE}
    (tmp_path / "table2.json").write_text(json.dumps(content))
    record = read_record("table2", tmp_path)
    assert record is not None
    assert is_harmless(conditions(record, record.measurements["ssd300_mobilenet"]))

    for model in ("dsod300_vovnet27_slim", "dsod300_vovnet27_slim_bottleneck"):
        write_study(tmp_path, model, [0.8])
        path = tmp_path / "bccd_study" / f"{model}_0.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "trained_on": HOSTILE * 50}))
    assert all(map(is_harmless, bottleneck_table(read_studies(tmp_path)).notes))

    run = {**RUN, "device": HOSTILE, "targets": [["1", "2", HOSTILE]] * 3}
    (tmp_path / "cifar10_aggregation.json").write_text(json.dumps({"runs": [run]}))
    section = figure_2_section(tmp_path)
    assert isinstance(section.parts[0], str)
    assert is_harmless(section.parts[0])
    assert "<script>" not in to_markdown(Section("", section.parts[:1]))
    assert section.figures[0].make().startswith(b"\x89PNG")


def test_a_run_without_strengths_beside_one_with_them(tmp_path: Path) -> None:
    plain = {key: value for key, value in RUN.items() if key not in ("strengths", "targets")}
    (tmp_path / "cifar10_aggregation.json").write_text(json.dumps({"runs": [plain, {**RUN, "seed": 1}]}))
    assert figure_2_section(tmp_path).figures[0].make().startswith(b"\x89PNG")


def test_a_record_that_is_a_folder_or_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "r.json").mkdir()
    check(read_evaluation, tmp_path / "r.json", "is a folder, not a file")
    shutil.rmtree(tmp_path / "r.json")
    (tmp_path / "r.json").write_text(json.dumps(EVALUATION))
    monkeypatch.setenv("VOVNET_LIMITS", "record_bytes=100")
    check(read_evaluation, tmp_path / "r.json", "has more than 100 bytes: raise the limit with --limit record_bytes=N")
