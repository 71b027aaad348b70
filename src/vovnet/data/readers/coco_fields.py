"""What the fields of COCO's entries mean, in whichever of the usual ways a program writes them."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from vovnet.data.dataset import Box, box_around_turned, to_number
from vovnet.masks import find_polygons
from vovnet.printing import line, quoted

Entry = dict[str, Any]

_LONGEST_TEXT = 100  # characters of the file that a problem repeats


def to_id(value: object) -> int | str | None:
    """The id that a file states, or None for what can be none. 7.0 is 7. A number has at most 18 digits."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 10**18 or value % 1:
        return None
    return int(value)


def to_number_id(value: object) -> int | None:
    """The id as a number, which is equal for 7, 7.0, "7" and "007"; None if it is none."""
    value = to_id(value)
    if isinstance(value, str):
        return (
            int(value.partition(".")[0])
            if len(value) < 100 and re.fullmatch(r"\s*[+-]?[0-9]{1,18}(\.0*)?\s*", value)
            else None
        )
    return value


def to_flag(value: object) -> bool:
    """Whether a flag is set: any number but 0 sets it, also as text, and so do true, "true" and "yes"."""
    number = to_number(value)
    if math.isnan(number):
        return isinstance(value, str) and value.strip().lower() in ("true", "yes")
    return number != 0


def parse_box(annotation: Entry) -> Box:
    """x1 y1 x2 y2; NaN where the file has no number.

    CVAT states the box of a turned rectangle as it was before it was turned, and the angle beside it. The box is then
    that of the polygons, or around the turned rectangle if there are none.
    """
    bbox = annotation.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4:
        return (math.nan,) * 4
    x, y, width, height = map(to_number, bbox)
    degrees = rotation(annotation)
    if not degrees or not (width > 0 and height > 0):
        return x, y, x + width, y + height
    polygons, _ = find_polygons(annotation.get("segmentation"))
    if not polygons:
        return box_around_turned((x + width / 2, y + height / 2), (width, height), degrees)
    xs, ys = ([value for polygon in polygons for value in polygon[axis::2]] for axis in (0, 1))
    return min(xs), min(ys), max(xs), max(ys)


def rotation(annotation: Entry) -> float:
    """Degrees clockwise by which the box is turned; 0 if that leaves it as it is."""
    attributes = annotation.get("attributes")
    degrees = to_number(attributes.get("rotation")) if isinstance(attributes, dict) else 0.0
    return degrees if math.isfinite(degrees) and degrees % 180 else 0.0


def stated_box(annotation: Entry) -> str:
    """The box as the file writes it, cut to a legible length."""
    if "bbox" not in annotation:
        return "it has no bbox"
    try:
        text = json.dumps(annotation["bbox"], ensure_ascii=False)
    except RecursionError:
        text = quoted(annotation["bbox"])
    return f"bbox {line(text, _LONGEST_TEXT)}"


def stated_mask(annotation: Entry) -> object:
    """The segmentation, or None for the various ways in which datasets without masks leave it empty.

    A list that only holds a run-length object is that object.
    """
    mask = annotation.get("segmentation")
    if isinstance(mask, list) and len(mask) == 1 and isinstance(mask[0], dict):
        mask = mask[0]
    return mask if mask and mask != [[]] else None
