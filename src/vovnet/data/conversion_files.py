"""Writes a dataset in VOC, COCO or YOLO format: annotations and lists, into a folder that has the images already.

The folders of each format are those that its own tools use, see `image_folder`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from vovnet.data.checking.image_scan import Scans
from vovnet.data.dataset import ImageAnnotation, ImageTable, ObjectAnnotation
from vovnet.data.keys import are_repeated, keys_of
from vovnet.files import json_text, replacing
from vovnet.json_writing import list_pieces, member_pieces
from vovnet.printing import printable, quoted

FORMATS = ("coco", "voc", "yolo")


@dataclass(frozen=True)
class Placed:
    """An image with its place in the converted dataset.

    annotation: in pixels of the upright image, with valid boxes only, and its true size.
    name: of the image file in its folder.
    """

    annotation: ImageAnnotation
    size: tuple[int, int]
    name: str

    @property
    def stem(self) -> str:
        return Path(self.name).stem


@dataclass(frozen=True)
class Classes:
    """The class names of the dataset, in the order of its labels, and its category ids."""

    names: tuple[str, ...]
    ids: tuple[int, ...]


class PlacedImages:
    """The images of a split with their places, made when they are asked for."""

    def __init__(self, table: ImageTable, scans: Scans, name_of: Callable[[str], str]) -> None:
        """table: in pixels of the upright images. name_of: gives the name in the copy of the image at a path."""
        self.table, self._scans, self._name_of = table, scans, name_of

    def __iter__(self) -> Iterator[Placed]:
        for image in self.table:
            yield Placed(image, self._scans[image.image_path].image_size, self._name_of(str(image.image_path)))

    def names(self) -> Iterator[str]:
        return map(self._name_of, self.table.paths())


def image_folder(target: str, split: str) -> str:
    """The folder of a split's images; VOC and COCO have one for all splits."""
    return {"voc": "JPEGImages", "coco": "images", "yolo": f"images/{split}"}[target]


def write_annotations(target: str, splits: Mapping[str, PlacedImages], classes: Classes, out: Path) -> None:
    {"voc": _write_voc, "coco": _write_coco, "yolo": _write_yolo}[target](splits, classes, out)


def _write_voc(splits: Mapping[str, PlacedImages], classes: Classes, out: Path) -> None:
    for name in classes.names:
        if printable(name) != name or name != name.strip() or not name:
            raise ValueError(f"VOC cannot hold the class name {quoted(name, 60)}: give the class another name first")
    (out / "Annotations").mkdir()
    lists = out / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split, images in splits.items():
        with (lists / f"{split}.txt").open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{Path(name).stem}\n" for name in images.names())
        for image in images:
            path = out / "Annotations" / f"{image.stem}.xml"
            if not path.exists():  # another split has written it
                path.write_bytes(_xml(image))


def _xml(image: Placed) -> bytes:
    root = ElementTree.Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", image.name)
    size = ElementTree.SubElement(root, "size")
    for tag, length in (("width", image.size[1]), ("height", image.size[0]), ("depth", 3)):
        _add(size, tag, str(length))
    _add(root, "segmented", "0")
    for obj in image.annotation.objects:
        element = ElementTree.SubElement(root, "object")
        _add(element, "name", obj.class_name)
        _add(element, "pose", "Unspecified")
        _add(element, "truncated", "0")
        _add(element, "difficult", str(int(obj.difficult or obj.crowd)))
        box = ElementTree.SubElement(element, "bndbox")
        x1, y1, x2, y2 = obj.box
        for tag, value in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
            _add(box, tag, number(value))
    ElementTree.indent(root)
    content: bytes = ElementTree.tostring(root, encoding="utf-8")
    return content + b"\n"


def _add(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = text


def number(value: float) -> str:
    """A coordinate as text: a whole number without a point, which some readers need; else to a thousandth."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _write_coco(splits: Mapping[str, PlacedImages], classes: Classes, out: Path) -> None:
    ids = dict(zip(classes.names, classes.ids, strict=True))
    if 0 in classes.ids:  # which some programs take for the background
        ids = {name: position for position, name in enumerate(classes.names, 1)}
    (out / "annotations").mkdir()
    image_number, objects = 0, itertools.count(1)
    for split, images in splits.items():
        are_numbers = all(isinstance(image_id, int) for image_id in images.table.image_ids())
        keep_ids = are_numbers and not are_repeated(keys_of(images.table.image_ids())).any()
        first, image_number = image_number + 1, image_number + len(images.table)
        numbers = images.table.image_ids() if keep_ids else range(first, image_number + 1)
        lists = {
            "images": map(_coco_image, images, numbers),
            "annotations": _coco_objects(images, images.table.image_ids() if keep_ids else numbers, ids, objects),
            "categories": ({"id": ids[name], "name": name} for name in classes.names),
        }
        members = {key: list_pieces(entries, json_text) for key, entries in lists.items()}
        path = out / "annotations" / f"instances_{split}.json"
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.writelines(member_pieces(members))


def _coco_image(image: Placed, image_id: int | str) -> dict[str, Any]:
    return {"id": image_id, "file_name": image.name, "width": image.size[1], "height": image.size[0]}


def _coco_objects(
    images: PlacedImages, image_ids: Iterable[int | str], category_ids: Mapping[str, int], numbers: Iterator[int]
) -> Iterator[dict[str, Any]]:
    for image, image_id in zip(images, image_ids, strict=True):
        for obj in image.annotation.objects:
            start = {"id": next(numbers), "image_id": image_id, "category_id": category_ids[obj.class_name]}
            yield start | coco_object(obj)


def coco_object(obj: ObjectAnnotation) -> dict[str, Any]:
    """The entry of an object but for its ids."""
    x1, y1, x2, y2 = obj.box
    entry: dict[str, Any] = {
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1) if obj.area is None else obj.area,
        "iscrowd": int(obj.crowd),
    }
    if obj.mask is not None:
        entry["segmentation"] = obj.mask
    if obj.difficult:
        entry["ignore"] = 1
    return entry


def _write_yolo(splits: Mapping[str, PlacedImages], classes: Classes, out: Path) -> None:
    labels = {name: label for label, name in enumerate(classes.names)}
    for split, images in splits.items():
        folder = out / "labels" / split
        folder.mkdir(parents=True)
        for image in images:
            lines = (_yolo_line(obj, labels[obj.class_name], image.size) for obj in image.annotation.objects)
            (folder / f"{image.stem}.txt").write_text("".join(lines), encoding="utf-8")
    content = {split: f"images/{split}" for split in splits} | {"names": dict(enumerate(classes.names))}
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
    (out / "data.yaml").write_text(text, encoding="utf-8")


def _yolo_line(obj: ObjectAnnotation, label: int, size: tuple[int, int]) -> str:
    x1, y1, x2, y2 = obj.box
    height, width = size
    centre, extent = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height), ((x2 - x1) / width, (y2 - y1) / height)
    return f"{label} {centre[0]:.8f} {centre[1]:.8f} {extent[0]:.8f} {extent[1]:.8f}\n"
