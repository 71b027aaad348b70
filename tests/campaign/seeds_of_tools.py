"""Whole files of labelling tools, in folders with their images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ..unit.data import labelling_tools as tools
from ..unit.data.readers.test_label_studio import min_export, stroke
from .seeds import Seed


def labelme() -> tuple[Seed, ...]:
    corners = [[10, 10], [29, 19]]
    shapes = [
        tools.shape("cat", corners, "mask", mask=tools.mask_text(np.ones((10, 20), np.bool_))),
        tools.shape("cat", [[1, 1], [9, 1], [9, 9]], "polygon", group_id=1),
        tools.shape("cat", [[20, 1], [30, 1], [30, 9]], "polygon", group_id=1),
        tools.shape("dog", [[40, 40], [50, 40]], "circle"),
        tools.shape("dog", [[3, 3]], "point"),
    ]

    def make(root: Path) -> None:
        tools.make_labelme(root)
        tools.write_labelme(root / "a.json", shapes)

    return _seed(tools.make_labelme, "Zürich 1.json"), _seed(make, "a.json")


def via() -> tuple[Seed, ...]:
    contents: list[object] = [tools.via_project(tools.via_images()), tools.via_images(1), tools.via_3()]
    return tuple(_seed(lambda root, content=content: tools.make_via(root, content), "via.json") for content in contents)  # type: ignore[misc]


def via_csv() -> tuple[Seed, ...]:
    return (_seed(lambda root: tools.make_via(root, tools.via_csv(tools.via_images())), "via_export_csv.csv"),)


def label_studio() -> tuple[Seed, ...]:
    name = "project-1-at-2026.json"
    drawn = np.zeros((tools.HEIGHT, tools.WIDTH), np.bool_)
    drawn[20:40, 30:50] = True
    brush = tools.task("a.png", tools.annotation(tools.result(stroke(drawn)), tools.result(tools.CAT)))
    contents = tools.TASKS, min_export(), [brush]
    return tuple(_seed(lambda root, tasks=tasks: tools.make_label_studio(root, tasks), name) for tasks in contents)  # type: ignore[misc]


def _seed(make: Callable[[Path], object], target: str) -> Seed:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        make(root)
        files = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return Seed({target: files[target], **files})
