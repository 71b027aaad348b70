"""Names beside the points of a plot, placed so that none covers another, a marker or an error bar.

The adjustText package does the same, but needs SciPy, which nothing else here does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vovnet.report.plotting import choose_fonts, plain_text, set_fonts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

Boxes = npt.NDArray[np.float64]  # (n, 4), each x1 y1 x2 y2 in pixels
_SIDES = ((1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))  # (right, above), the best first
_EXTRA_DISTANCES = (0, 8, 18, 30, 44)  # points
_MARKER_RADIUS = 4.0  # points


@dataclass(frozen=True)
class Point:
    """A model in a plot. index: its position in the report, which chooses its colour and marker in every plot."""

    index: int
    label: str
    x: float
    y: float
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None


def label_points(figure: Figure, points: Sequence[Sequence[Point]], radii: Sequence[float] = ()) -> None:
    """Write each point's label beside it, as near as there is room; a thin line leads to a label further off.

    Call it last: it fixes the figure's layout.

    figure: one sequence of points for each of its axes.
    points: one with an empty label gets none, but no label covers it.
    radii: of the markers, in points, where they differ.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    choose_fonts(figure)
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    renderer = canvas.get_renderer()
    for axes, axes_points in zip(figure.axes, points, strict=False):
        with_radius = list(zip(axes_points, radii or [_MARKER_RADIUS] * len(axes_points), strict=True))
        frame = np.array([axes.get_window_extent(renderer).extents])
        taken = np.array([box.extents for point, radius in with_radius for box in _boxes(axes, point, radius)])
        for point, radius in with_radius:
            if point.label:
                box = _write_label(axes, point, radius, frame, taken, renderer)
                taken = np.vstack([taken, box.extents])


def _write_label(axes: Axes, point: Point, radius: float, frame: Boxes, taken: Boxes, renderer: RendererAgg) -> Bbox:
    """Write the label where it covers least of what is taken and least of it is outside the frame. Returns its box."""
    text = axes.annotate(
        plain_text(point.label),
        (point.x, point.y),
        (0, 0),
        textcoords="offset points",
        fontsize=7,
        zorder=5,
        # A box and not a stroke around the letters: with a stroke, an SVG holds paths instead of text.
        bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.3},
    )

    set_fonts([text])

    def place(extra: float, right: int, above: int) -> Bbox:
        distance = (radius + 1 + extra) * (0.71 if right and above else 1)
        text.set(
            position=(distance * right, distance * above),
            horizontalalignment=("right", "center", "left")[right + 1],
            verticalalignment=("top", "center", "bottom")[above + 1],
        )
        return text.get_window_extent(renderer).padded(1)

    def penalty(extra: float, right: int, above: int) -> float:
        box = place(extra, right, above)
        outside = box.width * box.height - _shared_area(box, frame)
        return 3 * outside + _shared_area(box, taken) + extra / 10

    places = [(extra, *side) for extra, side in product(_EXTRA_DISTANCES, _SIDES)]
    best = min(places, key=lambda candidate: penalty(*candidate))
    box = place(*best)
    if best[0] > 0:
        line = {"arrowstyle": "-", "linewidth": 0.5, "color": "#707070", "shrinkA": 0, "shrinkB": radius}
        end = text.get_position()
        axes.annotate("", (point.x, point.y), end, textcoords="offset points", arrowprops=line, zorder=2)
    return box


def _boxes(axes: Axes, point: Point, radius: float) -> list[Bbox]:
    """The marker and its error bars, in pixels."""
    from matplotlib.transforms import Bbox

    pixels_per_point = axes.get_figure(root=True).dpi / 72  # type: ignore[union-attr]
    bars = [
        [(end, point.y) for end in point.x_interval or (point.x,)],
        [(point.x, end) for end in point.y_interval or (point.y,)],
    ]
    centre = Bbox([axes.transData.transform((point.x, point.y))] * 2)
    lines = [Bbox(axes.transData.transform([ends[0], ends[-1]])) for ends in bars]
    return [centre.padded(radius * pixels_per_point), *(line.padded(2 * pixels_per_point) for line in lines)]


def _shared_area(box: Bbox, others: Boxes) -> float:
    """The sum of the areas that the box shares with others."""
    low = np.maximum(others[:, :2], box.min)
    high = np.minimum(others[:, 2:], box.max)
    return float(np.clip(high - low, 0, None).prod(axis=1).sum())
