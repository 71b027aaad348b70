"""Writes COCO's JSON for a cleaned copy of a dataset whose own format is not written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vovnet.data.conversion_files import coco_object
from vovnet.data.dataset import ImageAnnotation, SplitAnnotations
from vovnet.files import write_json

FORMAT = "COCO JSON"


def write(splits: Sequence[SplitAnnotations], out: Path) -> None:
    """annotations/instances_SPLIT.json for each split, whose images keep their paths in the data folder."""
    for split in splits:
        ids = dict(zip(split.class_names, split.category_ids, strict=True))
        content: dict[str, list[dict[str, Any]]] = {
            "images": [_image_entry(number, image, split.root) for number, image in enumerate(split.images, 1)],
            "annotations": [],
            "categories": [{"id": number, "name": name} for name, number in ids.items()],
        }
        for image_id, image in enumerate(split.images, 1):
            for obj in image.objects:
                number = len(content["annotations"]) + 1
                start = {"id": number, "image_id": image_id, "category_id": ids[obj.class_name]}
                content["annotations"].append(start | coco_object(obj))
        write_json(out / "annotations" / f"instances_{split.split}.json", content, indent=None)


def _image_entry(number: int, image: ImageAnnotation, root: Path) -> dict[str, Any]:
    entry = {"id": number, "file_name": image.image_path.relative_to(root).as_posix()}
    return entry if image.image_size is None else entry | {"height": image.image_size[0], "width": image.image_size[1]}
