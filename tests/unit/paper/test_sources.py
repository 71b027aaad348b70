"""Accuracy of finished runs, and how they are evaluated."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from vovnet.errors import UsageError
from vovnet.paper import sources
from vovnet.paper.published import TABLES
from vovnet.paper.recomputed import build
from vovnet.paper.sources import Sources
from vovnet.provenance import device_name
from vovnet.weights.detector import ModelInfo, load_weights, save_weights

TABLE_2 = TABLES["table2"]
VOC_NAMES = ("Platelets", "RBC", "WBC")


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
    fresh = Sources(output=tmp_path / "out", runs=tmp_path / "runs", data={"voc": voc}, device="cpu")
    row = TABLE_2.row("Pelee304, PeleeNet")
    answer = fresh.accuracy("table2", row, "map")
    record = json.loads((tmp_path / "out" / "evaluations" / "voc_pelee304.json").read_text())
    assert answer.kind == "measured"
    assert answer.value == pytest.approx(100 * record["voc07_map"])
    assert "3 images" in answer.note
    assert (record["device"], record["run"]["step"], record["split"]) == (device_name(torch.device("cpu")), 7, "test")
    make_run(tmp_path / "runs", "voc_ssd300_mobilenet", "ssd300_mobilenet")
    (tmp_path / "runs/voc_ssd300_mobilenet/record.json").unlink()  # like an interrupted run
    unfinished = fresh.accuracy("table2", TABLE_2.rows[0], "map")
    assert unfinished.kind == "needs"
    assert "configs/voc_ssd300_mobilenet.yaml" in unfinished.note
    # Later, from the evaluation alone.
    later = Sources(tmp_path / "out").accuracy("table2", row, "map")
    assert (later.kind, later.value) == ("measured", answer.value)


def test_the_last_weights_of_a_run_are_evaluated(voc, tmp_path):
    """As in the paper; a run of an older version has only the best ones on val, which the note says."""
    make_run(tmp_path / "runs", "voc_pelee304", "pelee304")
    best = tmp_path / "runs" / "voc_pelee304" / "best.safetensors"
    row = TABLE_2.row("Pelee304, PeleeNet")
    note = Sources(runs=tmp_path / "runs", data={"voc": voc}, device="cpu").accuracy("table2", row, "map").note
    assert "the weights that were best on this split" in note
    loaded = load_weights(best)
    last = best.with_name("last.safetensors")
    save_weights(last, loaded.model.state_dict(), loaded.info, {"step": 9})
    fresh = Sources(output=tmp_path / "out", runs=tmp_path / "runs", data={"voc": voc}, device="cpu")
    assert "best" not in fresh.accuracy("table2", row, "map").note
    record = json.loads((tmp_path / "out" / "evaluations" / "voc_pelee304.json").read_text())
    assert (record["run"]["step"], record["weights"]) == (9, str(last))


def test_a_run_of_another_model_is_refused(voc, tmp_path):
    make_run(tmp_path / "runs", "voc_ssd300_mobilenet", "pelee304")
    fresh = Sources(output=tmp_path / "out", runs=tmp_path / "runs", data={"voc": voc}, device="cpu")
    with pytest.raises(UsageError, match="must hold a ssd300_mobilenet, as its name says, got pelee304"):
        fresh.accuracy("table2", TABLE_2.rows[0], "map")


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
        metrics = {"AP": 0.335, "AP50": 0.5, "AP75": 0.4, "APs": None, "APm": 0.1, "APl": 0.2}
        content = {"coco": metrics, "coco_masks": None, "data": "coco", "split": "val2017", "images": 2}
        return SimpleNamespace(to_dict=lambda: {**content, "soft_nms": options["soft_nms"]})

    def load_weights(source):
        info = SimpleNamespace(name=row.model, class_names=VOC_NAMES, category_ids=range(len(VOC_NAMES)))
        return SimpleNamespace(model=build(row.model), info=info, record={})

    def open_dataset(root, split, **options):
        asked.update(options, split=split)
        return [1, 2]

    monkeypatch.setattr(sources, "evaluate", evaluate)
    monkeypatch.setattr(sources, "load_weights", load_weights)
    monkeypatch.setattr(
        sources, "Detector", lambda model, *names, **options: SimpleNamespace(device=torch.device("cpu"))
    )
    monkeypatch.setattr(sources, "open_dataset", open_dataset)
    monkeypatch.setattr(sources, "splits", lambda root: ("train2017", "val2017"))
    fresh = Sources(runs=tmp_path / "runs", data={"coco": tmp_path})
    assert fresh.accuracy(table, row, "ap").text == "33.5"
    assert (asked["soft_nms"], asked["split"], asked["masks"]) == (soft_nms, "val2017", table == "table5")
    assert (asked["multi_scale"] and len(asked["multi_scale"].scales)) == scales
    assert fresh.accuracy(table, row, "ap_small").kind == "needs"  # no small objects, no AP
