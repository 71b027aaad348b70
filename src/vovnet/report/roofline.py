"""Rooflines of models and of the layers of one model: GFLOP/s against FLOP per byte, below the device's peaks.

FLOP per byte supposes that every operation reads from memory and writes to it. Caches can lift a point above the
sloping part of the roof.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vovnet.printing import CELL, line
from vovnet.profiling.measurement import Measurement
from vovnet.profiling.peak import DevicePeak
from vovnet.report.labelling import Point, label_points
from vovnet.report.layer_tables import LAYER_FLOPS, LAYER_FLOPS_PER_BYTE, ROOFLINE_COLUMNS, LayerRow, layer_rows
from vovnet.report.model_tables import FLOPS, FLOPS_PER_BYTE
from vovnet.report.plotting import (
    COLOURS,
    COLUMN_INCH,
    LINE_STYLES,
    SMALL,
    Plot,
    add_legend,
    label_axes,
    make_figure,
    plain_names,
    plain_text,
)
from vovnet.report.scatter import Panel, plot_panel
from vovnet.report.table import describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOFLINE = Panel(FLOPS_PER_BYTE, FLOPS)
ROOF_NOTE = "Roof: the best rate of a large matrix product.\nAnother kernel can be faster and lie above it."


def roofs_of(rows: Sequence[Measurement]) -> dict[str, DevicePeak]:
    """The peaks that were measured, by a label for each device and number format of a run."""
    roofs = {}
    for row in rows:
        if peak := row.conditions.peak:
            speeds = f"{peak.gflop_per_s:.3g} GFLOP/s, {peak.gbyte_per_s:.3g} GB/s"
            roofs[f"{line(row.conditions.device_name)}, {line(peak.precision, 20)}: {speeds}"] = peak
    return roofs


def plot_roofline(rows: Sequence[Measurement]) -> Plot | None:
    """A point for each model; None if no model has one."""
    if not ROOFLINE.points(rows):
        return None
    plot = Plot(make_figure(COLUMN_INCH, 2.9))
    axes = plot.figure.subplots()
    points = plot_panel(plot, axes, ROOFLINE, rows)
    _make_logarithmic(axes)
    _plot_roofs(plot, axes, roofs_of(rows))
    _leave_room(axes, points)
    label_points(plot.figure, [points])
    return plot


def roofline_layers(measurement: Measurement) -> list[LayerRow]:
    """The layers with multiply-adds, the slowest first; empty if layers were not timed."""
    layers = [layer for layer in layer_rows(measurement) if layer.share and layer.flops_per_byte and layer.gflop_per_s]
    return sorted(layers, key=lambda layer: -(layer.share or 0.0))


def plot_layer_roofline(measurement: Measurement) -> Plot | None:
    """A dot for each layer with multiply-adds, its area the layer's share of the time; None if there is no such layer.

    The three slowest layers are labelled.
    """
    from matplotlib.path import Path

    layers = roofline_layers(measurement)
    if not layers:
        return None
    points = [
        Point(0, _label(layer) if index < 3 else "", layer.flops_per_byte or 0.0, layer.gflop_per_s or 0.0)
        for index, layer in enumerate(layers)
    ]
    shares = [layer.share or 0.0 for layer in layers]
    counted = "counted " if measurement.cost.is_lower_bound else ""
    areas = [max(2.0, 1200 * share) for share in shares]
    plot = Plot(make_figure(COLUMN_INCH, 3.1))
    axes = plot.figure.subplots()
    axes.margins(0.1)
    dots = axes.scatter(
        [point.x for point in points],
        [point.y for point in points],
        areas,
        color=COLOURS[0],
        marker=Path.arc(0, 360, n=4),  # half as many curves as "o" has: there may be hundreds of dots
        alpha=0.45,
        edgecolor="black",
        linewidth=0.4,
        zorder=3,
    )
    plot.add_titles(dots, *(describe(ROOFLINE_COLUMNS, layer) for layer in layers))
    label_axes(axes, LAYER_FLOPS_PER_BYTE.axis_label, LAYER_FLOPS.axis_label)
    _make_logarithmic(axes)
    _plot_roofs(plot, axes, roofs_of([measurement]))
    _leave_room(axes, points)
    axes.set_title(
        f"{plain_text(measurement.name)}: area = share of the time\n"
        f"{1 - sum(shares):.0%} of the time is in layers without {counted}multiply-adds",
        fontsize=SMALL,
    )
    label_points(plot.figure, [points], radii=[(area / np.pi) ** 0.5 for area in areas])
    return plot


def _label(layer: LayerRow) -> str:
    return f"{layer.path} (≥)" if layer.lower_bound else layer.path


def _make_logarithmic(axes: Axes) -> None:
    """Plain numbers at 1, 2 and 5 of each decade: with powers of ten, an axis of one decade would have hardly any."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.tick_params(labelsize=SMALL, which="both")
    axes.grid(alpha=0.25, which="both")


def _leave_room(axes: Axes, points: Sequence[Point]) -> None:
    """Widen the limits so that no point is on the frame; those of equal points would be too narrow."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    x, y = [point.x for point in points], [point.y for point in points]
    axes.set_xlim(min(left, min(x) / 1.3), max(right, max(x) * 1.3))
    axes.set_ylim(min(bottom, min(y) / 1.3), max(top, max(y) * 1.3))


def _plot_roofs(plot: Plot, axes: Axes, roofs: Mapping[str, DevicePeak]) -> None:
    """From left of all points and ridges to right of them, with the axis reaching above the roofs."""
    if not roofs:
        return
    ridges = [roof.gflop_per_s / roof.gbyte_per_s for roof in roofs.values()]
    low, high = axes.get_xlim()
    low, high = min(low, min(ridges) / 4), max(high, max(ridges) * 4)
    x = np.geomspace(low, high, 200)
    lines = []
    for index, (label, roof) in enumerate(roofs.items()):
        y = np.minimum(roof.gflop_per_s, x * roof.gbyte_per_s)
        style = LINE_STYLES[index % len(LINE_STYLES)]
        (line,) = axes.plot(x, y, style, color="#404040", linewidth=1.2, zorder=2)
        lines.append(line)
        plot.add_titles(line, label[:CELL])
    axes.set_xlim(low, high)
    axes.set_ylim(top=2 * max(axes.get_ylim()[1] / 2, *(roof.gflop_per_s for roof in roofs.values())))
    small = {"fontsize": SMALL - 1, "title_fontsize": SMALL - 1}
    names = plain_names(list(roofs), 100)
    add_legend(plot.figure, lines, names, loc="outside lower center", title=ROOF_NOTE, **small)
