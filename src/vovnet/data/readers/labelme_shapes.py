"""The shapes in labelme's files as objects, and objects as shapes."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vovnet.data.dataset import Box, ObjectAnnotation, is_valid_box, to_number
from vovnet.data.readers.coco_fields import to_flag
from vovnet.data.readers.shapes import (
    NOTHING,
    Outline,
    Point,
    ellipse,
    fitted_polygons,
    from_bitmap,
    join,
    polygon,
    rectangle,
)
from vovnet.limits import check_limit
from vovnet.media.image_opening import open_image
from vovnet.media.pixels import explained_damage, image_header_size
from vovnet.printing import line, quoted

Shape = dict[str, Any]

NO_AREA = ("point", "points", "line", "linestrip")
IGNORED = frozenset({"__ignore__", "_background_"})  # labelme's names for what is no object

_POLYGONS = ("polygon", "circle")
_MODES = ("1", "L", "P", "I;16")  # Pillow's modes of a mask with one channel
_MOST_COVERED = 20  # how often the masks of an image may cover it; more takes seconds


def label_of(shape: object) -> str | None:
    """The class of a shape; None if it has none."""
    label = shape.get("label") if isinstance(shape, dict) else None
    return label if isinstance(label, str) and label.strip() else None


def type_of(shape: Shape) -> str:
    """The first versions drew only polygons, and did not say so."""
    return str(shape.get("shape_type") or "polygon")


def objects_of(shapes: Sequence[object]) -> list[list[int]]:
    """The positions of the shapes of each object. Polygons of one label and one group_id are parts of an object."""
    objects: dict[object, list[int]] = {}
    for index, shape in enumerate(shapes):
        key: object = index
        if isinstance(shape, dict) and label_of(shape) and type_of(shape) in _POLYGONS:
            group = shape.get("group_id")
            key = (shape["label"], group) if isinstance(group, int) and not isinstance(group, bool) else index
        objects.setdefault(key, []).append(index)
    return list(objects.values())


@dataclass
class ShapeReader:
    """Reads the shapes of an image.

    size: (height, width) that the file states, if it does.
    """

    image_path: Path
    size: tuple[int, int] | None
    _masked_pixels: int = 0

    def read(self, index: int, shapes: Sequence[Shape]) -> ObjectAnnotation:
        """The object of these shapes, the first of which is at a position. ValueError for a mask that is damaged."""
        first = shapes[0]
        flags = first.get("flags")
        difficult = to_flag(first.get("difficult")) or (isinstance(flags, dict) and to_flag(flags.get("difficult")))
        if type_of(first) == "mask":
            box, mask, area = self._read_mask(first)
        else:
            outline = join([_outline(shape) for shape in shapes])
            box, mask, area = outline.box, outline.mask(), outline.area()
        stated = "" if is_valid_box(box) else f"{line(type_of(first), 20)}: points {_text(first.get('points'))}"
        label = first["label"]
        return ObjectAnnotation(index, label, box, difficult=difficult, area=area, mask=mask, stated=stated)

    def _read_mask(self, shape: Shape) -> tuple[Box, object, float | None]:
        points, text = _points(shape), shape.get("mask")
        if len(points) != 2 or not isinstance(text, str):
            raise ValueError("a mask needs two points and the base64 text of a PNG")
        left, top, right, bottom = rectangle(points).box
        if not np.isfinite([left, top, right, bottom]).all() or max(map(abs, (left, top, right, bottom))) > 1e9:
            raise ValueError(f"a mask has the points {_text(shape['points'])}, which are no pixels")
        size = self.size or image_header_size(self.image_path)
        found = from_bitmap(self._decode(text, size), int(top), int(left), size)
        if found is None:  # the check says so
            empty = {"size": list(size), "counts": [size[0] * size[1]]}
            return (float(int(left)), float(int(top)), float(int(right) + 1), float(int(bottom) + 1)), empty, None
        return found

    def _decode(self, text: str, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """The pixels of a mask, which is no larger than the image."""
        pixels = size[0] * size[1]
        check_limit("image_pixels", pixels, "the image")
        try:
            data = base64.b64decode(text, validate=True)
        except ValueError:
            raise ValueError("its mask is not base64 text") from None
        with open_image(data, ("PNG",)) as (image, _), explained_damage("its mask"):
            if image.width > size[1] + 1 or image.height > size[0] + 1:
                raise ValueError(f"its mask has {image.width} × {image.height} pixels, the image {size[1]} × {size[0]}")
            if image.mode not in _MODES:
                raise ValueError(f"its mask has several channels (mode {image.mode})")
            self._masked_pixels += image.width * image.height
            if self._masked_pixels > _MOST_COVERED * pixels + 10**6:
                raise ValueError(f"the masks before it cover the image {_MOST_COVERED} times")
            crop: npt.NDArray[np.bool_] = np.asarray(image) > 0
        return crop


def _outline(shape: Shape) -> Outline:
    points, kind = _points(shape), type_of(shape)
    if kind == "circle":
        if len(points) != 2:
            return NOTHING
        (x, y), (rim_x, rim_y) = points
        radius = float(np.hypot(rim_x - x, rim_y - y))
        return ellipse((x, y), (radius, radius)) if radius > 0 else NOTHING
    return polygon(points) if kind == "polygon" else rectangle(points)


def _points(shape: Shape) -> list[Point]:
    points = shape.get("points")
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        return []
    return [(to_number(x), to_number(y)) for x, y in points]


def _text(points: object) -> str:
    return line(quoted(points, 150), 150)


def corrected_shapes(
    shapes: Sequence[Shape], objects: Mapping[int, ObjectAnnotation], reader: ShapeReader
) -> list[Shape]:
    """The shapes of these objects, by the position of the first one, and those of what is no object."""
    corrected: dict[int, Shape] = {}
    for indices in objects_of(shapes):
        parts = [shapes[index] for index in indices]
        obj = objects.get(indices[0])
        if obj is not None:
            unchanged = reader.read(indices[0], parts).box == obj.box
            corrected |= zip(indices, parts if unchanged else _with_box(parts, obj), strict=False)
        elif label_of(parts[0]) in IGNORED:
            corrected |= zip(indices, parts, strict=True)
    return [corrected[index] for index in sorted(corrected)]


def _with_box(parts: Sequence[Shape], obj: ObjectAnnotation) -> list[Shape]:
    polygons = fitted_polygons(obj)
    if polygons is not None and len(polygons) == len(parts):
        fitted = [[list(point) for point in points] for points in polygons]
        pairs = zip(parts, fitted, strict=True)
        return [part | {"shape_type": "polygon", "points": points} for part, points in pairs]
    x1, y1, x2, y2 = obj.box
    return [parts[0] | {"shape_type": "rectangle", "points": [[x1, y1], [x2, y2]], "mask": None}]
