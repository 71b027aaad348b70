"""COCO: one JSON file per split.

Layouts: annotations/instances_SPLIT.json or annotations/SPLIT.json with the images in images/SPLIT/, images/, SPLIT/,
annotations/ or the root; or SPLIT/_annotations.coco.json with the images beside it.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from vovnet.data.dataset import (
    Box,
    ImageAnnotation,
    ObjectAnnotation,
    OnProblem,
    SplitAnnotations,
    to_image_size,
    to_number,
)


def recognises(root: Path) -> bool:
    return bool(_annotation_files(root))


def splits(root: Path) -> tuple[str, ...]:
    return tuple(_annotation_files(root))


def read(root: Path, names: Sequence[str], on_problem: OnProblem) -> tuple[SplitAnnotations, ...]:
    """The splits of these names. Labels follow the order of the category ids in the split's own file."""
    files = _annotation_files(root)
    return tuple(_read_split(root, split, files[split], on_problem) for split in names)


def _annotation_files(root: Path) -> dict[str, Path]:
    """Split → its JSON file, in alphabetical order."""
    files = {path.parent.name: path for path in root.glob("*/_annotations.coco.json")}
    for path in sorted((root / "annotations").glob("*.json")):
        if not path.stem.startswith(("captions_", "person_keypoints_", "stuff_", "panoptic_", "image_info_")):
            files[path.stem.removeprefix("instances_")] = path
    return dict(sorted(files.items()))


def _parse_json(path: Path) -> dict[str, Any]:
    """The content of a COCO file, whose three lists exist and hold dictionaries."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}): download it again") from error
    for key in ("images", "annotations", "categories"):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(f"{path} must hold a list {key!r} of objects, as COCO's instance files do")
    return content


def _parse_box(annotation: dict[str, Any]) -> Box:
    """COCO's x y width height → x1 y1 x2 y2."""
    bbox = annotation.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4:
        return (math.nan,) * 4
    x, y, width, height = map(to_number, bbox)
    return x, y, x + width, y + height


def _stated_mask(annotation: dict[str, Any]) -> object:
    """The segmentation, or None for the various ways in which datasets without masks leave it empty."""
    mask = annotation.get("segmentation")
    return mask if mask and mask != [[]] else None


def _to_id(value: object) -> int | str | None:
    return value if isinstance(value, int | str) else None


def _read_split(root: Path, split: str, path: Path, on_problem: OnProblem) -> SplitAnnotations:
    content = _parse_json(path)
    names = _category_names(content, path)
    objects = _read_objects(content, names, path, on_problem)
    likely_folders = (root / "images" / split, root / "images", root / split, path.parent, root)
    folders = [folder for folder in likely_folders if folder.is_dir()]
    images = []
    seen: set[object] = set()
    for image in content["images"]:
        image_id = _to_id(image.get("id"))
        image_path = _find_image(folders, image.get("file_name"), path, on_problem)
        if image_id is None or image_id in seen:
            on_problem("listed-twice", path, f"two images have the id {image_id!r}, or it is no id")
        elif image_path is not None:
            size = to_image_size(image.get("height"), image.get("width"))
            images.append(ImageAnnotation(image_path, path, image_id, tuple(objects[image_id]), size))
        seen.add(image_id)
    return SplitAnnotations(root, "coco", split, tuple(names.values()), tuple(names), tuple(images))


def _category_names(content: dict[str, Any], path: Path) -> dict[int, str]:
    """Category id → name, in the order of the ids."""
    names: dict[int, str] = {}
    for category in content["categories"]:
        category_id, name = category.get("id"), category.get("name")
        if not isinstance(category_id, int) or not isinstance(name, str):
            raise ValueError(f"{path}: a category must have an integer id and a name, got {category}")
        if category_id in names or name in names.values():
            raise ValueError(
                f"{path}: category {category_id} ({name!r}) is listed twice: give each its own id and name"
            )
        names[category_id] = name
    return dict(sorted(names.items()))


def _read_objects(
    content: dict[str, Any], names: dict[int, str], path: Path, on_problem: OnProblem
) -> dict[object, list[ObjectAnnotation]]:
    """Image id → its objects; names: category id → name."""
    objects: dict[object, list[ObjectAnnotation]] = defaultdict(list)
    image_ids = {_to_id(image.get("id")) for image in content["images"]} - {None}
    for index, annotation in enumerate(content["annotations"]):
        image_id, category_id = _to_id(annotation.get("image_id")), _to_id(annotation.get("category_id"))
        subject = f"annotation {annotation.get('id', index)}"
        if image_id not in image_ids:
            on_problem("annotation-without-image", path, f"{subject} is of image {image_id!r}, which is not listed")
        elif category_id not in names:
            on_problem("unknown-class", path, f"{subject} has the category id {category_id!r}, which is not listed")
        else:
            stated_area = to_number(annotation.get("area"))
            area = stated_area if 0 < stated_area < math.inf else None
            box, mask, crowd = _parse_box(annotation), _stated_mask(annotation), bool(annotation.get("iscrowd", 0))
            objects[image_id].append(
                ObjectAnnotation(index, names[category_id], box, crowd=crowd, area=area, mask=mask)
            )
    return objects


def _find_image(folders: Sequence[Path], file_name: object, path: Path, on_problem: OnProblem) -> Path | None:
    """The file of that name in the first folder that has it."""
    if not isinstance(file_name, str) or not file_name:
        on_problem("bad-annotation", path, f"an image must have a file_name, got {file_name!r}")
        return None
    relative = PurePosixPath(file_name.replace("\\", "/"))
    if not relative.parts or relative.is_absolute() or ".." in relative.parts or ":" in relative.parts[0]:
        on_problem("bad-annotation", path, f"file_name must stay inside the data folder, got {file_name!r}")
        return None
    image_path = next((folder / relative for folder in folders if (folder / relative).is_file()), None)
    if image_path is None:
        names = ", ".join(folder.name for folder in folders)
        on_problem("missing-image", path, f"lists {file_name}, which is in none of the folders {names}")
    return image_path


def write(root: Path, splits: Sequence[SplitAnnotations], out: Path) -> None:
    """The annotation files with only these images and objects; all their other entries stay as they are."""
    files = _annotation_files(root)
    for split in splits:
        content = _parse_json(files[split.split])
        kept_images = {image.image_id: image for image in split.images}
        boxes = {obj.index: obj.box for image in split.images for obj in image.objects}
        entries = {entry["id"]: entry for entry in reversed(content["images"]) if entry.get("id") in kept_images}
        content["images"] = [_with_size(entries[image_id], image) for image_id, image in kept_images.items()]
        content["annotations"] = [
            _with_box(entry, boxes[index]) for index, entry in enumerate(content["annotations"]) if index in boxes
        ]
        path = out / files[split.split].relative_to(root)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")


def _with_size(entry: dict[str, Any], image: ImageAnnotation) -> dict[str, Any]:
    if image.image_size is None:
        return entry
    return entry | {"height": image.image_size[0], "width": image.image_size[1]}


def _with_box(annotation: dict[str, Any], box: Box) -> dict[str, Any]:
    if _parse_box(annotation) == box:
        return annotation
    x1, y1, x2, y2 = box
    changed = annotation | {"bbox": [x1, y1, x2 - x1, y2 - y1]}
    return changed if _stated_mask(annotation) else changed | {"area": (x2 - x1) * (y2 - y1)}
