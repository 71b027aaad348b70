"""The problems of one image's annotation, and the annotation without them."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vovnet.data.checking.image_scan import ImageScan, Scans
from vovnet.data.checking.problem import Problem, Removal, name_in
from vovnet.data.dataset import Box, ImageAnnotation, ObjectAnnotation, SplitAnnotations, is_valid_box, size_text
from vovnet.data.keys import Integers
from vovnet.errors import did_you_mean
from vovnet.masks import RleMasks, find_polygons, from_coco
from vovnet.media.orientation import means_stored_pixels
from vovnet.printing import line, quoted

NO_OBJECT_LEFT = "no-object-left"  # why an image is left out whose objects all have faults

_EDGE_TOLERANCE = 0.5  # pixels beyond the edge that count as rounding
# How far a side of a box may be from that of its mask: in pixels, or as a fraction of the box's width or height,
# whichever is larger. Polygons thinner than a pixel leave nothing in a mask, so COCO's own boxes are up to 6 pixels or
# 10 % too long.
_MASK_TOLERANCE_PIXELS, _MASK_TOLERANCE_FRACTION = 6.0, 0.1

_MOST_ALIKE = 100  # objects of one box and class whose masks are compared

_KindAndDetail = tuple[str, str]


@dataclass(frozen=True)
class Repair:
    """An image's annotation, mended.

    problems: those of the image by itself.
    left_out: those of them for which an object is left out.
    image: what remains of the annotation; None if the image is left out.
    why_left_out: (kind, detail) if the image is left out; the kind is NO_OBJECT_LEFT or that of a problem.
    """

    problems: tuple[_KindAndDetail, ...]
    left_out: tuple[_KindAndDetail, ...] = ()
    image: ImageAnnotation | None = None
    why_left_out: _KindAndDetail = ("", "")


def repair_image(
    image: ImageAnnotation, scan: ImageScan, known_classes: Collection[str] | None, needs_masks: bool
) -> Repair:
    """The problems of an image by itself, and its annotation without them.

    An image whose objects all have faults is left out: without them it would teach that nothing is there. So is one
    that was resized after it was annotated: no box of it can be trusted.

    known_classes: names that objects may have; None allows all.
    needs_masks: every object must have a valid mask. Without it masks are not looked at.
    """
    if scan.error:
        unreadable = ("unreadable-image", scan.error)
        return Repair((unreadable,), why_left_out=unreadable)
    problems, left_out = [], []
    true_size = scan.image_size
    if image.image_size and image.image_size != true_size:
        if means_stored_pixels(image.image_size, true_size, scan.orientation):
            true_size = image.image_size  # that of the boxes and masks
        else:
            stated, true = size_text(image.image_size), size_text(true_size)
            mismatch = ("size-mismatch", f"stated {stated} pixels (width × height), the image has {true}")
            if fitting := [obj for obj in image.objects if _fits_only(image.image_size, true_size, obj.box)]:
                detail = f"{mismatch[1]}, and {describe_box(fitting[0])} fits only the stated size: resized since?"
                return Repair((("size-mismatch", detail),), why_left_out=("size-mismatch", detail))
            problems.append(mismatch)
    kept: dict[object, list[tuple[ObjectAnnotation, object]]] = {}  # by class and box: objects and their masks
    for obj in image.objects:
        object_problems, repaired, mask_code = _repair_object(obj, true_size, known_classes, needs_masks)
        problems += object_problems
        if repaired is None:
            left_out.append(object_problems[-1])
            continue
        mask = mask_code if needs_masks else obj.mask
        same_box = kept.setdefault((obj.class_name, obj.crowd, *(round(corner, 2) for corner in repaired.box)), [])
        same = next(
            (i for i, (_, other) in enumerate(same_box[:_MOST_ALIKE]) if None in (mask, other) or mask == other), None
        )
        if same is None:
            same_box.append((repaired, mask))
            continue
        duplicate = obj
        if _usefulness(obj) > _usefulness(same_box[same][0]):
            duplicate, same_box[same] = same_box[same][0], (repaired, mask)
        problems.append(("duplicate-box", describe_box(duplicate)))
        left_out.append(problems[-1])
    objects = tuple(sorted((obj for same_box in kept.values() for obj, _ in same_box), key=lambda obj: obj.index))
    if not objects and (image.objects or image.unusable_objects):
        why = (NO_OBJECT_LEFT, "every object annotated in it is left out")
        return Repair(tuple(problems), tuple(left_out), why_left_out=why)
    size = image.image_size and true_size
    if size == image.image_size and objects == image.objects:
        return Repair(tuple(problems), tuple(left_out), image)  # the same, which takes no memory twice
    return Repair(tuple(problems), tuple(left_out), replace(image, objects=objects, image_size=size))


class Repairs:
    """Repairs the images of splits, and collects what is wrong with them.

    losing: the images without some of their objects.
    """

    def __init__(self, folder: Path, scans: Scans, class_names: Sequence[str] | None) -> None:
        self.folder, self.scans, self.class_names = folder, scans, class_names
        self.problems: list[Problem] = []
        self.removed: list[Removal] = []
        self.losing: set[Path] = set()

    def repair(self, split: SplitAnnotations, reported: Integers, needs_masks: bool) -> SplitAnnotations:
        """The split without the problems that an image has by itself. reported: the keys of images to say them of."""
        says = iter(np.isin(split.images.keys, reported).tolist())

        def repair_one(image: ImageAnnotation) -> ImageAnnotation | None:
            repair = repair_image(image, self.scans[image.image_path], self.class_names, needs_masks)
            if image.unusable_objects or any(kind != "duplicate-box" for kind, _ in repair.left_out):
                self.losing.add(image.image_path)
            if next(says) and (repair.problems or repair.image is None):
                name = name_in(image.image_path, self.folder)
                self.problems += [Problem(kind, split.split, name, detail) for kind, detail in repair.problems]
                self.removed += [Removal("object", kind, split.split, name, text) for kind, text in repair.left_out]
                if repair.image is None:
                    kind, detail = repair.why_left_out
                    self.removed.append(Removal("image", kind, split.split, name, detail))
            return repair.image

        return replace(split, images=split.images.changed(repair_one))


def _fits_only(stated_size: tuple[int, int], true_size: tuple[int, int], box: Box) -> bool:
    """Whether a box lies in an image of the stated size, but not in the image."""
    if not is_valid_box(box):
        return False
    beyond_stated, beyond_true = (
        max(-box[0], -box[1], box[2] - width, box[3] - height) for height, width in (stated_size, true_size)
    )
    return beyond_stated <= _EDGE_TOLERANCE < beyond_true


def _usefulness(obj: ObjectAnnotation) -> tuple[bool, bool, bool]:
    """Sorts the object to keep of two with the same box last."""
    return not obj.difficult, obj.mask is not None, obj.area is not None


def _repair_object(
    obj: ObjectAnnotation, image_size: tuple[int, int], known_classes: Collection[str] | None, needs_mask: bool
) -> tuple[list[_KindAndDetail], ObjectAnnotation | None, bytes]:
    """The problems of an object, the object corrected or None to leave it out, and the code of its mask."""
    if known_classes is not None and obj.class_name not in known_classes:
        hint = did_you_mean(obj.class_name, known_classes)
        return [("unknown-class", f"object {obj.index + 1}: {quoted(obj.class_name)} is not known{hint}")], None, b""
    name = f"object {obj.index + 1} ({line(obj.class_name, 60)})" if needs_mask else ""
    polygons, others = find_polygons(obj.mask) if needs_mask else ([], "")
    mask = polygons if polygons and others else obj.mask
    bad_polygon = [("bad-polygon", f"{name}: its mask also holds {others}")] if polygons and others else []
    kind, box = _check_box(obj.box, image_size)
    if kind not in ("", "box-partly-outside"):
        code, mask_box = _box_of_mask(mask, image_size) if needs_mask else (b"", None)
        if mask_box is None:
            return [(kind, describe_box(obj))], None, b""
        detail = f"{describe_box(obj)}; its mask has a valid box, which is written"
        return [(kind, detail), *bad_polygon], replace(obj, box=mask_box, mask=mask), code
    problems = [(kind, describe_box(obj))] if kind else []
    if not needs_mask:
        return problems, replace(obj, box=box) if kind else obj, b""
    kind, detail, box, mask_code = _check_mask(mask, box, image_size)
    problems += bad_polygon + ([(kind, f"{name}: {detail}")] if kind else [])
    usable = kind in ("", "mask-box-mismatch")
    return problems, replace(obj, box=box, mask=mask) if usable else None, mask_code


def _check_box(box: Box, image_size: tuple[int, int]) -> tuple[str, Box]:
    """The kind of problem, "" for none, and the box, clipped if necessary."""
    x1, y1, x2, y2 = box
    height, width = image_size
    if not all(map(math.isfinite, box)):
        return "not-a-number", box
    if not is_valid_box(box):
        return ("inverted-box" if x2 < x1 or y2 < y1 else "empty-box"), box
    if max(-x1, -y1, x2 - width, y2 - height) <= _EDGE_TOLERANCE:
        return "", box
    clipped = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if clipped[2] - clipped[0] < 1 or clipped[3] - clipped[1] < 1:
        return "box-outside", box
    return "box-partly-outside", clipped


def _box_of_mask(mask: object, image_size: tuple[int, int]) -> tuple[bytes, Box | None]:
    """The code of a mask and the box around it; None for a mask that is malformed or covers no pixel."""
    try:
        code = from_coco(mask, image_size)
    except ValueError:
        return b"", None
    x1, y1, x2, y2 = RleMasks((code,), image_size).boxes()[0].tolist()
    return code, ((x1, y1, x2, y2) if x2 > x1 else None)


def _check_mask(mask: object, box: Box, image_size: tuple[int, int]) -> tuple[str, str, Box, bytes]:
    """The kind of problem ("" for none), its detail, the box (the mask's if they do not fit), the mask's code."""
    if mask is None:
        return "missing-mask", "there is no mask", box, b""
    try:
        code = from_coco(mask, image_size)
    except ValueError as error:
        other_size = isinstance(mask, dict) and isinstance(mask.get("size"), list) and mask["size"] != list(image_size)
        return ("mask-size" if other_size else "bad-mask"), str(error), box, b""
    x1, y1, x2, y2 = mask_box = tuple(RleMasks((code,), image_size).boxes()[0].tolist())
    if x2 <= x1:
        return "empty-mask", "the mask covers no pixel of the image", box, code
    left, top, right, bottom = box
    detail = f"box x1 y1 x2 y2 = {_spaced(box)}, the box of its mask = {_spaced(mask_box)}"
    if x1 >= right or y1 >= bottom or x2 <= left or y2 <= top:
        return "mask-elsewhere", detail, box, code
    x_tolerance, y_tolerance = (
        max(_MASK_TOLERANCE_PIXELS, _MASK_TOLERANCE_FRACTION * length) for length in (right - left, bottom - top)
    )
    if max(abs(x1 - left), abs(x2 - right)) > x_tolerance or max(abs(y1 - top), abs(y2 - bottom)) > y_tolerance:
        return "mask-box-mismatch", detail, (x1, y1, x2, y2), code
    return "", "", box, code


def describe_box(obj: ObjectAnnotation) -> str:
    """An object's number, class and box, as the file states it."""
    corners = obj.stated or f"x1 y1 x2 y2 = {_spaced(obj.box)}"
    return f"object {obj.index + 1} ({line(obj.class_name, 60)}): {corners}"


def _spaced(box: Box) -> str:
    return " ".join(f"{corner:g}" for corner in box)
