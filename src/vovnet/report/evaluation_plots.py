"""Plots of an error analysis, each narrow enough to be read on a phone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vovnet.metrics.calibration import Calibration
from vovnet.metrics.errors import ErrorAnalysis
from vovnet.metrics.properties import Property
from vovnet.metrics.thresholds import BestThreshold, f1_scores
from vovnet.metrics.voc import VocResult
from vovnet.report.plotting import COLOURS, GREY, SMALL, Plot, label_axes, make_figure, plain_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = npt.NDArray[np.float64]

WIDTH = 4.0  # inches
_MOST_POINTS = 300  # of a curve
_MOST_CLASSES = len(COLOURS)


def plot_precision_recall(voc: VocResult, class_names: Sequence[str]) -> Plot:
    """Precision against recall of each class; those with the lowest average precision have colours."""
    plot, axes = _plot("Recall", "Precision")
    for label, colour, name in _coloured(voc, class_names):
        result = voc.classes[label]
        (line,) = axes.plot(*_thinned(*result.curve()), color=colour, linewidth=1.4, zorder=1 + (colour != GREY))
        plot.add_titles(line, f"{name}: AP {result.ap11:.3f} (11-point)")
    return _with_legend(plot, axes, voc, class_names)


def plot_f1(voc: VocResult, class_names: Sequence[str], best: Sequence[BestThreshold | None]) -> Plot:
    """F1 against the score threshold of each class; a dot marks its highest value."""
    plot, axes = _plot("Score threshold", "F1")
    for label, colour, name in _coloured(voc, class_names):
        scores, f1 = voc.classes[label].scores, f1_scores(voc.classes[label])
        last = np.append(scores[1:] != scores[:-1], True)  # of equal scores, which no threshold tells apart
        curve = _thinned(scores[last], f1[last])
        order = 1 + (colour != GREY)
        (line,) = axes.plot(*curve, color=colour, linewidth=1.4, zorder=order, drawstyle="steps-post")
        plot.add_titles(line, name)
        if chosen := best[label]:
            (dot,) = axes.plot(chosen.threshold, chosen.f1, "o", color=colour, markersize=6, zorder=3)
            plot.add_titles(dot, f"{name}: F1 {chosen.f1:.3f} at {chosen.threshold:g}")
    return _with_legend(plot, axes, voc, class_names)


def plot_calibration(calibration: Calibration) -> Plot:
    """Precision against score; the closer to the diagonal, the more a score is worth. Bars say how many."""
    plot, axes = _plot("Score", "Precision")
    axes.plot([0, 1], [0, 1], "--", color="#606060", linewidth=1)
    most = max(item.detections for item in calibration.bins) or 1
    for item in calibration.bins:
        if item.score is None or item.precision is None:
            continue
        (bar,) = axes.bar(
            item.low, 0.25 * item.detections / most, item.high - item.low, align="edge", color="#d9dee6", zorder=0
        )
        plot.add_titles(bar, f"{item.detections:,} detections with scores of {item.low:g} to {item.high:g}")
        (dot,) = axes.plot(item.score, item.precision, "o", color=COLOURS[0], markersize=6, zorder=3)
        plot.add_titles(dot, f"score {item.score:.2f}, precision {item.precision:.2f}, {item.detections:,} detections")
    points = [(item.score, item.precision) for item in calibration.bins if item.detections]
    axes.plot(*np.array(points, np.float64).reshape(-1, 2).T, color=COLOURS[0], linewidth=1.4)
    return plot


def plot_errors(errors: ErrorAnalysis, names: Sequence[str]) -> Plot:
    """AP50 lost to each kind of errors. names: of the kinds, in order."""
    plot = Plot(make_figure(WIDTH, 2.4))
    axes = plot.figure.subplots()
    values = [kind.lost_ap for kind in errors.kinds]
    colours = [COLOURS[1] if kind is errors.largest else COLOURS[0] for kind in errors.kinds]
    bars = axes.barh(range(len(values)), values, 0.65, color=colours)
    for bar, kind, name in zip(bars, errors.kinds, names, strict=True):
        plot.add_titles(bar, f"{name}: {kind.lost_ap:.3f} of AP50, {kind.count:,} errors")
    axes.bar_label(bars, [f" {value:.3f}" for value in values], fontsize=SMALL)
    axes.set_yticks(range(len(values)), list(names))
    axes.invert_yaxis()
    label_axes(axes, "AP50 lost", "Kind of error")
    axes.set_xlim(min(0.0, *values), 1.2 * max(0.01, *values))
    return plot


def plot_property(item: Property) -> Plot:
    """AP50 and COCO AP of each group; pale where there are few objects."""
    plot = Plot(make_figure(WIDTH, 2.4))
    axes = plot.figure.subplots()
    for number, group in enumerate(item.groups):
        alpha = 0.35 if group.is_few else 1.0
        for shift, kind, value, colour in ((-0.2, "AP50", group.ap50, COLOURS[0]), (0.2, "AP", group.ap, COLOURS[5])):
            (bar,) = axes.bar(number + shift, value or 0.0, 0.38, color=colour, alpha=alpha)
            shown = "none" if value is None else f"{value:.3f}"
            plot.add_titles(bar, f"{group.name}: {kind} {shown}, {group.objects:,} objects")
    names = [f"{group.name}\n{group.objects:,}" for group in item.groups]
    axes.set_xticks(range(len(names)), names)
    label_axes(axes, f"{item.title}; number of objects", "AP50 (dark), AP (light)")
    axes.grid(visible=False, axis="x")
    axes.set_ylim(0, 1.02)
    return plot


def _plot(x_label: str, y_label: str) -> tuple[Plot, Axes]:
    plot = Plot(make_figure(WIDTH, 3.2))
    axes = plot.figure.subplots()
    label_axes(axes, x_label, y_label)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    return plot, axes


def _coloured(voc: VocResult, class_names: Sequence[str]) -> list[tuple[int, str, str]]:
    """(label, colour, name) of each class that has objects and detections; those of the lowest AP are not grey."""
    shown = [label for label, result in enumerate(voc.classes) if result.n_objects and result.n_detections]
    worst = set(sorted(shown, key=lambda label: voc.classes[label].ap11 or 0.0)[:_MOST_CLASSES])
    colours = iter(COLOURS)
    names = plain_names(class_names)
    return [(label, next(colours) if label in worst else GREY, names[label]) for label in shown]


def _with_legend(plot: Plot, axes: Axes, voc: VocResult, class_names: Sequence[str]) -> Plot:
    rows = _coloured(voc, plain_names(class_names, 24))
    shown = [(axes.plot([], [], color=colour, linewidth=2)[0], name) for _, colour, name in rows if colour != GREY]
    if rest := len(rows) - len(shown):
        shown.append((axes.plot([], [], color=GREY, linewidth=2)[0], f"{rest} better classes"))
    if shown:
        lines, names = zip(*shown, strict=True)
        plot.figure.legend(
            lines,
            names,
            loc="outside lower center",
            ncols=2,
            frameon=False,
            fontsize=SMALL,
        )
    return plot


def _thinned(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Some of the points of a curve, evenly spread along it, and its ends."""
    length = np.append(0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
    keep = np.unique(np.searchsorted(length, np.linspace(0, length[-1], _MOST_POINTS)).clip(max=len(x) - 1))
    return x[keep], y[keep]
