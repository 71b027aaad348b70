"""COCO: one JSON file per split.

Layouts: annotations/instances_SPLIT.json or annotations/SPLIT.json with the images in images/SPLIT/, images/, SPLIT/,
annotations/ or the root; SPLIT/_annotations.coco.json with the images beside it; or, without either, JSON files with
such names in the root.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vovnet.data.dataset import (
    ImageAnnotation,
    ImageTable,
    ObjectAnnotation,
    OnProblem,
    SplitAnnotations,
    report_mended,
    to_image_size,
    to_number,
)
from vovnet.data.images import annotated_orientation
from vovnet.data.keys import are_repeated, keys_of
from vovnet.data.readers.coco_classes import Classes, read_classes
from vovnet.data.readers.coco_fields import (
    Entry,
    parse_box,
    rotation,
    stated_box,
    stated_mask,
    to_flag,
    to_id,
    to_number_id,
)
from vovnet.data.readers.coco_files import annotation_files, parse_json, writer
from vovnet.data.readers.image_finder import ImageFinder
from vovnet.printing import line, quoted

Id = int | str
_KindAndDetail = tuple[str, str]
_FLAGS = ("iscrowd", "ignore")


def recognises(root: Path) -> str:
    """The JSON file that shows the format, as a clause with the program that wrote it; "" without one."""
    path = next(iter(annotation_files(root).values()), None)
    return "" if path is None else f"{line(path.relative_to(root).as_posix())} is COCO JSON{writer(path)}"


def splits(root: Path) -> tuple[str, ...]:
    return tuple(annotation_files(root))


def read(root: Path, names: Sequence[str], on_problem: OnProblem) -> tuple[SplitAnnotations, ...]:
    """The splits of these names. Labels follow the order of the category ids, see `read_classes`."""
    files = annotation_files(root)
    return tuple(_read_split(root, split, files, on_problem) for split in names)


def _read_split(root: Path, split: str, files: dict[str, Path], on_problem: OnProblem) -> SplitAnnotations:
    path = files[split]
    content = parse_json(path)
    classes = read_classes(files, split, content["categories"])
    likely_folders = (root / "images" / split, root / "images", root / split, path.parent, root, root / "data")
    folders = [folder for folder in likely_folders if folder.is_dir()]
    finder = ImageFinder(folders, [entry.get("file_name") for entry in content["images"]], path, on_problem)
    mended: list[_KindAndDetail] = []
    listed = _read_images(content["images"], finder, mended, on_problem)
    mended += [
        ("repeated-id", f"annotation {index + 1} has the id {quoted(annotation_id)} of another one")
        for index, annotation_id in _find_repeated_ids(content["annotations"]).items()
    ]
    objects, unusable = _read_objects(_taken_out(content["annotations"]), classes, listed, path, on_problem)
    if new_ids := classes.new_ids():
        own, shared = next(iter(new_ids.items()))
        detail = (
            f"{quoted(classes.by_id[own])} has the category id {own}, but {shared} in the split {line(classes.first)}"
        )
        mended.append(("category-ids", detail + (f" (one of {len(new_ids)} classes)" if len(new_ids) > 1 else "")))
    report_mended(mended, path, on_problem)
    images = ImageTable.of(
        replace(
            image,
            objects=tuple(objects[image_id]),
            unusable_objects=unusable[image_id],
            image_size=image.image_size or _stored_size(image.image_path, objects[image_id]),
        )
        for image_id, image in listed.images.items()
    )
    return SplitAnnotations(root, "coco", split, classes.names, classes.own_ids(), images)


@dataclass(frozen=True)
class _Listed:
    """The images of a split, by their ids, without their objects.

    owners: each id that an entry states → the id of the image with its objects; None if the entry was left out.
    by_number: the number that an id is → that id.
    """

    images: dict[Id, ImageAnnotation]
    owners: dict[Id, Id | None]
    by_number: dict[int, Id]

    def owner(self, image_id: object) -> Id | None:
        """The image that an annotation belongs to; it may state a number where the image's entry has text."""
        stated = to_id(image_id)
        if stated not in self.owners and (number := to_number_id(stated)) is not None:
            stated = self.by_number.get(number)
        return None if stated is None else self.owners.get(stated)


def _read_images(
    entries: Sequence[Entry], finder: ImageFinder, mended: list[_KindAndDetail], on_problem: OnProblem
) -> _Listed:
    """Adds the problems that it mends to `mended`."""
    listed = _Listed({}, {}, {})
    by_name: dict[str, list[Id]] = defaultdict(list)  # path in lower case → ids
    for entry in entries:
        image_id, image_path = to_id(entry.get("id")), finder.find(entry.get("file_name"))
        if image_id is None or image_id in listed.owners:
            stated, name = quoted(entry.get("id")), quoted(entry.get("file_name"))
            fault = ", which is no id" if image_id is None else " of an image before it"
            on_problem("listed-twice", finder.path, f"the image {name} has the id {stated}{fault}")
            continue
        listed.owners[image_id] = image_id
        number = to_number_id(image_id)
        same_number = image_id if number is None else listed.by_number.setdefault(number, image_id)
        if image_path is None:
            continue
        name = str(image_path).lower()
        size = to_image_size(entry.get("height"), entry.get("width"))
        twin = next((i for i in by_name[name] if _is_same_file(listed.images[i].image_path, image_path)), None)
        if twin is not None:
            twin_size = listed.images[twin].image_size
            if size and twin_size and size != twin_size:
                ids = f"{quoted(twin)} and {quoted(image_id)}"
                detail = f"lists {line(image_path.name)} twice with two sizes, as images {ids}"
                on_problem("listed-twice", finder.path, detail)
                listed.owners[image_id] = None
                continue
            listed.owners[image_id] = twin
            listed.images[twin] = replace(listed.images[twin], image_size=twin_size or size)
            ids = f"{quoted(twin)} and {quoted(image_id)}"
            mended.append(("same-file", f"images {ids} are the same file {line(image_path.name)}"))
        elif type(same_number) is not type(image_id):
            ids = f"{quoted(same_number)} and {quoted(image_id)}"
            detail = f"two images have the ids {ids}, which are the same number"
            on_problem("listed-twice", finder.path, detail)
            listed.owners[image_id] = None
        else:
            listed.images[image_id] = ImageAnnotation(image_path, finder.path, image_id, (), size)
            by_name[name].append(image_id)
    return listed


def _is_same_file(path: Path, other: Path) -> bool:
    """The same name, or one that differs in upper and lower case only where the file system does not care."""
    return path == other or path.samefile(other)


def _read_objects(
    annotations: Iterable[Entry], classes: Classes, listed: _Listed, path: Path, on_problem: OnProblem
) -> tuple[dict[Id, list[ObjectAnnotation]], Counter[Id]]:
    """The objects of each image, and the number of those that were left out."""
    objects: dict[Id, list[ObjectAnnotation]] = defaultdict(list)
    unusable: Counter[Id] = Counter()
    for index, annotation in enumerate(annotations):
        image_id, category_id = listed.owner(annotation.get("image_id")), to_number_id(annotation.get("category_id"))
        if image_id is None:
            detail = f"is of image {quoted(annotation.get('image_id'))}, which is not listed or left out"
            on_problem("annotation-without-image", path, f"{_subject(index, annotation)} {detail}")
        elif category_id not in classes.by_id:
            detail = f"has the category id {quoted(annotation.get('category_id'))}, which is not listed"
            on_problem("unknown-class", path, f"{_subject(index, annotation)} {detail}")
            unusable[image_id] += 1
        else:
            objects[image_id].append(_to_object(index, annotation, classes.by_id[category_id]))
    return objects, unusable


def _subject(index: int, annotation: Entry) -> str:
    stated = annotation.get("id", index)
    return f"annotation {line(stated) if isinstance(stated, str) else quoted(stated)}"


def _to_object(index: int, annotation: Entry, class_name: str) -> ObjectAnnotation:
    """`ignore`, which some converters write, makes an object count as little as a crowd."""
    box, stated_area = parse_box(annotation), to_number(annotation.get("area"))
    return ObjectAnnotation(
        index,
        class_name,
        box,
        crowd=to_flag(annotation.get("iscrowd")) or to_flag(annotation.get("ignore")),
        area=stated_area if 0 < stated_area < math.inf else None,
        mask=stated_mask(annotation),
        stated=stated_box(annotation) if any(map(math.isnan, box)) else "",
    )


def _stored_size(image_path: Path, objects: Sequence[ObjectAnnotation]) -> tuple[int, int] | None:
    """The (height, width) that all run-length masks of an image state, if they are those of its pixels as stored."""
    stated = [obj.mask.get("size") for obj in objects if isinstance(obj.mask, dict)]
    sizes = {to_image_size(*size) if isinstance(size, list) and len(size) == 2 else None for size in stated}
    size = sizes.pop() if len(sizes) == 1 else None
    return size if annotated_orientation(image_path, size) != 1 else None


def _taken_out(entries: list[Entry]) -> Iterator[Entry]:
    """The entries, each of which leaves the list: what is made of them takes the place that they took in memory."""
    for index, entry in enumerate(entries):
        entries[index] = {}
        yield entry


def _find_repeated_ids(annotations: Sequence[Entry]) -> dict[int, Id]:
    """Position → id of each annotation whose id another one before it has."""
    first: dict[Id, int] = {}
    repeated = {}
    for index in np.flatnonzero(are_repeated(keys_of(to_id(entry.get("id")) for entry in annotations))).tolist():
        annotation = annotations[index]
        annotation_id = to_id(annotation.get("id"))
        if annotation_id is not None and annotations[first.setdefault(annotation_id, index)] != annotation:
            repeated[index] = annotation_id
    return repeated


def write(root: Path, splits: Sequence[SplitAnnotations], out: Path) -> None:
    """The annotation files with only these images and objects; all their other entries stay as they are."""
    files = annotation_files(root)
    for split in splits:
        path = files[split.split]
        content = parse_json(path)
        images = {image.image_id: image for image in split.images}
        entries = {to_id(entry.get("id")): entry for entry in reversed(content["images"])}
        classes = read_classes(files, split.split, content["categories"])
        content["images"] = [_with_size(entries[image_id], image) for image_id, image in images.items()]
        content["annotations"] = _corrected_annotations(content["annotations"], split.images, classes)
        content["categories"] = _corrected_categories(content["categories"], classes)
        copy = out / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(json.dumps(content), encoding="utf-8")


def _with_size(entry: Entry, image: ImageAnnotation) -> Entry:
    if image.image_size is None:
        return entry
    return entry | {"height": image.image_size[0], "width": image.image_size[1]}


def _corrected_annotations(
    entries: Sequence[Entry], images: Sequence[ImageAnnotation], classes: Classes
) -> list[Entry]:
    """The entries of these images' objects, with ids that agree in type and occur once."""
    objects = {obj.index: (obj, image.image_id) for image in images for obj in image.objects}
    repeated, new_ids = _find_repeated_ids(entries), classes.new_ids()
    unused_ids = itertools.count(1 + max((to_number_id(entry.get("id")) or 0 for entry in entries), default=0))
    corrected = []
    for index, entry in enumerate(entries):
        if index in objects:
            obj, image_id = objects[index]
            category_id = to_number_id(entry["category_id"])
            assert category_id is not None, "the object has its class by it"
            values: Entry = {"image_id": image_id, "category_id": new_ids.get(category_id, category_id)}
            values |= {"id": next(unused_ids)} if index in repeated else {}
            values |= {flag: int(to_flag(entry[flag])) for flag in _FLAGS if isinstance(entry.get(flag), str)}
            corrected.append(_with_values(_with_object(entry, obj), values))
    return corrected


def _corrected_categories(entries: Sequence[Entry], classes: Classes) -> list[Entry]:
    new_ids = classes.new_ids()
    corrected = []
    for entry in entries:
        category_id = to_number_id(entry.get("id"))
        if category_id in classes.by_id:
            corrected.append(_with_values(entry, {"id": new_ids.get(category_id, category_id)}))
        elif category_id not in new_ids.values():  # a category that is no class gives way
            corrected.append(entry)
    return corrected


def _with_object(entry: Entry, obj: ObjectAnnotation) -> Entry:
    if stated_mask(entry) != obj.mask:
        entry = entry | {"segmentation": obj.mask}
    if parse_box(entry) == obj.box:
        return entry
    x1, y1, x2, y2 = obj.box
    changed, area = entry | {"bbox": [x1, y1, x2 - x1, y2 - y1]}, (x2 - x1) * (y2 - y1)
    if rotation(entry):  # this is the box around the turned rectangle, whose area is smaller
        changed["attributes"] = {key: value for key, value in entry["attributes"].items() if key != "rotation"}
        area = min(area, obj.area or area)
    return changed if stated_mask(entry) else changed | {"area": area}


def _with_values(entry: Entry, values: Entry) -> Entry:
    """The entry with those of the values that it states otherwise: 7.0 is 7, "7" is not."""
    return entry | {key: value for key, value in values.items() if entry.get(key) != value}
