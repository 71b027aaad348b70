"""Plots of measurements: the panels of the paper's Figures 3 and 4, stages, batch sizes and layers.

A model has the same colour and marker in all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vovnet.profiling.measurement import Measurement
from vovnet.report import layer_tables, model_tables
from vovnet.report.labelling import label_points
from vovnet.report.layer_tables import LayerColumn, LayerRow, group_layers
from vovnet.report.model_tables import ModelColumn, accuracy_column, batch_rows, data_text, stage_rows
from vovnet.report.plotting import (
    COLOURS,
    COLUMN_INCH,
    HATCHES,
    LINE_STYLES,
    MEDIUM,
    PAGE_INCH,
    SMALL,
    Plot,
    add_legend,
    label_axes,
    make_figure,
    model_style,
    plain_names,
    plain_text,
)
from vovnet.report.scatter import Panel, plot_panel
from vovnet.report.table import describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def tradeoff_panels(rows: Sequence[Measurement]) -> list[Panel]:
    """The panels of the paper's Figures 3 and 4 for which there is data.

    Without any accuracy, efficiency against images/s and latency against memory access cost replace those with
    accuracy. Accuracies on different data do not share an axis: the metric and data that most models have are shown.
    """
    speed, efficiency = model_tables.IMAGES_PER_S, model_tables.MULTIPLY_ADDS_PER_S
    energy = model_tables.ENERGY_PER_IMAGE
    if accuracy := _accuracy(rows):
        panels = [Panel(x, accuracy) for x in (speed, efficiency, energy)]
    else:
        panels = [Panel(speed, efficiency), Panel(model_tables.MEMORY_ACCESS, model_tables.MEDIAN)]
    panels.append(Panel(energy, efficiency))
    return [panel for panel in panels if panel.points(rows)]


def _accuracy(rows: Sequence[Measurement]) -> ModelColumn | None:
    """The metric that most models have on the same data, None for models with other data."""
    metrics = [(metric, _data(row)) for row in rows if row.accuracy for metric in row.accuracy.figures]
    if not metrics:
        return None
    metric, data = Counter(metrics).most_common(1)[0][0]
    column = accuracy_column(metric)
    label = next(data_text(row) for row in rows if _data(row) == data)
    return replace(
        column, value=lambda row: column.value(row) if _data(row) == data else None, axis=f"{metric}, {label}"
    )


def _data(row: Measurement) -> tuple[str, str, int] | None:
    """Folders of the same name can hold different data: the whole path tells them apart."""
    accuracy = row.accuracy
    return (accuracy.data, accuracy.split, accuracy.images) if accuracy else None


def plot_tradeoffs(rows: Sequence[Measurement]) -> Plot:
    """The panels of `tradeoff_panels`; error bars are 95 % intervals."""
    panels = tradeoff_panels(rows)
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    plot = Plot(make_figure(PAGE_INCH if across == 2 else COLUMN_INCH, 2.7 * down))
    all_axes = list(plot.figure.subplots(down, across, squeeze=False).flat)
    points = []
    for letter, axes, panel in zip("abcd", all_axes, panels, strict=False):
        points.append(plot_panel(plot, axes, panel, rows))
        axes.set_title(f"({letter})", fontsize=MEDIUM, loc="left")
    for axes in all_axes[len(panels) :]:
        axes.remove()
    label_points(plot.figure, points)
    return plot


def plot_stages(rows: Sequence[Measurement]) -> Plot | None:
    """Stacked bars of the median latencies, from reading the file to drawing the boxes; None if none were timed."""
    models = [row for row in rows if row.stages]
    if not models:
        return None
    stages = list(dict.fromkeys(stage for row in models for stage in row.stages or ()))
    plot = Plot(make_figure(PAGE_INCH, 1.0 + 0.28 * len(models)))
    axes = plot.figure.subplots()
    ends = np.zeros(len(models))
    shown: list[Any] = []
    for number, stage in enumerate(stages):
        parts = {bar: part for bar, row in enumerate(models) for part in stage_rows(row) if part.part == stage}
        bars = list(parts)
        times_ms = [model_tables.PART_MEDIAN.scaled(part) or 0.0 for part in parts.values()]
        drawn = axes.barh(
            bars,
            times_ms,
            0.65,
            left=ends[bars],
            color=COLOURS[number % len(COLOURS)],
            edgecolor="white",
            hatch=HATCHES[number % len(HATCHES)],
        )
        shown.append(drawn)
        for bar, part in zip(drawn, parts.values(), strict=True):
            plot.add_titles(bar, describe(model_tables.PART_COLUMNS, part))
        ends[bars] += times_ms
    for bar, end in enumerate(ends):
        axes.annotate(f"{end:.3g}", (end, bar), (3, 0), textcoords="offset points", va="center", fontsize=SMALL)
    axes.set_yticks(range(len(models)), plain_names([row.name for row in models]))
    axes.set_ylim(len(models) - 0.5, -0.5)
    axes.set_xlim(0, 1.07 * ends.max())
    axes.set_xlabel(model_tables.PART_MEDIAN.axis_label, fontsize=MEDIUM)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    place = {"loc": "outside upper center", "ncols": min(len(stages), 8)}
    add_legend(plot.figure, shown, plain_names(stages), **place, fontsize=SMALL)
    return plot


def plot_batches(rows: Sequence[Measurement]) -> Plot | None:
    """Images/s against batch size, with 95 % intervals of the medians; None without a sweep."""
    if not any(row.batches for row in rows):
        return None
    plot = Plot(make_figure(COLUMN_INCH, 2.9))
    axes = plot.figure.subplots()
    all_sizes: set[int] = set()
    shown: dict[str, Any] = {}
    for index, row in enumerate(rows):
        if not row.batches:
            continue
        parts = batch_rows(row)
        sizes = [part.batch_size or 0 for part in parts]
        speeds = np.array([model_tables.BATCH_IMAGES_PER_S.scaled(part) for part in parts])
        ends = np.array([model_tables.BATCH_IMAGES_PER_S.scaled_interval(part) for part in parts])
        lines = axes.errorbar(
            sizes,
            speeds,
            np.abs(ends.T - speeds),
            **model_style(index),  # type: ignore[arg-type]
            linestyle=LINE_STYLES[index // len(COLOURS) % len(LINE_STYLES)],
            markersize=4,
            linewidth=1.2,
            capsize=2,
        )
        shown[row.name] = lines
        dots = axes.scatter(sizes, speeds, 40, alpha=0, zorder=4)  # invisible, to point at
        plot.add_titles(dots, *(describe(model_tables.PART_COLUMNS, part) for part in parts))
        all_sizes.update(sizes)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(all_sizes), [str(size) for size in sorted(all_sizes)])
    axes.set_ylim(bottom=0)
    label_axes(axes, "batch size", model_tables.BATCH_IMAGES_PER_S.axis_label)
    place = {"loc": "outside upper center", "ncols": 2}
    add_legend(plot.figure, list(shown.values()), plain_names(list(shown)), **place, fontsize=SMALL)
    return plot


def plot_layers(measurement: Measurement) -> Plot:
    """Bars of time (if layers were timed), multiply-adds and memory access, in the order of the layers."""
    groups = group_layers(measurement)
    timed = measurement.layer_seconds is not None
    plot = Plot(make_figure(PAGE_INCH, 1.0 + 0.15 * len(groups)))
    all_axes = plot.figure.subplots(1, 3 if timed else 2, sharey=True)
    *time_axes, work_axes, memory_axes = all_axes
    for axes in time_axes:
        _draw_bars(plot, axes, layer_tables.LAYER_TIME, groups, color=COLOURS[1])
    _draw_bars(plot, work_axes, layer_tables.LAYER_MULTIPLY_ADDS, groups, color=COLOURS[0])
    striped = {"color": "white", "edgecolor": COLOURS[2], "hatch": "//////"}
    counted = {"color": COLOURS[2], "label": "convolutions and matrix products, Eq. (1)"}
    lengths = _draw_bars(plot, memory_axes, layer_tables.GROUP_MEMORY_ACCESS, groups, **counted)
    _draw_bars(plot, memory_axes, layer_tables.GROUP_OTHER, groups, left=lengths, label="everything else", **striped)
    memory_axes.set_xlabel(layer_tables.GROUP_MEMORY_ACCESS.axis_label, fontsize=SMALL)
    all_axes[0].set_yticks(range(len(groups)), plain_names([group.path for group in groups]))
    all_axes[0].set_ylim(len(groups) - 0.4, -0.6)
    for axes in all_axes:
        axes.tick_params(labelsize=SMALL - 1)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    plot.figure.suptitle(plain_text(measurement.name), fontsize=MEDIUM)
    handles, names = memory_axes.get_legend_handles_labels()
    plot.figure.legend(handles, names, loc="outside lower right", ncols=2, frameon=False, fontsize=SMALL)
    return plot


def _draw_bars(
    plot: Plot, axes: Axes, column: LayerColumn, groups: Sequence[LayerRow], **style: Any
) -> npt.NDArray[np.float64]:
    """A bar for each group, which shows its value and share on hover. Returns the values.

    Beside a lower bound stands ≥, and then there are no shares, since the total is not known.
    """
    values = np.array([column.scaled(group) or 0.0 for group in groups])
    total = values.sum() or 1.0
    complete = not any(map(column.at_least, groups))
    bars = axes.barh(range(len(groups)), values, **style)
    for index, (bar, group, value) in enumerate(zip(bars, groups, values, strict=True)):
        if value:
            share = f" ({value / total:.1%})" if complete else ""
            plot.add_titles(bar, describe([layer_tables.LAYER_PATH, column], group) + share)
        if column.at_least(group):
            end = value + style.get("left", np.zeros(len(groups)))[index]
            axes.annotate("≥", (end, index), (2, 0), textcoords="offset points", va="center", fontsize=SMALL - 1)
    axes.set_xlabel(column.axis_label, fontsize=SMALL)
    return values
