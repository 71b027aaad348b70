"""Plots of an evaluation and of a training: precision-recall curves, confusion matrix, training log."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vovnet.metrics.voc import VocResult
from vovnet.report.plotting import COLOURS, GREY, LINE_STYLES, add_legend, columns, make_figure, plain_names, plain_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_MOST_LABELLED = len(COLOURS) * len(LINE_STYLES)
_LARGEST_MATRIX, _LEAST_SPACING = 18.0, 0.12  # inches: side of the matrix, between labels


def plot_precision_recall(result: VocResult, class_names: Sequence[str]) -> Figure:
    """One curve for each class that has objects, labelled with its 11-point AP, the best first.

    If there are more than 21 classes, only the 21 with the lowest AP are labelled; the others are grey.
    """
    names = plain_names(class_names)
    curves = [(c.ap11, name, c) for name, c in zip(names, result.classes, strict=True) if c.ap11 is not None]
    curves.sort(key=lambda curve: -curve[0])
    n_grey = max(0, len(curves) - _MOST_LABELLED)

    figure = make_figure(8.0 + 0.14 * max(0, max(map(columns, names), default=0) - 30), 5.0)
    axes = figure.subplots()
    labelled: dict[Line2D, str] = {}
    for rank, (ap, name, c) in enumerate(curves):
        recall, precision = c.curve()
        if rank < n_grey:
            axes.plot(recall, precision, color=GREY, linewidth=0.8, zorder=1)
            continue
        style = LINE_STYLES[len(labelled) // len(COLOURS)]
        colour = COLOURS[len(labelled) % len(COLOURS)]
        (curve,) = axes.plot(recall, precision, style, color=colour, linewidth=1.8)
        labelled[curve] = f"{name}  {ap:.3f}"
    if n_grey:
        (curve,) = axes.plot([], [], color=GREY, linewidth=0.8)
        labelled[curve] = f"{n_grey} better classes"
    mean = result.mean_ap11
    title = "no class has objects" if mean is None else f"mAP {mean:.3f} (11-point)"
    axes.set_title(f"Precision and recall at IoU {result.iou_threshold:g}, {title}")
    axes.set(xlabel="Recall", ylabel="Precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.grid(alpha=0.25)
    if curves:
        beside = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
        add_legend(axes, list(labelled), list(labelled.values()), title="Class, AP", **beside)
    return figure


def plot_confusion(matrix: npt.NDArray[np.int64], class_names: Sequence[str]) -> Figure:
    """A confusion matrix of `vovnet.metrics.confusion`: counts, coloured by their share of the row.

    matrix: (classes + 1, classes + 1), true classes down and predicted ones across; the last is the background.
    Of very many classes, only some are labelled.
    """
    size = len(class_names) + 1
    if matrix.shape != (size, size):
        raise ValueError(f"matrix must have shape ({size}, {size}) for {len(class_names)} classes, got {matrix.shape}")
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)

    names = plain_names(class_names)
    room = 0.14 * max(0, max(map(columns, names), default=0) - 16)  # inches
    cell = 0.85 if size <= 12 else 0.45 if size <= 25 else min(0.2, _LARGEST_MATRIX / size)
    side = 1.8 + size * cell + room
    figure = make_figure(side + 1.2, side)
    figure.set_layout_engine("compressed")  # the layout for cells of fixed aspect
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    every = max(1, math.ceil(_LEAST_SPACING / cell))
    shown, font_size = [*range(0, size - 1, every), size - 1], min(10.0, 50 * cell * every)  # points
    rotation = 0 if size <= 6 and not room else 90
    axes.set_xticks(shown, [*names[::every], "(missed)"], rotation=rotation, size=font_size)
    axes.set_yticks(shown, [*names[::every], "(false positive)"], size=font_size)
    axes.set(xlabel="Predicted", ylabel="Truth")
    if every == 1:  # there is room for lines between the cells
        axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="both", length=0)
    if size <= 25:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            text = f"{matrix[row, column]}"
            if size <= 12:
                text += f"\n{share[row, column]:.0%}"
            colour = "white" if share[row, column] > 0.55 else "black"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    figure.colorbar(image, ax=axes, label="Share of the row", fraction=0.04)
    return figure


def plot_training(log_records: Sequence[Mapping[str, float]]) -> Figure:
    """Losses, learning rate, images/s and validation metrics against epochs.

    log_records: each has `epoch`, the epochs done so far, possibly a fraction, and any of `loss`, `<part>_loss`,
        `learning_rate`, `images_per_s` and `val_<metric>`, such as `val_map`.
    """
    figure = make_figure(11.0, 6.6)
    ((loss_axes, accuracy_axes), (rate_axes, speed_axes)) = figure.subplots(2, 2, sharex=True)
    _plot_columns(loss_axes, log_records, lambda key: key.endswith("loss"), smooth=True)
    _plot_columns(accuracy_axes, log_records, lambda key: key.startswith("val_") and not key.endswith("loss"))
    _plot_columns(rate_axes, log_records, lambda key: key == "learning_rate")
    _plot_columns(speed_axes, log_records, lambda key: key == "images_per_s", smooth=True)
    for axes in (loss_axes, accuracy_axes, speed_axes):
        axes.set_ylim(bottom=0)
    for axes in (rate_axes, speed_axes):
        axes.set_xlabel("Epochs")
    return figure


def _plot_columns(
    axes: Axes,
    log_records: Sequence[Mapping[str, float]],
    is_shown: Callable[[str], bool],
    *,
    smooth: bool = False,
) -> None:
    names = list(dict.fromkeys(key for record in log_records for key in record if is_shown(key)))
    for name, colour in zip(names, COLOURS, strict=False):
        epochs, values = np.array([(r["epoch"], r[name]) for r in log_records if name in r], dtype=np.float64).T
        label = plain_text(name.replace("_per_", "/").replace("_", " "))
        marker = "o" if len(values) <= 60 and not smooth else ""
        if smooth and len(values) > 20:
            axes.plot(epochs, values, color=colour, linewidth=0.6, alpha=0.3)
            values = _running_mean(values, 1 + len(values) // 40)
        axes.plot(epochs, values, color=colour, linewidth=1.6, marker=marker, markersize=3.5, label=label)
    axes.grid(alpha=0.25)
    if names:
        axes.legend(frameon=False)


def _running_mean(values: npt.NDArray[np.float64], half_width: int) -> npt.NDArray[np.float64]:
    """Mean over up to `half_width` values on both sides, fewer at the ends."""
    window = np.ones(2 * half_width + 1)
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")
