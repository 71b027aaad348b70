"""COCO: one JSON file a split.

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

from vovnet.data.raw import Box, Complain, RawImage, RawObject, RawSplit, raise_complaint, to_number


def recognises(root: Path) -> bool:
    return bool(annotation_files(root))


def splits(root: Path) -> tuple[str, ...]:
    return tuple(annotation_files(root))


def annotation_files(root: Path) -> dict[str, Path]:
    """Split → its JSON file, in alphabetical order."""
    found = {path.parent.name: path for path in root.glob("*/_annotations.coco.json")}
    for path in sorted((root / "annotations").glob("*.json")):
        if not path.stem.startswith(("captions_", "person_keypoints_", "stuff_", "panoptic_", "image_info_")):
            found[path.stem.removeprefix("instances_")] = path
    return dict(sorted(found.items()))


def read(root: Path, wanted: Sequence[str], complain: Complain = raise_complaint) -> tuple[RawSplit, ...]:
    """The wanted splits. Labels follow the order of the category ids in the split's own file."""
    files = annotation_files(root)
    return tuple(_read_split(root, split, files[split], complain) for split in wanted)


def parse_json(path: Path) -> dict[str, Any]:
    """A COCO file's content, with its three lists there and of dictionaries."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}): fetch it again") from error
    for key in ("images", "annotations", "categories"):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(f"{path} must hold a list {key!r} of objects, as COCO's instance files do")
    return content


def parse_box(annotation: dict[str, Any]) -> Box:
    """COCO's x y width height → x1 y1 x2 y2."""
    bbox = annotation.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4:
        return (math.nan,) * 4
    x, y, width, height = map(to_number, bbox)
    return x, y, x + width, y + height


def _stated_mask(annotation: dict[str, Any]) -> object:
    """The segmentation; None for the forms of "there is none" that data sets of boxes have."""
    mask = annotation.get("segmentation")
    return mask if mask and mask != [[]] else None


def image_folders(root: Path, split: str, path: Path) -> tuple[Path, ...]:
    """Where the images of a split may be, the likeliest first."""
    return (root / "images" / split, root / "images", root / split, path.parent, root)


def _read_split(root: Path, split: str, path: Path, complain: Complain) -> RawSplit:
    content = parse_json(path)
    names = _category_names(content, path)
    folders = [folder for folder in image_folders(root, split, path) if folder.is_dir()]
    objects: dict[object, list[RawObject]] = defaultdict(list)
    image_ids = {_key(image.get("id")) for image in content["images"]}
    for index, annotation in enumerate(content["annotations"]):
        image_id, category_id = _key(annotation.get("image_id")), _key(annotation.get("category_id"))
        label = f"annotation {annotation.get('id', index)}"
        if image_id is None or image_id not in image_ids:
            complain("annotation-without-image", path, f"{label} is of image {image_id!r}, which is not listed")
        elif category_id not in names:
            complain("unknown-class", path, f"{label} has the category id {category_id!r}, which is not listed")
        else:
            crowd = bool(annotation.get("iscrowd", 0))
            area = to_number(annotation.get("area"))
            covered = area if 0 < area < math.inf else None
            box, mask = parse_box(annotation), _stated_mask(annotation)
            objects[image_id].append(RawObject(index, names[category_id], box, crowd=crowd, area=covered, mask=mask))
    images = []
    seen: set[object] = set()
    for image in content["images"]:
        image_id = _key(image.get("id"))
        image_path = _find_image(folders, image.get("file_name"), path, complain)
        if image_id is None or image_id in seen:
            complain("listed-twice", path, f"two images have the id {image_id!r}, or it is no id")
        elif image_path is not None:
            images.append(RawImage(image_path, path, image_id, tuple(objects[image_id]), _stated_size(image)))
        seen.add(image_id)
    return RawSplit(root, "coco", split, tuple(names.values()), tuple(names), tuple(images))


def _key(value: object) -> int | str | None:
    """An id as it may stand in a file, or None for what is no id."""
    return value if isinstance(value, int | str) else None


def _category_names(content: dict[str, Any], path: Path) -> dict[int, str]:
    """Category id → name, by id."""
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


def _find_image(folders: Sequence[Path], file_name: object, path: Path, complain: Complain) -> Path | None:
    """The first folder's file of that name."""
    if not isinstance(file_name, str) or not file_name:
        complain("bad-annotation", path, f"an image must have a file_name, got {file_name!r}")
        return None
    relative = PurePosixPath(file_name.replace("\\", "/"))
    if not relative.parts or relative.is_absolute() or ".." in relative.parts or ":" in relative.parts[0]:
        complain("bad-annotation", path, f"file_name must stay inside the data folder, got {file_name!r}")
        return None
    found = next((folder / relative for folder in folders if (folder / relative).is_file()), None)
    if found is None:
        places = ", ".join(folder.name for folder in folders)
        complain("missing-image", path, f"lists {file_name}, which is in none of the folders {places}")
    return found


def _stated_size(image: dict[str, Any]) -> tuple[int, int] | None:
    height, width = to_number(image.get("height")), to_number(image.get("width"))
    return (int(height), int(width)) if 0 < height < math.inf and 0 < width < math.inf else None


def write(root: Path, splits: Sequence[RawSplit], out: Path) -> None:
    """The annotation files with only these images and objects; all that belongs to them stays as it is."""
    files = annotation_files(root)
    for split in splits:
        content = parse_json(files[split.split])
        kept = {image.image_id: image for image in split.images}
        boxes = {obj.index: obj.box for image in split.images for obj in image.objects}
        images = {entry["id"]: entry for entry in reversed(content["images"]) if entry.get("id") in kept}
        content["images"] = [_with_size(images[image_id], image) for image_id, image in kept.items()]
        content["annotations"] = [
            _with_box(entry, boxes[index]) for index, entry in enumerate(content["annotations"]) if index in boxes
        ]
        path = out / files[split.split].relative_to(root)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")


def _with_size(entry: dict[str, Any], image: RawImage) -> dict[str, Any]:
    if image.image_size is None:
        return entry
    return entry | {"height": image.image_size[0], "width": image.image_size[1]}


def _with_box(annotation: dict[str, Any], box: Box) -> dict[str, Any]:
    if parse_box(annotation) == box:
        return annotation
    x1, y1, x2, y2 = box
    changed = annotation | {"bbox": [x1, y1, x2 - x1, y2 - y1]}
    return changed if _stated_mask(annotation) else changed | {"area": (x2 - x1) * (y2 - y1)}
