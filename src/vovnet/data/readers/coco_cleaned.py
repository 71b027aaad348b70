"""Writes the JSON file of a COCO split with less in it."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from vovnet.data.dataset import ImageTable, ObjectAnnotation, SplitAnnotations
from vovnet.data.readers.coco_classes import Classes, read_classes
from vovnet.data.readers.coco_fields import Entry, parse_box, rotation, stated_mask, to_flag, to_number_id
from vovnet.data.readers.coco_files import open_coco
from vovnet.data.readers.coco_images import Id, id_key
from vovnet.data.readers.coco_objects import ids_of, repeated_ids
from vovnet.json_entries import JsonEntries, JsonText
from vovnet.json_writing import list_pieces, member_pieces

_FLAGS = ("iscrowd", "ignore")


def write_cleaned(files: Mapping[str, Path], split: SplitAnnotations, copy: Path) -> None:
    """The file with only these images and objects; all its other entries stay as they are.

    files: split → its JSON file.
    """
    with open_coco(files[split.split], ids_of) as content:
        classes = read_classes(files, split.split, content.categories)
        lists = {
            "images": _corrected_images(content.images, split.images),
            "annotations": _corrected_annotations(content.annotations, split.images, classes),
            "categories": _corrected_categories(content.categories, classes),
        }
        pieces = {
            key: [part.text()] if isinstance(part, JsonText) else list_pieces(lists[key])
            for key, part in content.parts.items()
        }
        copy.parent.mkdir(parents=True, exist_ok=True)
        with copy.open("w", encoding="utf-8") as file:
            file.writelines(member_pieces(pieces))


def _corrected_images(entries: JsonEntries, images: ImageTable) -> Iterator[Entry]:
    """The entries of these images, of which each is the first with its id."""
    keys = np.fromiter((id_key(entry.get("id")) for entry in entries), np.int64, len(entries))
    known, first = np.unique(keys, return_index=True)
    for image in images:
        entry = entries[int(first[np.searchsorted(known, id_key(image.image_id))])]
        size = image.image_size
        yield entry if size is None else entry | {"height": size[0], "width": size[1]}


def _corrected_annotations(entries: JsonEntries, images: ImageTable, classes: Classes) -> Iterator[Entry]:
    """The entries of these images' objects, with ids that agree in type and occur once."""
    repeated, new_ids = repeated_ids(entries), classes.new_ids()
    unused_ids = itertools.count(1 + (_highest_id(entries) if repeated else 0))
    for index, obj, image_id in _in_order(images):
        entry = entries[index]
        category_id = to_number_id(entry["category_id"])
        assert category_id is not None, "the object has its class by it"
        values: Entry = {"image_id": image_id, "category_id": new_ids.get(category_id, category_id)}
        values |= {"id": next(unused_ids)} if index in repeated else {}
        values |= {flag: int(to_flag(entry[flag])) for flag in _FLAGS if isinstance(entry.get(flag), str)}
        yield _with_values(_with_object(entry, obj), values)


def _highest_id(entries: JsonEntries) -> int:
    return max((to_number_id(entry.get("id")) or 0 for entry in entries), default=0)


def _in_order(images: ImageTable) -> Iterator[tuple[int, ObjectAnnotation, Id]]:
    """The index of each object, the object and the id of its image, in the order of the file."""
    indices, positions = array("q"), array("I")  # of the objects, and of their images
    for position, image in enumerate(images):
        indices.extend(obj.index for obj in image.objects)
        positions.extend([position] * len(image.objects))
    last, objects = -1, dict[int, ObjectAnnotation]()
    image_id: Id = 0
    for place in map(int, np.argsort(np.frombuffer(indices, np.int64))):
        if positions[place] != last:
            last = positions[place]
            image = images[last]
            image_id, objects = image.image_id, {obj.index: obj for obj in image.objects}
        yield indices[place], objects[indices[place]], image_id


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
