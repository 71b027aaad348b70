"""Pictures of measurements for print: the panels of the paper's Figures 3 and 4, rooflines, layers, stages, batches.

Each function returns a matplotlib figure. A model has the same colour and shape of marker in all of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vovnet.files import replacing
from vovnet.profiling.measurement import Measurement
from vovnet.report.labelling import label_points
from vovnet.report.measurement import labels, sweep
from vovnet.report.panels import (
    ROOF_NOTE,
    Panel,
    Point,
    Roof,
    group_layers,
    layer_points,
    roofline_panel,
    tradeoff_panels,
)
from vovnet.report.plots import COLOURS, LINE_STYLES, make_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "os^DvPX*"  # as many as is coprime to the number of colours: 56 pairs before one comes again
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "++++")
_COLUMN, _PAGE = 3.5, 7.0  # inches of a column and of the text of a page
_SMALL = 7  # points


def write_plots(measurements: Sequence[Measurement], folder: Path) -> None:
    """Write every plot for which there is data into `folder`, those of layers into `layers` in it."""
    figures: dict[str, Figure | None] = {
        "tradeoffs": plot_tradeoffs(measurements),
        "roofline": plot_roofline(measurements) if roofline_panel(measurements)[0].points else None,
        "stages": plot_stages(measurements) if any(one.stages for one in measurements) else None,
        "batches": plot_batches(measurements) if any(one.batches for one in measurements) else None,
    }
    for old in (folder / "layers").glob("[0-9][0-9]_*"):
        old.unlink()
    for place, (one, label) in enumerate(zip(measurements, labels(measurements), strict=True), start=1):
        stem = f"layers/{place:02d}_{re.sub(r'[^A-Za-z0-9.-]+', '_', label)[:80]}"
        figures[stem] = plot_layers(one)
        figures[f"{stem}_roofline"] = plot_layer_roofline(one) if layer_points(one) else None
    for name, figure in figures.items():
        for suffix in (".png", ".svg"):
            path = folder / f"{name}{suffix}"
            if figure is None:
                path.unlink(missing_ok=True)  # of an earlier report
                continue
            with replacing(path) as temporary:
                figure.savefig(temporary)


def plot_tradeoffs(measurements: Sequence[Measurement]) -> Figure:
    """Up to four panels, see `tradeoff_panels`; bars are 95 % intervals of what was measured."""
    panels = tradeoff_panels(measurements)
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    figure = make_figure(_PAGE if across == 2 else _COLUMN, 2.7 * down)
    for axes, panel in zip(figure.subplots(down, across, squeeze=False).flat, panels, strict=False):
        _plot_points(axes, panel)
        axes.set_title(panel.title, fontsize=8, loc="left")
    for axes in figure.axes[len(panels) :]:
        axes.remove()
    label_points(figure, [panel.points for panel in panels])
    return figure


def plot_roofline(measurements: Sequence[Measurement]) -> Figure:
    """GFLOP/s against FLOP/byte, both logarithmic; roofs where the device's peak is known.

    FLOP/byte supposes that every operation reads and writes memory. Caches can lift a point above the sloping roof.
    """
    panel, roofs = roofline_panel(measurements)
    figure = make_figure(_COLUMN, 2.9)
    axes = figure.subplots()
    _plot_points(axes, panel)
    _plot_roofs(axes, roofs)
    label_points(figure, [panel.points])
    return figure


def plot_layer_roofline(measurement: Measurement) -> Figure:
    """The layers with products in the roofline; the area of a dot is the layer's share of the time."""
    points = layer_points(measurement)
    figure = make_figure(_COLUMN, 3.1)
    axes = figure.subplots()
    points.sort(key=lambda point: -point.share)  # small ones on top
    x, y = [point.flops_per_byte for point in points], [point.gflop_per_s for point in points]
    areas = [max(2.0, 1200 * point.share) for point in points]
    axes.margins(0.1)
    axes.scatter(x, y, areas, color=COLOURS[0], alpha=0.45, edgecolor="black", linewidth=0.4, zorder=3)
    _logarithmic(axes, "FLOP/byte", "GFLOP/s")
    _plot_roofs(axes, roofline_panel([measurement])[1])
    rest = 1 - sum(point.share for point in points)
    title = f"{_plain(measurement.name)}: area = share of the time"
    axes.set_title(f"{title}\n{rest:.0%} of it in layers without multiply-adds", fontsize=_SMALL)
    named = [
        Point(0, "" if place > 2 else point.path or "(model)", point.flops_per_byte, point.gflop_per_s, None, None)
        for place, point in enumerate(points)
    ]
    label_points(figure, [named], radii=[(area / np.pi) ** 0.5 for area in areas])
    return figure


def plot_layers(measurement: Measurement) -> Figure:
    """Bars of time (where layers were timed), multiply-adds and memory access, in the order of the layers."""
    groups = group_layers(measurement)
    timed = measurement.layer_seconds is not None
    figure = make_figure(_PAGE, 1.0 + 0.15 * len(groups))
    all_axes = figure.subplots(1, 3 if timed else 2, sharey=True)
    rows = np.arange(len(groups))
    *time_axes, work_axes, memory_axes = all_axes
    for axes in time_axes:
        axes.barh(rows, [group.time_ms or 0.0 for group in groups], color=COLOURS[1])
        axes.set_xlabel("time (ms)", fontsize=_SMALL)
    work_axes.barh(rows, [group.multiply_adds / 1e6 for group in groups], color=COLOURS[0])
    work_axes.set_xlabel("multiply-adds (M)", fontsize=_SMALL)
    products = np.array([group.memory_access_cost / 1e6 for group in groups])
    others = [group.other_elements / 1e6 for group in groups]
    memory_axes.barh(rows, products, color=COLOURS[2], label="products, Eq. (1)")
    striped = {"color": "white", "edgecolor": COLOURS[2], "hatch": "//////"}
    memory_axes.barh(rows, others, left=products, label="everything else", **striped)
    memory_axes.set_xlabel("memory access (M elements)", fontsize=_SMALL)
    all_axes[0].set_yticks(rows, [_plain(group.label) for group in groups])
    all_axes[0].set_ylim(len(groups) - 0.4, -0.6)
    for axes in all_axes:
        axes.tick_params(labelsize=_SMALL - 1)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(_plain(measurement.name), fontsize=8)
    handles, names = memory_axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower right", ncols=2, frameon=False, fontsize=_SMALL)
    return figure


def plot_stages(measurements: Sequence[Measurement]) -> Figure:
    """Stacked bars of the median times from file to picture, of the models for which they are known."""
    named = zip(labels(measurements), measurements, strict=True)
    known = [(name, one.stages) for name, one in named if one.stages is not None]
    names = list(dict.fromkeys(stage for _, stages in known for stage in stages))
    figure = make_figure(_PAGE, 1.0 + 0.28 * len(known))
    axes = figure.subplots()
    rows, left = np.arange(len(known)), np.zeros(len(known))
    for place, name in enumerate(names):
        times_ms = np.array([stages[name].median_ms if name in stages else 0.0 for _, stages in known])
        colour, hatch = COLOURS[place % len(COLOURS)], HATCHES[place % len(HATCHES)]
        axes.barh(rows, times_ms, 0.65, left=left, color=colour, edgecolor="white", hatch=hatch, label=name)
        left += times_ms
    for row, whole in zip(rows, left, strict=True):
        axes.annotate(f"{whole:.3g}", (whole, row), (3, 0), textcoords="offset points", va="center", fontsize=_SMALL)
    axes.set_yticks(rows, [_plain(name) for name, _ in known])
    axes.set_ylim(len(known) - 0.5, -0.5)
    axes.set_xlim(0, 1.07 * left.max())
    axes.set_xlabel("median time (ms)", fontsize=8)
    axes.tick_params(labelsize=_SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(names), frameon=False, fontsize=_SMALL)
    return figure


def plot_batches(measurements: Sequence[Measurement]) -> Figure:
    """Images/s against batch size, with 95 % intervals of the medians."""
    figure = make_figure(_COLUMN, 2.9)
    axes = figure.subplots()
    sizes: set[int] = set()
    for place, (one, label) in enumerate(zip(measurements, labels(measurements), strict=True)):
        if not (batches := sweep(one)):
            continue
        sizes |= batches.keys()
        speed = np.array([1e3 * size / latency.median_ms for size, latency in batches.items()])
        ends = np.array([[1e3 * size / end for end in latency.interval_ms] for size, latency in batches.items()])
        axes.errorbar(
            list(batches),
            speed,
            np.abs(ends[:, ::-1].T - speed),
            fmt=f"{MARKERS[place % len(MARKERS)]}{LINE_STYLES[place // len(COLOURS) % len(LINE_STYLES)]}",
            color=COLOURS[place % len(COLOURS)],
            markersize=4,
            linewidth=1.2,
            capsize=2,
            label=_plain(label),
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(sizes), [str(size) for size in sorted(sizes)])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("batch size", fontsize=8)
    axes.set_ylabel("images/s", fontsize=8)
    axes.tick_params(labelsize=_SMALL)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=_SMALL)
    return figure


def _plot_points(axes: Axes, panel: Panel) -> None:
    for point in panel.points:
        errors = []
        for middle, interval in ((point.x, point.x_interval), (point.y, point.y_interval)):
            low, high = interval or (middle, middle)
            errors.append([[max(0.0, middle - low)], [max(0.0, high - middle)]])
        axes.errorbar(
            point.x,
            point.y,
            xerr=errors[0],
            yerr=errors[1],
            fmt=MARKERS[point.place % len(MARKERS)],
            color=COLOURS[point.place % len(COLOURS)],
            markersize=6,
            markeredgecolor="black",
            markeredgewidth=0.5,
            elinewidth=0.9,
            capsize=2,
            zorder=3,
        )
    axes.margins(0.16)
    if panel.y_limits:
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(bottom, panel.y_limits[0]), min(top, panel.y_limits[1]))
    axes.set_xlabel(panel.x_label, fontsize=8)
    axes.set_ylabel(panel.y_label, fontsize=8)
    axes.tick_params(labelsize=_SMALL)
    axes.grid(alpha=0.25)
    if panel.title == "Roofline":
        _logarithmic(axes, panel.x_label, panel.y_label)


def _logarithmic(axes: Axes, x_label: str, y_label: str) -> None:
    """Plain numbers at 1, 2 and 5 of each decade: powers of ten would leave axes of less than two decades without."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(x_label, fontsize=8)
    axes.set_ylabel(y_label, fontsize=8)
    axes.tick_params(labelsize=_SMALL, which="both")
    axes.grid(alpha=0.25, which="both")


def _plot_roofs(axes: Axes, roofs: Sequence[Roof]) -> None:
    """From left of the points and of the ridge to right of both, up to above the roof."""
    if not roofs:
        return
    ridges = [roof.gflop_per_s / roof.gbyte_per_s for roof in roofs]
    low, high = axes.get_xlim()
    low, high = min(low, min(ridges) / 4), max(high, max(ridges) * 4)
    x = np.geomspace(low, high, 200)
    for place, roof in enumerate(roofs):
        style = LINE_STYLES[place % len(LINE_STYLES)]
        y = np.minimum(roof.gflop_per_s, x * roof.gbyte_per_s)
        label = f"{roof.label}: {roof.gflop_per_s:.3g} GFLOP/s, {roof.gbyte_per_s:.3g} GB/s"
        axes.plot(x, y, style, color="#404040", linewidth=1.2, label=_plain(label), zorder=2)
    axes.set_xlim(low, high)
    axes.set_ylim(top=2 * max(axes.get_ylim()[1] / 2, *(roof.gflop_per_s for roof in roofs)))
    small = {"fontsize": _SMALL - 1, "title_fontsize": _SMALL - 1}
    axes.figure.legend(loc="outside lower center", frameon=False, title=ROOF_NOTE.replace(". ", ".\n", 1), **small)


def _plain(text: str) -> str:
    """Matplotlib reads what stands between two dollars as a formula."""
    return text.replace("$", r"\$")
