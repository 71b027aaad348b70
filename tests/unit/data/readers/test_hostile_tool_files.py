"""Whatever the files of labelling tools hold, reading them ends in a result or in one short sentence, quickly."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vovnet.data.check import check_dataset, write_cleaned_copy

from ..labelling_tools import (
    CAT,
    RECT,
    TASKS,
    annotation,
    make_label_studio,
    make_labelme,
    make_via,
    mask_text,
    objects,
    region,
    result,
    shape,
    task,
    via_3,
    via_csv,
    via_images,
    via_project,
    write_json,
    write_labelme,
)
from ..small_datasets import clean_and_check
from ..test_hostile_files import sentences

MAKERS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "labelme": (make_labelme, "a.json"),
    "via": (make_via, "via.json"),
    "label_studio": (make_label_studio, "project-1-at-2026.json"),
}
NUMBERS: list[Any] = [1e308, -1e308, 1e400, float("nan"), "9" * 400, "1_0", "٥", True, None, {}, [[]], 10**17]


def _valued(value: Any) -> dict[str, Callable[[Path], object]]:
    """A value in place of a number, in a file of each tool."""
    corners = [[value, 5], [30, 40]]
    shapes = [shape("cat", corners, kind, group_id=value) for kind in ("rectangle", "polygon", "circle", value)]
    rects = [region(RECT | {"width": value}, kind="cat"), region({"name": "ellipse", "cx": 1, "rx": value}, kind="cat")]
    coordinates = [{"vid": "9", "xy": [2, value, 1, 1, 1], "z": [], "av": {"1": value}}, {"vid": value, "xy": [value]}]
    results = [
        result(CAT | {"width": value, "rotation": value}),
        result({"points": [[value, 1], [1, 2], [3, 3]], "polygonlabels": ["cat"]}),
        result(CAT, original_width=value, original_height=value),
    ]
    return {
        "labelme": lambda root: write_labelme(root / "a.json", shapes, imageHeight=value, imageWidth=value),
        "via": lambda root: write_json(root / "via.json", _with_regions(rects)),
        "via 3": lambda root: write_json(root / "via.json", via_3() | {"metadata": dict(enumerate(coordinates))}),
        "label_studio": lambda root: write_json(
            root / "project-1-at-2026.json", [*TASKS[1:], task("ab12cd34-Zürich_1.png", annotation(*results))]
        ),
    }


def _with_regions(regions: object) -> dict[str, Any]:
    images = via_images()
    images["Zürich 1.png900"]["regions"] = regions
    return images


@pytest.mark.parametrize("tool", ["labelme", "via", "via 3", "label_studio"])
@pytest.mark.parametrize("value", NUMBERS, ids=lambda value: repr(value)[:20])
def test_numbers(tmp_path: Path, tool: str, value: Any) -> None:
    make, _ = MAKERS[tool.partition(" ")[0]]
    root = make(tmp_path / "d")
    _valued(value)[tool](root)
    assert not sentences(root, masks=False)
    clean_and_check(root, tmp_path / "out")


@pytest.mark.parametrize("tool", MAKERS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32", "latin-1"])
def test_text_encodings(tmp_path: Path, tool: str, encoding: str) -> None:
    make, name = MAKERS[tool]
    root = make(tmp_path / "d")
    text = (root / name).read_text(encoding="utf-8")
    (root / name).write_bytes(text.encode(encoding, "replace"))
    said = sentences(root)
    problems = [] if said and tool != "labelme" else check_dataset(root, workers=1, ignore_masks=True).problems
    if encoding == "utf-8":
        assert not said
        assert not problems
    elif encoding.startswith("utf"):
        assert any("save it as UTF-8" in text for text in (*said, *(problem.detail for problem in problems)))


@pytest.mark.parametrize("tool", MAKERS)
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1] + b"9" * 5000 + data[-1:],
        lambda data: data.replace(b'": ', b'": ' + b"[" * 100_000, 1),
        lambda data: data.replace(b": ", b": " + b"9" * 5000, 1),
        lambda data: data.replace(b",", b"\0", 1),
        lambda data: data + b"x",
        lambda data: data[:1] + b'"a": 1, "a": 2, ' + data[1:],
        lambda data: data.replace(b"[", b"{").replace(b"]", b"}"),
    ],
)
def test_damaged_files(tmp_path: Path, tool: str, damage: Callable[[bytes], bytes]) -> None:
    make, name = MAKERS[tool]
    root = make(tmp_path / "d")
    (root / name).write_bytes(damage((root / name).read_bytes()))
    sentences(root)


@pytest.mark.parametrize("tool", MAKERS)
def test_more_shapes_than_an_image_may_have(tmp_path: Path, tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOVNET_LIMITS", "image_objects=1000")
    make, name = MAKERS[tool]
    root = make(tmp_path / "d")
    count = 1001
    wholes: dict[str, Any] = {
        "labelme": {"shapes": [shape("cat", [[1, 1], [9, 9]])] * count, "imagePath": "a.png"},
        "via": _with_regions([region(RECT, kind="cat")] * count),
        "label_studio": [*TASKS[1:], task("ab12cd34-Zürich_1.png", annotation(*[{"value": CAT}] * count))],
    }
    write_json(root / name, wholes[tool])
    assert all("has more than 1,000 objects" in text for text in sentences(root))
    report = check_dataset(root, workers=1, ignore_masks=True)
    assert report.count_by_kind() == {"bad-annotation": 1}
    assert len(report.clean[0].images) == 2


def test_polygons_of_many_corners(tmp_path: Path) -> None:
    root = make_labelme(tmp_path / "d")
    corners = [[n % 100, n % 70] for n in range(100_000)]
    write_labelme(root / "a.json", [shape("cat", corners, "polygon")])
    sentences(root, masks=True)


def test_masks_that_unpack_to_much(tmp_path: Path) -> None:
    """Small texts of a large PNG, of many PNGs, and of what is none."""
    root = make_labelme(tmp_path / "d")
    whole, corners = mask_text(np.ones((80, 120), np.bool_)), [[0, 0], [119, 79]]
    bombs = [mask_text(np.zeros((9000, 9000), np.bool_)), base64.b64encode(b"\xff" * 5_000_000).decode(), "A" * 3]
    shapes = [shape("cat", corners, "mask", mask=text) for text in [*bombs, *[whole] * 400]]
    write_labelme(root / "a.json", shapes, imageHeight=80, imageWidth=120)
    sentences(root, masks=True)
    assert "bad-annotation" in check_dataset(root, workers=1).count_by_kind()


NAMES: list[Any] = [
    "../../../etc/passwd", "/dev/zero", "a/" * 50_000 + "z.png", "\u202e\x1b[31m\n" * 1000, "\ud800", "a\0b.png",
    5, None, "http://[::1", "C:\\..\\..\\x.png", "%2e%2e%2f" * 10_000, "?d=" * 10_000, ".", "..", "/",
    "\\\\host\\share\\a",
]  # fmt: skip


@pytest.mark.parametrize("tool", MAKERS)
@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_of_images(tmp_path: Path, tool: str, name: Any) -> None:
    make, file_name = MAKERS[tool]
    root = make(tmp_path / "d")
    entry = {"filename": name, "size": 1, "regions": [region(RECT, kind="cat")]}
    if tool == "labelme":
        content = json.dumps({"shapes": [], "imagePath": name})
        (root / "elsewhere.json").write_text(content)
    elif tool == "via":
        (root / file_name).write_text(json.dumps(via_images() | {"x": entry}))
    else:
        (root / file_name).write_text(json.dumps([*TASKS, task(name, annotation(result(CAT)))]))
    sentences(root)
    assert sum(check_dataset(root, workers=1, ignore_masks=True).count_by_kind().values()) == 1


@pytest.mark.parametrize("what", ["pipe", "device", "loop", "folder", "secret"])
def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path, what: str) -> None:
    for tool, (make, name) in MAKERS.items():
        root = make(tmp_path / tool)
        for path in (root / f"0-{name}", root / name):
            path.unlink(missing_ok=True)
            if what == "pipe":
                os.mkfifo(path)
            elif what == "folder":
                path.mkdir()
            elif what == "secret":
                path.touch(0o000)
            else:
                path.symlink_to("/dev/zero" if what == "device" else path.name)
        sentences(root)


@pytest.mark.parametrize(
    "content",
    [
        {"_via_img_metadata": 5, "_via_settings": {}},
        {"_via_img_metadata": {"a": 5, "b": {}, "c": {"filename": "a.png", "regions": 5}}},
        via_project(via_images()) | {"_via_attributes": {"region": {"kind": {"options": [1]}}}},
        via_project(via_images()) | {"_via_attributes": 5},
        via_project(
            {"x": {"filename": "a.png", "regions": [5, None, {"shape_attributes": 5, "region_attributes": 5}]}}
        ),
        via_3() | {"view": {"9": 5, "8": {"fid_list": [[]]}, "7": {"fid_list": [1, 2]}}},
        via_3() | {"file": {"9": 5}, "attribute": {"1": 5}},
        via_3() | {"metadata": {"a": 5, "b": {"vid": "9", "xy": [], "z": 5}, "c": {"vid": "9", "xy": ["x"], "av": 5}}},
        [task("a.png") | {"annotations": [5, None, {"result": 5}, {"result": [{"value": 5}]}], "result": 0}],
        [{"data": 5, "annotations": [{"result": []}]}, {"data": {"image": {}}, "annotations": 5}],
        [{"image": "a.png", "id": {}, "label": [{"original_width": {}, "original_height": []}, {"x": 1}]}],
    ],
)
def test_values_of_other_types(tmp_path: Path, content: Any) -> None:
    root = (
        make_label_studio(tmp_path / "d", content) if isinstance(content, list) else make_via(tmp_path / "d", content)
    )
    sentences(root)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("{", "["),
        lambda text: text.replace('""', '"'),
        lambda text: text.replace("\n", "\r"),
        lambda text: text + '"' + "x" * 300_000,
        lambda text: text.replace(",", ",,"),
        lambda text: text.splitlines()[0],
        lambda text: text + "\n" * 100_000 + ",\n,,,,,,,,,,\na",
        lambda text: text.replace("region_attributes", "filename"),
    ],
)
def test_csv_files(tmp_path: Path, change: Callable[[str], str]) -> None:
    sentences(make_via(tmp_path / "d", change(via_csv(via_images()))))


def test_a_copy_of_hostile_values_in_what_is_not_read(tmp_path: Path) -> None:
    """They are written as they were read."""
    root = make_label_studio(tmp_path / "d")
    (root / "project-1-at-2026.json").write_text(json.dumps([*TASKS, {"note": float("nan"), "text": "\ud800"}]))
    report = check_dataset(root, workers=1, ignore_masks=True)
    assert report.count_by_kind() == {"bad-annotation": 1}
    write_cleaned_copy(report, tmp_path / "copy")
    root = make_labelme(tmp_path / "e")
    write_labelme(root / "a.json", [shape("cat", [[1, 1], [200, 9]], score=float("inf"))], flags={"x": float("nan")})
    clean_and_check(root, tmp_path / "out")
    assert objects(tmp_path / "out")["a"] == [("cat", [1, 1, 120, 9])]
