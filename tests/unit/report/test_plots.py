"""Plots of evaluations and trainings show what they are given."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from vovnet.metrics.voc import ClassResult, VocResult
from vovnet.report.plots import plot_confusion, plot_precision_recall, plot_training
from vovnet.report.plotting import save_figure


def voc_result(n_classes: int) -> VocResult:
    recall, scores = np.array([0.25, 0.5, 0.5]), np.array([0.9, 0.8, 0.7])
    classes = [
        ClassResult(0.9 - 0.01 * label, 0.5, recall, np.array([1, 1, 2 / 3]) - 0.01 * label, scores, 4)
        for label in range(n_classes)
    ]
    return VocResult(tuple(classes), 0.5)


EMPTY = np.empty(0)
NO_OBJECTS = ClassResult(None, None, EMPTY, EMPTY, EMPTY, 0)
NOTHING_FOUND = ClassResult(0.0, 0.0, EMPTY, EMPTY, EMPTY, 3)
STEPS = [
    {
        "step": step,
        "epoch": step / 10,
        "loss": 5 / step,
        "box_loss": 2 / step,
        "learning_rate": 0.1,
        "images_per_s": 8.0,
    }
    for step in range(1, 60)
]


def legend(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_precision_recall() -> None:
    (axes,) = plot_precision_recall(voc_result(2), ["cell", "dust"]).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Recall", "Precision")
    assert axes.get_title() == "Precision and recall at IoU 0.5, mAP 0.895 (11-point)"
    assert legend(axes) == ["cell  0.900", "dust  0.890"]
    recall, precision = axes.lines[0].get_data()
    assert recall == pytest.approx([0, 0.25, 0.5, 0.5, 0.5])
    assert precision == pytest.approx([1, 1, 1, 2 / 3, 0])
    with pytest.raises(ValueError, match="zip"):
        plot_precision_recall(voc_result(2), ["cell"])


def test_of_many_classes_the_worst_are_labelled() -> None:
    (axes,) = plot_precision_recall(voc_result(30), [f"class {label}" for label in range(30)]).axes
    assert legend(axes)[0] == "class 9  0.810"
    assert legend(axes)[-1] == "9 better classes"
    assert len(legend(axes)) == 22
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines[9:30]}
    assert len(looks) == 21


def test_precision_recall_names_only_classes_with_objects() -> None:
    (axes,) = plot_precision_recall(VocResult((NO_OBJECTS, NOTHING_FOUND), 0.5), ["cell", "dust"]).axes
    assert legend(axes) == ["dust  0.000"]
    assert list(axes.lines[0].get_ydata()) == [0, 0]
    (axes,) = plot_precision_recall(VocResult((NO_OBJECTS,), 0.5), ["cell"]).axes
    assert "no class has objects" in axes.get_title()
    assert axes.get_legend() is None


def test_confusion() -> None:
    axes = plot_confusion(np.array([[9, 1], [2, 0]]), ["cell"]).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Predicted", "Truth")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cell", "(missed)"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cell", "(false positive)"]
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "9\n90%", (1, 0): "1\n10%", (0, 1): "2\n100%"}  # (column, row)
    assert np.asarray(axes.images[0].get_array()) == pytest.approx(np.array([[0.9, 0.1], [1, 0]]))
    many = plot_confusion(np.ones((31, 31), dtype=np.int64), [f"class {label}" for label in range(30)]).axes[0]
    assert not many.texts  # no room for numbers
    with pytest.raises(ValueError, match=r"\(3, 3\) for 2 classes, got \(2, 2\)"):
        plot_confusion(np.zeros((2, 2), dtype=np.int64), ["cell", "dust"])


def test_training() -> None:
    records = [*STEPS, {"epoch": 3, "val_map": 0.4}, {"epoch": 6, "val_map": 0.6}]
    losses, accuracy, rate, speed = plot_training(records).axes
    assert legend(losses) == ["loss", "box loss"]
    assert legend(accuracy) == ["val map"]
    assert legend(rate) == ["learning rate"]
    assert legend(speed) == ["images/s"]
    assert accuracy.lines[0].get_xydata().tolist() == [[3, 0.4], [6, 0.6]]
    raw, smooth = losses.lines[:2]
    assert raw.get_ydata()[0] == 5
    assert smooth.get_ydata()[0] == pytest.approx((5 + 2.5 + 5 / 3) / 3)  # a running mean
    assert rate.get_xlabel() == "Epochs"
    assert losses.get_ylim()[0] == accuracy.get_ylim()[0] == speed.get_ylim()[0] == 0


def test_a_training_without_records_or_with_one() -> None:
    assert not any(axes.lines for axes in plot_training([]).axes)
    losses, accuracy, *_ = plot_training(STEPS[:1]).axes
    assert losses.lines[0].get_xydata().tolist() == [[0.1, 5]]
    assert not accuracy.lines


def test_the_suffix_chooses_the_format(tmp_path: Path) -> None:
    figure = plot_training(STEPS[:3])
    save_figure(figure, tmp_path / "plot.png")
    save_figure(figure, tmp_path / "plot.svg")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.format == "PNG"
    texts = [text.text for text in ElementTree.parse(tmp_path / "plot.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert {"box loss", "learning rate", "images/s", "Epochs"} <= set(texts)


def test_class_names_are_no_formulas() -> None:
    figure = plot_precision_recall(voc_result(1), ["$\\oops$"])
    FigureCanvasAgg(figure).draw()  # would raise for a wrong formula
    FigureCanvasAgg(plot_confusion(np.array([[9, 1], [2, 0]]), ["$\\oops$"])).draw()
    assert legend(figure.axes[0]) == ["\\$\\oops\\$  0.900"]
