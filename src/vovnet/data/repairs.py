"""The problems of one image's annotation, and the annotation without them."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

from vovnet.data.dataset import Box, ImageAnnotation, ObjectAnnotation, is_valid_box
from vovnet.data.image_scan import ImageScan
from vovnet.errors import did_you_mean
from vovnet.masks import RleMasks, from_coco

_EDGE_TOLERANCE = 0.5  # pixels beyond the edge that count as rounding
# How far a side of a box may be from that of its mask: in pixels, or as a fraction of the box's width or height,
# whichever is larger. Polygons thinner than a pixel leave nothing in a mask, so COCO's own boxes are up to 6 pixels or
# 10 % too long.
_MASK_TOLERANCE_PIXELS, _MASK_TOLERANCE_FRACTION = 6.0, 0.1

_KindAndDetail = tuple[str, str]


def repair_image(
    image: ImageAnnotation, scan: ImageScan, known_classes: Collection[str] | None, needs_masks: bool
) -> tuple[list[_KindAndDetail], ImageAnnotation | None]:
    """The problems (kind, detail) of an image by itself, and what remains of its annotation; None for nothing.

    known_classes: names that objects may have; None allows all.
    needs_masks: every object must have a valid mask. Without it masks are not looked at.
    """
    if scan.error:
        return [("unreadable-image", scan.error)], None
    problems = []
    if image.image_size and image.image_size != scan.image_size:
        stated, true = (f"{width} × {height}" for height, width in (image.image_size, scan.image_size))
        problems.append(("size-mismatch", f"stated {stated} pixels (width × height), the image has {true}"))
    kept: dict[object, ObjectAnnotation] = {}  # by what makes two objects the same
    for obj in image.objects:
        object_problems, box, mask_code = _repair_object(obj, scan.image_size, known_classes, needs_masks)
        problems += object_problems
        if box is None:
            continue
        key = (obj.class_name, obj.crowd, *(round(corner, 2) for corner in box), mask_code)
        if key in kept:
            problems.append(("duplicate-box", _describe_box(obj)))
        else:
            kept[key] = replace(obj, box=box)
    size = image.image_size and scan.image_size
    return problems, replace(image, objects=tuple(kept.values()), image_size=size)


def _repair_object(
    obj: ObjectAnnotation, image_size: tuple[int, int], known_classes: Collection[str] | None, needs_mask: bool
) -> tuple[list[_KindAndDetail], Box | None, bytes]:
    """The problems of an object, its corrected box or None to leave the object out, and the code of its mask."""
    if known_classes is not None and obj.class_name not in known_classes:
        hint = did_you_mean(obj.class_name, known_classes)
        return [("unknown-class", f"object {obj.index + 1}: {obj.class_name!r} is not known{hint}")], None, b""
    kind, box = _check_box(obj.box, image_size)
    problems = [(kind, _describe_box(obj))] if kind else []
    if kind not in ("", "box-partly-outside"):
        return problems, None, b""
    if not needs_mask:
        return problems, box, b""
    kind, detail, box, mask_code = _check_mask(obj.mask, box, image_size)
    if kind:
        problems.append((kind, f"object {obj.index + 1} ({obj.class_name}): {detail}"))
    return problems, (box if kind in ("", "mask-box-mismatch") else None), mask_code


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


def _describe_box(obj: ObjectAnnotation) -> str:
    corners = obj.stated or f"x1 y1 x2 y2 = {_spaced(obj.box)}"
    return f"object {obj.index + 1} ({obj.class_name}): {corners}"


def _spaced(box: Box) -> str:
    return " ".join(f"{corner:g}" for corner in box)
