"""The shapes that labelling tools draw, as boxes and polygons in pixels, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vovnet.data.dataset import Box, ObjectAnnotation
from vovnet.run_lengths import encode_crop

_NO_BOX: Box = (math.nan,) * 4
_FEWEST_CORNERS = 12  # of a polygon for an ellipse; a multiple of 4, so that it meets the box around a circle
_FLATTEST = 0.25  # pixels that its edges may lie inside the ellipse
_MOST_CORNERS = 360

Point = tuple[float, float]


@dataclass(frozen=True)
class Outline:
    """What a shape covers.

    box: x1 y1 x2 y2; NaN where the shape has no box.
    polygons: COCO's lists [x1, y1, x2, y2, …]; empty for a shape that says no more than its box.
    """

    box: Box
    polygons: tuple[list[float], ...] = ()

    def mask(self) -> list[list[float]] | None:
        return list(self.polygons) or None

    def area(self) -> float | None:
        """Pixels that the polygons cover, if they do not overlap; None without them."""
        area = sum(map(_polygon_area, self.polygons))
        return area if 0 < area < math.inf else None


NOTHING = Outline(_NO_BOX)


def rectangle(points: Sequence[Point]) -> Outline:
    """The box around two or more corners in any order; one of no size stays one."""
    return Outline(_extent(points)) if len(points) >= 2 else NOTHING


def polygon(points: Sequence[Point]) -> Outline:
    box = _extent(points)
    if len(points) < 3 or not math.isfinite(box[0]):
        return NOTHING
    return Outline(box, ([value for point in points for value in point],))


def ellipse(centre: Point, radii: Point, degrees: float = 0.0) -> Outline:
    """An ellipse that is turned clockwise about its centre."""
    (x, y), (across, down) = centre, radii
    if not all(map(math.isfinite, (x, y, across, down, degrees))) or across < 0 or down < 0:
        return NOTHING
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    half_width, half_height = math.hypot(across * cosine, down * sine), math.hypot(across * sine, down * cosine)
    box = (x - half_width, y - half_height, x + half_width, y + half_height)
    largest = max(across, down)
    needed = min(math.pi * math.sqrt(largest / 2 / _FLATTEST), _MOST_CORNERS)
    count = max(4 * math.ceil(needed / 4), _FEWEST_CORNERS)
    corners: list[float] = []
    for step in range(count):
        u, v = across * math.cos(math.tau * step / count), down * math.sin(math.tau * step / count)
        corners += [x + u * cosine - v * sine, y + u * sine + v * cosine]
    return Outline(box, (corners,))


def join(outlines: Sequence[Outline]) -> Outline:
    """One outline of the parts of an object. It has polygons if all the parts have."""
    corners = [point for outline in outlines for point in (outline.box[:2], outline.box[2:])]
    polygons = tuple(part for outline in outlines for part in outline.polygons)
    return Outline(_extent(corners), polygons if all(outline.polygons for outline in outlines) else ())


def from_bitmap(
    bitmap: npt.NDArray[np.bool_], top: int, left: int, size: tuple[int, int]
) -> tuple[Box, dict[str, object], float] | None:
    """Box, COCO's mask and area of the pixels that are set; None if none of them is in the image.

    bitmap: a part of the image, or reaching beyond it, with its first pixel at (top, left).
    size: (height, width) of the image.
    """
    height, width = size
    inside = bitmap[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return None
    inside = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    x, y = max(left, 0) + int(columns[0]), max(top, 0) + int(rows[0])
    box = (float(x), float(y), float(x + inside.shape[1]), float(y + inside.shape[0]))
    mask: dict[str, object] = {"size": [height, width], "counts": encode_crop(inside, y, x, size).decode()}
    return box, mask, float(inside.sum())


def fitted_polygons(obj: ObjectAnnotation) -> list[list[Point]] | None:
    """The corners of the object's polygons, moved so that the box around them is that of the object.

    What lies outside the box is moved to its edge, as where an image ends; what is left is stretched, by less than a
    pixel where a box comes from the pixels of a mask. None if the object has no polygons.
    """
    if not isinstance(obj.mask, list):
        return None
    x1, y1, x2, y2 = obj.box
    columns = _fit([value for part in obj.mask for value in part[0::2]], x1, x2)
    rows = _fit([value for part in obj.mask for value in part[1::2]], y1, y2)
    points, fitted = list(zip(columns, rows, strict=True)), []
    for part in obj.mask:
        fitted.append(points[: len(part) // 2])
        points = points[len(part) // 2 :]
    return fitted


def _fit(values: Sequence[float], low: float, high: float) -> list[float]:
    inside = [min(max(value, low), high) for value in values]
    least, most = min(inside), max(inside)
    if most <= least:  # there is nothing to stretch
        return [low if index % 2 else high for index in range(len(inside))]
    scale = (high - low) / (most - least)
    return [low if value == least else high if value == most else low + (value - least) * scale for value in inside]


def _extent(points: Sequence[Sequence[float]]) -> Box:
    xs, ys = zip(*points, strict=True) if points else ((math.nan,), (math.nan,))
    if not all(map(math.isfinite, (*xs, *ys))):
        return _NO_BOX
    return min(xs), min(ys), max(xs), max(ys)


def _polygon_area(part: Sequence[float]) -> float:
    xs, ys = part[0::2], part[1::2]
    x0, y0 = xs[0], ys[0]  # near the corners, so that no digits are lost
    doubled = sum((xs[i - 1] - x0) * (ys[i] - y0) - (xs[i] - x0) * (ys[i - 1] - y0) for i in range(len(xs)))
    return abs(doubled) / 2
