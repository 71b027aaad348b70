"""Writes COCO's JSON for a cleaned copy of a dataset whose own format is not written."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vovnet.data.conversion_files import coco_object
from vovnet.data.dataset import ImageAnnotation, SplitAnnotations
from vovnet.data.readers.coco_fields import Entry
from vovnet.files import json_text, replacing
from vovnet.json_writing import list_pieces, member_pieces

FORMAT = "COCO JSON"


def write(splits: Sequence[SplitAnnotations], out: Path) -> None:
    """annotations/instances_SPLIT.json for each split, whose images keep their paths in the data folder."""
    for split in splits:
        ids = dict(zip(split.class_names, split.category_ids, strict=True))
        lists = {
            "images": (_image_entry(number, image, split.root) for number, image in enumerate(split.images, 1)),
            "annotations": _annotations(split, ids),
            "categories": ({"id": number, "name": name} for name, number in ids.items()),
        }
        members = {key: list_pieces(entries, json_text) for key, entries in lists.items()}
        path = out / "annotations" / f"instances_{split.split}.json"
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.writelines(member_pieces(members))


def _annotations(split: SplitAnnotations, ids: Mapping[str, int]) -> Iterator[Entry]:
    numbers = itertools.count(1)
    for image_id, image in enumerate(split.images, 1):
        for obj in image.objects:
            start = {"id": next(numbers), "image_id": image_id, "category_id": ids[obj.class_name]}
            yield start | coco_object(obj)


def _image_entry(number: int, image: ImageAnnotation, root: Path) -> Entry:
    entry = {"id": number, "file_name": image.image_path.relative_to(root).as_posix()}
    return entry if image.image_size is None else entry | {"height": image.image_size[0], "width": image.image_size[1]}
