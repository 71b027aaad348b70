"""Boxes and polygons of what was drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vovnet.data.dataset import ObjectAnnotation
from vovnet.data.readers.shapes import ellipse, fitted_polygons, polygon, rectangle


@pytest.mark.parametrize("radius", [0.5, 3, 10, 200, 5000])
def test_a_circle_is_a_polygon_close_to_it(radius: float) -> None:
    outline = ellipse((7, 9), (radius, radius))
    x, y = np.array(outline.polygons[0]).reshape(-1, 2).T
    middles = np.hypot((x + np.roll(x, 1)) / 2 - 7, (y + np.roll(y, 1)) / 2 - 9)
    assert np.hypot(x - 7, y - 9) == pytest.approx(np.full(len(x), radius))
    assert (radius - middles).max() <= 0.26
    assert (x.min(), y.min(), x.max(), y.max()) == pytest.approx(outline.box)
    assert outline.area() == pytest.approx(math.pi * radius**2, rel=0.05)


def test_areas() -> None:
    """Of a square with a corner cut off, far from the origin, whichever way it goes round."""
    corners = [(1e5, 1e5), (1e5 + 4, 1e5), (1e5 + 4, 1e5 + 2), (1e5 + 2, 1e5 + 4), (1e5, 1e5 + 4)]
    assert polygon(corners).area() == polygon(corners[::-1]).area() == 14
    assert rectangle(corners[:2]).area() is None


@pytest.mark.parametrize("box", [(0, 0, 10, 10), (2, 3, 8, 9), (-1, 0, 11, 12), (0, 5, 10, 6)])
def test_polygons_fit_a_box(box: tuple[float, float, float, float]) -> None:
    parts = [[0.0, 0.0, 10.0, 0.0, 10.0, 4.0], [5.0, 5.0, 9.0, 10.0, 1.0, 10.0]]
    fitted = fitted_polygons(ObjectAnnotation(0, "cat", box, mask=parts))
    assert fitted is not None
    assert [len(part) for part in fitted] == [3, 3]
    points = np.array([point for part in fitted for point in part])
    assert (*points.min(axis=0), *points.max(axis=0)) == box
