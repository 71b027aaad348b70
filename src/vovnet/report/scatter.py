"""Models as points: one column of the tables against another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vovnet.profiling.measurement import Measurement
from vovnet.report.labelling import Point
from vovnet.report.model_tables import ModelColumn, describe_models
from vovnet.report.plotting import Plot, label_axes, model_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Panel:
    """One pair of axes: y against x."""

    x: ModelColumn
    y: ModelColumn

    def points(self, rows: Sequence[Measurement]) -> list[Point]:
        """The models that have both values. The label of a point says if one of them is a lower bound."""
        points = []
        for index, row in enumerate(rows):
            x, y = _value(self.x, row), _value(self.y, row)
            if x is not None and y is not None:
                intervals = self.x.scaled_interval(row), self.y.scaled_interval(row)
                lower_bound = self.x.at_least(row) or self.y.at_least(row)
                points.append(Point(index, f"{row.name} (≥)" if lower_bound else row.name, x, y, *intervals))
        return points


def plot_panel(plot: Plot, axes: Axes, panel: Panel, rows: Sequence[Measurement]) -> list[Point]:
    """Draw the points with their intervals as error bars; on hover, a point shows all values of its model."""
    points, texts = panel.points(rows), describe_models(rows)
    for point in points:
        errors = []
        for value, interval in ((point.x, point.x_interval), (point.y, point.y_interval)):
            low, high = interval or (value, value)
            errors.append([[max(0.0, value - low)], [max(0.0, high - value)]])
        marker, *_ = axes.errorbar(
            point.x,
            point.y,
            xerr=errors[0],
            yerr=errors[1],
            **model_style(point.index),  # type: ignore[arg-type]
            linestyle="none",
            markersize=6,
            markeredgecolor="black",
            markeredgewidth=0.5,
            elinewidth=0.9,
            capsize=2,
            zorder=3,
        )
        plot.add_titles(marker, texts[point.index])
    axes.margins(0.16)
    if panel.y.limits:
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(bottom, panel.y.limits[0]), min(top, panel.y.limits[1]))
    label_axes(axes, panel.x.axis_label, panel.y.axis_label)
    return points


def _value(column: ModelColumn, row: Measurement) -> float | None:
    """A count or a rate of 0 means that nothing could be counted; an accuracy can be 0."""
    value = column.scaled(row)
    return None if value == 0 and column.limits is None else value
