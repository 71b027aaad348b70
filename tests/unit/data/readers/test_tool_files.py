"""Which tool wrote a file, and that no other folder is taken for one of a labelling tool."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vovnet.data.formats import find_format, open_dataset, recognise
from vovnet.data.readers import tool_files
from vovnet.data.readers.tool_files import split_of, tool_of

from ..labelling_tools import (
    TASKS,
    make_label_studio,
    make_labelme,
    make_via,
    shape,
    via_3,
    via_csv,
    via_images,
    via_project,
    write_labelme,
)
from ..small_datasets import make_coco, make_voc, make_yolo
from .test_label_studio import min_export

OTHERS: dict[str, Any] = {
    "package.json": {"name": "x", "version": "1.0.0", "files": ["shapes"], "scripts": {"size": "1"}},
    "coco.json": {"images": [], "annotations": [], "categories": [{"id": 1, "name": "shapes"}]},
    "caption.json": [{"image": "a.png", "caption": "a cat"}],
    "createml.json": [{"image": "a.png", "annotations": [{"label": "cat", "coordinates": {"x": 1, "y": 2}}]}],
    "geo.json": {"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}}]},
    "shapes.json": {"shapes": [{"kind": "circle"}]},
    "sidecar.json": {"imagePath": "a.png", "exposure": 1},
    "files.json": {"a": {"filename": "a.png", "size": 5}},
    "notebook.json": {"cells": [], "metadata": {}, "nbformat": 4},
    "project.json": {"project": {"name": "x"}, "file": {}},
    "text.json": "shapes imagePath",
    "number.json": 5,
    "empty.json": {},
    "list.json": [],
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_json_files_are_of_no_tool(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / name).write_text(json.dumps(OTHERS[name]))
    assert tool_of(tmp_path / name) is None


def test_a_folder_of_such_files_is_no_dataset(tmp_path: Path) -> None:
    for name, content in OTHERS.items():
        if name != "coco.json":
            (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "a.csv").write_text("filename,width,height,class,xmin\na.png,1,1,cat,1\n")
    looked_for = (
        r"looked for .*, a JSON file per image \(labelme\), its JSON or CSV \(VIA\), its JSON \(Label Studio\), but"
    )
    with pytest.raises(ValueError, match=f"is not a known dataset: {looked_for}"):
        find_format(tmp_path)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    ("content", "tool"),
    [
        ({"version": "3.16", "shapes": [], "lineColor": [0], "imagePath": "a", "imageData": "x"}, "labelme"),
        ({"imageData": "x" * 200_000, "imagePath": "a", "shapes": [shape("cat", [])]}, "labelme"),
        ({"version": "5", "shapes": [shape("cat", [[1, 2]] * 9000, "polygon")], "imagePath": "a"}, "labelme"),
        (via_images(), "via"),
        (via_images(1), "via"),
        ({"a": {"fileref": "", "size": 1, "filename": "a", "base64_img_data": "x" * 90_000, "regions": {}}}, "via"),
        (via_project({}), "via"),
        (via_3(), "via"),
        (TASKS, "label_studio"),
        (min_export(), "label_studio"),
        ([{"id": 1, "predictions": ["x" * 90_000], "annotations": [{"result": []}], "data": {}}], "label_studio"),
    ],
)  # fmt: skip
def test_the_files_of_each_tool(tmp_path: Path, content: Any, tool: str, indent: int | None) -> None:
    path = tmp_path / "a.json"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_text(json.dumps(content, indent=indent), encoding=encoding)
        assert tool_of(path) == tool


def test_csv_files(tmp_path: Path) -> None:
    for text in (via_csv(via_images()), via_csv(via_images(), mark="#"), "\ufeff" + via_csv({})):
        (tmp_path / "a.csv").write_text(text)
        assert tool_of(tmp_path / "a.csv") == "via"


@pytest.mark.parametrize("make", [make_coco, make_voc, make_yolo])
def test_datasets_of_other_formats_stay_what_they_are(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    root = make(tmp_path)
    before = find_format(root)
    make_labelme(root)
    make_via(root)
    make_label_studio(root)
    assert find_format(root) is before
    others = recognise(root).others
    assert [name.partition(" (")[0] for name in others] == ["labelme", "VIA", "Label Studio"]


def test_a_folder_called_annotations_may_hold_the_files_of_a_tool(tmp_path: Path) -> None:
    for name, make in {"labelme": make_labelme, "VIA": make_via}.items():
        root = tmp_path / name
        make(root / "annotations")
        assert recognise(root).format == name


def test_few_files_of_many_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_labelme(tmp_path / "z")
    for number in range(3000):
        os.link(tmp_path / "z/a.json", tmp_path / f"{number}.json")
    looked_at: list[Path] = []

    def look(path: Path) -> str | None:
        looked_at.append(path)
        return tool_of(path)

    monkeypatch.setattr(tool_files, "tool_of", look)
    assert recognise(tmp_path).format == "labelme"
    assert len(looked_at) < 100


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("a.json", "all"),
        ("train.json", "train"),
        ("via_val.json", "via_val"),
        ("test/a.json", "test"),
        ("x/valid/train.json", "valid"),
        ("contest.json", "all"),
    ],
)
def test_the_split_of_a_file(name: str, split: str) -> None:
    assert split_of(Path("d") / name, Path("d")) == split


def test_no_folder_of_many_is_forgotten(tmp_path: Path) -> None:
    for number in range(60):
        make_via(tmp_path / f"video_{number}")
    assert len(open_dataset(tmp_path)) == 180


def test_folders_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir(0o000)
    write_labelme(tmp_path / "a.json", [])
    assert recognise(tmp_path).format == "labelme"
