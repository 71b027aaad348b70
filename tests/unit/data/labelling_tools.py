"""Folders as labelme, VIA and Label Studio write them: entries out of order, names that are not ASCII."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from vovnet.data.formats import open_dataset

from .coco_writing import HEIGHT, WIDTH, write_image

Shape = dict[str, Any]
Objects = dict[str, list[tuple[str, list[float]]]]


def objects(root: Path, split: str | None = None) -> Objects:
    """What is read of each image: class and box, to 0.01 pixels."""
    dataset = open_dataset(root, split)
    return {
        str(sample.image_id): [
            (dataset.class_names[label], [round(corner, 2) for corner in box])
            for label, box in zip(sample.target.labels.tolist(), sample.target.boxes.tolist(), strict=True)
        ]
        for sample in dataset
    }


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


# labelme


def shape(label: object, points: object, kind: str | None = "rectangle", **keys: object) -> Shape:
    written = {"label": label, "points": points, "group_id": None, "description": "", "shape_type": kind, "flags": {}}
    return written | keys


def write_labelme(path: Path, shapes: Sequence[object], image: object = None, **keys: object) -> Path:
    """A file as version 5 writes it. image: what imagePath states; None for the name beside the file."""
    content = {
        "version": "5.4.1",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": f"{path.stem}.png" if image is None else image,
        "imageData": None,
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
    }
    return write_json(path, content | keys)


def mask_text(mask: npt.NDArray[np.bool_]) -> str:
    target = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(target, "png")
    return base64.b64encode(target.getvalue()).decode()


def make_labelme(root: Path) -> Path:
    for seed, stem in enumerate(("Zürich 1", "b", "a")):
        write_image(root / f"{stem}.png", seed)
    write_labelme(
        root / "Zürich 1.json",
        [shape("cat", [[70, 40], [10, 20]]), shape("dog", [[60, 30], [80, 30], [80, 60.5]], "polygon")],
    )
    write_labelme(root / "b.json", [])
    write_labelme(root / "a.json", [shape("dog", [[50, 40], [50, 50]], "circle")])
    return root


LABELME: Objects = {
    "Zürich 1": [("cat", [10, 20, 70, 40]), ("dog", [60, 30, 80, 60.5])],
    "a": [("dog", [40, 30, 60, 50])],
    "b": [],
}

# VIA

RECT = {"name": "rect", "x": 10, "y": 20, "width": 60, "height": 20}
POLYGON = {"name": "polygon", "all_points_x": [60, 80, 80], "all_points_y": [30, 30, 60]}
CIRCLE = {"name": "circle", "cx": 50, "cy": 40, "r": 10}
VIA_SHAPES: dict[str, list[tuple[Shape, str]]] = {
    "Zürich 1": [(RECT, "cat"), (POLYGON, "dog")],
    "b": [],
    "a": [(CIRCLE, "dog")],
}
VIA: Objects = {
    "Zürich 1": [("cat", [10, 20, 70, 40]), ("dog", [60, 30, 80, 60])],
    "b": [],
    "a": [("dog", [40, 30, 60, 50])],
}


def region(shape_attributes: Shape, **attributes: object) -> dict[str, Any]:
    return {"shape_attributes": shape_attributes, "region_attributes": attributes}


def via_images(version: int = 2) -> dict[str, Any]:
    """The images of VIA_SHAPES by name and size, as exported."""
    images: dict[str, Any] = {}
    for number, (stem, shapes) in enumerate(VIA_SHAPES.items()):
        regions: Any = [region(stated, kind=name) for stated, name in shapes]
        entry = {"filename": f"{stem}.png", "size": 900 + number, "regions": regions, "file_attributes": {}}
        if version == 1:
            keyed = {str(index): value for index, value in enumerate(regions)}
            entry = {"fileref": "", "base64_img_data": "", **entry, "regions": keyed}
        images[f"{stem}.png{900 + number}"] = entry
    return images


def via_project(images: dict[str, Any], **attributes: object) -> dict[str, Any]:
    return {
        "_via_settings": {"ui": {}, "core": {}, "project": {"name": "cats"}},
        "_via_img_metadata": images,
        "_via_attributes": {"region": attributes, "file": {}},
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": list(reversed(images)),
    }


def via_3() -> dict[str, Any]:
    codes = {"Zürich 1": [[2, 10, 20, 60, 20], [7, 60, 30, 80, 30, 80, 60]], "b": [], "a": [[3, 50, 40, 10]]}
    chosen = {"Zürich 1": ["7", "3"], "b": [], "a": ["3"]}
    files = {str(9 - n): {"fid": str(9 - n), "fname": f"{stem}.png", "type": 2} for n, stem in enumerate(VIA_SHAPES)}
    metadata = {
        f"{9 - n}_{k}": {"vid": str(9 - n), "flg": 0, "z": [], "xy": code, "av": {"1": chosen[stem][k]}}
        for n, stem in enumerate(VIA_SHAPES)
        for k, code in enumerate(codes[stem])
    }
    attribute = {"aname": "kind", "anchor_id": "FILE1_Z0_XY1", "type": 4, "options": {"3": "dog", "7": "cat"}}
    return {
        "project": {"pid": "__VIA_PROJECT_ID__", "data_format_version": "3.1.1", "vid_list": list(files)},
        "config": {},
        "attribute": {"1": attribute},
        "file": files,
        "metadata": metadata,
        "view": {vid: {"fid_list": [vid]} for vid in files},
    }


VIA_COLUMNS = (
    "filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes",
    "region_attributes",
)  # fmt: skip


def via_csv(images: dict[str, Any], *, mark: str = "") -> str:
    target = io.StringIO()
    rows = csv.writer(target, lineterminator="\n")
    rows.writerow([mark + VIA_COLUMNS[0], *VIA_COLUMNS[1:]])
    for image in images.values():
        start = [image["filename"], image["size"], "{}", len(image["regions"])]
        for number, one in enumerate(image["regions"] or [{}]):
            cells = [json.dumps(one.get(key, {})) for key in ("shape_attributes", "region_attributes")]
            rows.writerow([*start, number, *cells])
    return target.getvalue()


def make_via(root: Path, content: object = None) -> Path:
    """The images of VIA_SHAPES, and a project file or the text of a CSV file."""
    for seed, stem in enumerate(VIA_SHAPES):
        write_image(root / f"{stem}.png", seed)
    if isinstance(content, str):
        (root / "via_export_csv.csv").write_text(content, encoding="utf-8")
    else:
        write_json(root / "via.json", via_project(via_images()) if content is None else content)
    return root


# Label Studio


def result(value: Shape, kind: str = "rectanglelabels", **keys: object) -> dict[str, Any]:
    """One result of an annotation; `value` in percent."""
    number = sum(map(ord, json.dumps(value)))
    common = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0, "id": f"r{number}"}
    return common | {"value": value, "type": kind, "from_name": "label", "to_name": "image"} | keys


def box(x: float, y: float, width: float, height: float, *labels: str, rotation: float = 0) -> Shape:
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": rotation}
    return value | ({"rectanglelabels": list(labels)} if labels else {})


def annotation(*results: object, number: int = 1, **keys: object) -> dict[str, Any]:
    times = {"created_at": "2026-01-01T00:00:00Z", "updated_at": f"2026-01-{number:02}T00:00:00Z"}
    common = {"id": number, "completed_by": 1, "was_cancelled": False, "ground_truth": False}
    return common | times | {"result": list(results)} | keys


def task(image: str, *annotations: object, number: int = 1, **keys: object) -> dict[str, Any]:
    return {"id": number, "annotations": list(annotations), "predictions": [], "data": {"image": image}} | keys


# 25 % of 120 pixels are 30, and of 80 they are 20.
CAT, DOG = box(25, 25, 50, 12.5, "cat"), {"points": [[50, 50], [75, 50], [75, 75]], "polygonlabels": ["dog"]}
TASKS = [
    task("/data/upload/3/ab12cd34-Zürich_1.png", annotation(result(CAT), result(DOG, "polygonlabels")), number=9),
    task("/data/local-files/?d=photos%2Fb.png", annotation(), number=2),
    task("s3://bucket/photos/a.png", annotation(result(box(0, 50, 100, 50, "dog"))), number=5),
]
LABEL_STUDIO: Objects = {
    "ab12cd34-Zürich_1": [("cat", [30, 20, 90, 30]), ("dog", [60, 40, 90, 60])],
    "b": [],
    "a": [("dog", [0, 40, 120, 80])],
}


def make_label_studio(root: Path, tasks: object = None, name: str = "project-1-at-2026.json") -> Path:
    for seed, stem in enumerate(LABEL_STUDIO):
        write_image(root / f"images/{stem}.png", seed)
    write_json(root / name, TASKS if tasks is None else tasks)
    return root
