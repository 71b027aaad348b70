"""Names beside points of a plot, placed so that none covers another, a marker or an error bar."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

from vovnet.report.panels import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

_SIDES = ((1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))  # right, above; the best first
_FURTHER = (0, 8, 18, 30, 44)  # points
_MARKER = 4.0  # radius in points


def label_points(figure: Figure, points: Sequence[Sequence[Point]], radii: Sequence[float] = ()) -> None:
    """Name the points in each of the figure's axes, as near as that goes; a thin line leads to a name further off.

    A point with an empty label is only kept clear of. radii: of the markers in points, where they differ.
    The figure's layout is settled by this, so call it at the end.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.patheffects import withStroke

    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    renderer = canvas.get_renderer()
    for axes, here in zip(figure.axes, points, strict=False):
        sizes = list(radii) or [_MARKER] * len(here)
        frame = axes.get_window_extent(renderer)
        taken = [box for point, radius in zip(here, sizes, strict=True) for box in _boxes(axes, point, radius)]
        for point, radius in zip(here, sizes, strict=True):
            if not point.label:
                continue
            text = axes.annotate(
                point.label.replace("$", r"\$"),
                (point.x, point.y),
                (0, 0),
                textcoords="offset points",
                fontsize=7,
                zorder=5,
                path_effects=[withStroke(linewidth=1.5, foreground="white")],
            )
            best: tuple[float, Bbox, int, tuple[float, float], dict[str, str]] | None = None
            for further, (right, above) in product(_FURTHER, _SIDES):
                distance = (radius + 1 + further) * (0.71 if right and above else 1)
                offset = distance * right, distance * above
                alignment = {
                    "horizontalalignment": ("right", "center", "left")[right + 1],
                    "verticalalignment": ("top", "center", "bottom")[above + 1],
                }
                text.set(position=offset, **alignment)
                box = text.get_window_extent(renderer).padded(1)
                outside = box.width * box.height - _shared(box, frame)
                badness = 3 * outside + sum(_shared(box, other) for other in taken) + further / 10
                if best is None or badness < best[0]:
                    best = badness, box, further, offset, alignment
            assert best is not None
            _, box, further, offset, alignment = best
            text.set(position=offset, **alignment)
            taken.append(box)
            if further:
                line = {"arrowstyle": "-", "linewidth": 0.5, "color": "#707070", "shrinkA": 0, "shrinkB": radius}
                axes.annotate("", (point.x, point.y), offset, textcoords="offset points", arrowprops=line, zorder=2)


def _boxes(axes: Axes, point: Point, radius: float) -> list[Bbox]:
    """Where the marker and its bars are, in pixels."""
    from matplotlib.transforms import Bbox

    pixel = axes.get_figure(root=True).dpi / 72  # type: ignore[union-attr]
    bars = [
        [(end, point.y) for end in point.x_interval or (point.x,)],
        [(point.x, end) for end in point.y_interval or (point.y,)],
    ]
    middle = Bbox([axes.transData.transform((point.x, point.y))] * 2)
    lines = [Bbox(axes.transData.transform([ends[0], ends[-1]])) for ends in bars]
    return [middle.padded(radius * pixel), *(line.padded(2 * pixel) for line in lines)]


def _shared(one: Bbox, other: Bbox) -> float:
    """Area in both."""
    width = min(one.xmax, other.xmax) - max(one.xmin, other.xmin)
    height = min(one.ymax, other.ymax) - max(one.ymin, other.ymin)
    return max(0.0, width) * max(0.0, height)
