"""The shapes of CVAT's own XML, as boxes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from vovnet.data.dataset import Box, box_around_turned, to_number
from vovnet.data.readers.shapes import NOTHING, ellipse, polygon, rectangle
from vovnet.printing import line

Attributes = Mapping[str, str]

NO_AREA = ("polyline", "points", "skeleton")  # a box around them would be a guess
WITH_BOX = ("box", "polygon", "ellipse", "cuboid", "mask")
SHAPES = (*WITH_BOX, *NO_AREA)
_ABOUT_ELSE = ("label", "source", "occluded", "rle", "z_order", "group_id", "frame", "outside", "keyframe")


def shape_box(tag: str, attributes: Attributes) -> Box:
    """The box of a shape, in pixels from the corner of the image; NaN where the file has no number.

    tag: one of WITH_BOX. A turned box or ellipse gets the box around it.
    """
    if tag == "box":
        return _box(attributes)
    if tag == "polygon":
        return _polygon(attributes.get("points", ""))
    if tag == "ellipse":
        x, y, across, down = (to_number(attributes.get(name)) for name in ("cx", "cy", "rx", "ry"))
        return ellipse((x, y), (across, down), _rotation(attributes)).box
    if tag == "mask":
        left, top, width, height = (to_number(attributes.get(name)) for name in ("left", "top", "width", "height"))
        return left, top, left + width, top + height
    corners = {name: to_number(value) for name, value in attributes.items() if name[:1] in "xy" and name[-1:].isdigit()}
    xs, ys = ([value for name, value in corners.items() if name[0] == axis] for axis in "xy")
    return rectangle(list(zip(xs, ys, strict=True))).box if len(xs) == len(ys) == 8 else NOTHING.box


def state(tag: str, attributes: Attributes) -> str:
    """The shape as the file writes it, shortened."""
    stated = (f"{name} {value}" for name, value in attributes.items() if name not in _ABOUT_ELSE)
    return line(f"{tag}: {', '.join(stated) or 'empty'}", 200)


def _box(attributes: Attributes) -> Box:
    x1, y1, x2, y2 = (to_number(attributes.get(name)) for name in ("xtl", "ytl", "xbr", "ybr"))
    degrees = _rotation(attributes)
    if not math.isfinite(degrees):
        return NOTHING.box
    if degrees % 180 == 0 or not (x2 > x1 and y2 > y1):
        return x1, y1, x2, y2
    return box_around_turned(((x1 + x2) / 2, (y1 + y2) / 2), (x2 - x1, y2 - y1), degrees)


def _polygon(points: str) -> Box:
    """The points are "x,y;x,y;…"."""
    pairs = [[to_number(value) for value in point.split(",")] for point in points.split(";")]
    if any(len(pair) != 2 for pair in pairs):
        return NOTHING.box
    return polygon([(x, y) for x, y in pairs]).box


def _rotation(attributes: Attributes) -> float:
    return to_number(attributes.get("rotation", "0"))
