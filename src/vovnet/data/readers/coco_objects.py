"""The objects that a COCO file annotates, image by image, however the file orders them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vovnet.data.dataset import ImageAnnotation, ObjectAnnotation, to_image_size, to_number
from vovnet.data.images import annotated_orientation
from vovnet.data.keys import Integers, are_repeated
from vovnet.data.readers.coco_classes import Classes
from vovnet.data.readers.coco_fields import (
    Entry,
    parse_box,
    stated_box,
    stated_mask,
    to_flag,
    to_id,
    to_number_id,
)
from vovnet.data.readers.coco_images import LEFT_OUT, Id, ListedImages, id_key
from vovnet.data.readers.ordered_problems import OrderedProblems
from vovnet.json_entries import JsonEntries
from vovnet.printing import line, quoted


def ids_of(annotation: Entry) -> tuple[int, int]:
    """What is kept of each annotation: the `id_key` of itself and of its image."""
    return id_key(annotation.get("id")), id_key(annotation.get("image_id"))


@dataclass(frozen=True)
class ObjectReader:
    """Reads the annotations of a file."""

    path: Path
    annotations: JsonEntries
    classes: Classes
    problems: OrderedProblems

    def images(self, listed: ListedImages) -> Iterator[ImageAnnotation]:
        """The images with their objects. The problems of all are found when the last one was given."""
        owners = listed.owners(self.annotations.take_noted(1), self.annotations)
        for index in np.flatnonzero(owners < 0).tolist():
            self._read_without_image(index, int(owners[index]))
        order = np.argsort(owners, kind="stable")
        ends = np.searchsorted(owners, np.arange(len(listed.table)), side="right", sorter=order)
        start = int(np.count_nonzero(owners < 0))
        del owners
        for image, end in zip(listed.table, ends, strict=True):
            yield self._with_objects(image, order[start:end])
            start = end

    def _read_without_image(self, index: int, owner: int) -> None:
        annotation = self.annotations[index]
        if owner == LEFT_OUT:
            detail = f"is of image {quoted(annotation.get('image_id'))}, which is not listed or left out"
            self._report(index, "annotation-without-image", annotation, detail)
        else:
            self._find_class(index, annotation)

    def _with_objects(self, image: ImageAnnotation, indices: Integers) -> ImageAnnotation:
        objects, unusable = [], 0
        for index in indices.tolist():
            annotation = self.annotations[index]
            class_name = self._find_class(index, annotation)
            if class_name is None:
                unusable += 1
            else:
                objects.append(_to_object(index, annotation, class_name))
        size = image.image_size or _stored_size(image.image_path, objects)
        return replace(image, objects=tuple(objects), unusable_objects=unusable, image_size=size)

    def _find_class(self, index: int, annotation: Entry) -> str | None:
        """The class, or None after a problem was reported."""
        category_id = to_number_id(annotation.get("category_id"))
        if category_id in self.classes.by_id:
            return self.classes.by_id[category_id]
        detail = f"has the category id {quoted(annotation.get('category_id'))}, which is not listed"
        self._report(index, "unknown-class", annotation, detail)
        return None

    def _report(self, index: int, kind: str, annotation: Entry, detail: str) -> None:
        stated = annotation.get("id", index)
        name = line(stated) if isinstance(stated, str) else quoted(stated)
        self.problems.position = index
        self.problems.add(kind, self.path, f"annotation {name} {detail}")


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


def repeated_ids(annotations: JsonEntries) -> dict[int, Id]:
    """Position → id of each annotation whose id another one before it has, and which is not that one again."""
    first: dict[Id, int] = {}
    repeated = {}
    for index in np.flatnonzero(are_repeated(annotations.take_noted(0))).tolist():
        annotation = annotations[index]
        annotation_id = to_id(annotation.get("id"))
        if annotation_id is None:
            continue
        before = first.setdefault(annotation_id, index)
        if before != index and annotations[before] != annotation:
            repeated[index] = annotation_id
    return repeated
