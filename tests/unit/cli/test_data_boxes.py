"""`vovnet data boxes`, and what the documentation says that it prints."""

import json
import shutil
from pathlib import Path

import pytest

from tests.small_voc import write_small_voc
from vovnet.cli.data_boxes import boxes


def test_the_page_shows_what_the_command_prints(tmp_path, capsys):
    boxes(Path("samples/bccd"), model=["dsod300_vovnet27_slim", "ssd300_mobilenet"], json_file=str(tmp_path / "x.json"))
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in Path("docs/train.md").read_text().splitlines()
    ]
    for name in ("dsod300_vovnet27_slim (voc)", "dsod300_vovnet27_slim (coco)", "ssd300_mobilenet"):
        assert [name, *next(cells for cells in printed if cells[: len(name.split())] == name.split())[-4:]] in rows
    found = json.loads((tmp_path / "x.json").read_text())["detectors"]
    assert [(row["model"], row["anchors"]) for row in found] == [
        ("dsod300_vovnet27_slim", "voc"),
        ("dsod300_vovnet27_slim", "coco"),
        ("ssd300_mobilenet", None),
    ]
    assert found[0]["fitted"][:3] == found[1]["fitted"][:3]  # whatever the detector has now; no object suits the others
    assert found[0]["after"]["small"] > found[0]["before"]["small"]


@pytest.mark.parametrize(
    ("split", "model", "message"),
    [
        ("tain", "pelee304", "did you mean"),
        ("train", "maskrcnn_vovnet39", "is for one-stage"),
        ("train", "pele304", "pelee304"),
    ],
)
def test_what_cannot_be_shown_is_said(split, model, message):
    with pytest.raises(ValueError, match=message):
        boxes(Path("samples/bccd"), split=split, model=[model])


def test_a_dataset_of_one_split_needs_no_option(tmp_path, capsys):
    write_small_voc(tmp_path / "voc", train=3, val=1)
    shutil.rmtree(tmp_path / "voc/ImageSets")
    boxes(tmp_path / "voc", model=["pelee304"], json_file=str(tmp_path / "x.json"))
    assert json.loads((tmp_path / "x.json").read_text())["split"] == "all"
