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

from vovnet.report.plotting import plain_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

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

    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    renderer = canvas.get_renderer()
    for axes, axes_points in zip(figure.axes, points, strict=False):
        sizes = list(radii) or [_MARKER_RADIUS] * len(axes_points)
        frame = axes.get_window_extent(renderer)
        taken = np.array(
            [
                box.extents
                for point, radius in zip(axes_points, sizes, strict=True)
                for box in _boxes(axes, point, radius)
            ]
        )
        for point, radius in zip(axes_points, sizes, strict=True):
            if not point.label:
                continue
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
            best: tuple[float, Bbox, int, tuple[float, float], dict[str, str]] | None = None
            for extra, (right, above) in product(_EXTRA_DISTANCES, _SIDES):
                distance = (radius + 1 + extra) * (0.71 if right and above else 1)
                offset = distance * right, distance * above
                alignment = {
                    "horizontalalignment": ("right", "center", "left")[right + 1],
                    "verticalalignment": ("top", "center", "bottom")[above + 1],
                }
                text.set(position=offset, **alignment)
                box = text.get_window_extent(renderer).padded(1)
                outside = box.width * box.height - _shared_area(box, np.array([frame.extents]))
                penalty = 3 * outside + _shared_area(box, taken) + extra / 10
                if best is None or penalty < best[0]:
                    best = penalty, box, extra, offset, alignment
            assert best is not None
            _, box, extra, offset, alignment = best
            text.set(position=offset, **alignment)
            taken = np.vstack([taken, box.extents])
            if extra:
                line = {"arrowstyle": "-", "linewidth": 0.5, "color": "#707070", "shrinkA": 0, "shrinkB": radius}
                axes.annotate("", (point.x, point.y), offset, textcoords="offset points", arrowprops=line, zorder=2)


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


def _shared_area(box: Bbox, others: npt.NDArray[np.float64]) -> float:
    """The sum of the areas that the box shares with others: (n, 4), each x1 y1 x2 y2."""
    low = np.maximum(others[:, :2], box.min)
    high = np.minimum(others[:, 2:], box.max)
    return float(np.clip(high - low, 0, None).prod(axis=1).sum())
