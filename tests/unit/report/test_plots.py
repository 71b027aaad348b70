"""Plots are written, and show what they are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vovnet.metrics.voc import ClassResult, VocResult
from vovnet.report.plots import plot_confusion, plot_precision_recall, plot_training


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


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


def test_precision_recall(tmp_path: Path) -> None:
    path = tmp_path / "pr.png"
    plot_precision_recall(voc_result(1), ["cell"], path)
    one = pixels(path)
    assert np.ptp(one) > 200
    plot_precision_recall(voc_result(2), ["cell", "dust"], path)
    assert pixels(path).shape != one.shape or (pixels(path) != one).any()
    plot_precision_recall(voc_result(30), [f"class {label}" for label in range(30)], path)
    plot_precision_recall(VocResult((NO_OBJECTS, NOTHING_FOUND), 0.5), ["cell", "dust"], path)
    assert np.ptp(pixels(path)) > 200
    with pytest.raises(ValueError, match="zip"):
        plot_precision_recall(voc_result(2), ["cell"], path)


def test_precision_recall_names_only_classes_with_objects(tmp_path: Path) -> None:
    path = tmp_path / "pr.svg"
    result = VocResult((*voc_result(1).classes, NO_OBJECTS), 0.5)
    plot_precision_recall(result, ["cell", "dust"], path)
    svg = path.read_text()
    assert "cell  0.900" in svg
    assert "dust" not in svg


def test_confusion(tmp_path: Path) -> None:
    path = tmp_path / "confusion.png"
    plot_confusion(np.array([[9, 1], [2, 0]]), ["cell"], path)
    good = pixels(path)
    plot_confusion(np.array([[1, 9], [2, 0]]), ["cell"], path)
    assert (pixels(path) != good).any()
    plot_confusion(np.zeros((31, 31), dtype=np.int64), [f"class {label}" for label in range(30)], path)
    with pytest.raises(ValueError, match=r"\(3, 3\) for 2 classes, got \(2, 2\)"):
        plot_confusion(np.zeros((2, 2), dtype=np.int64), ["cell", "dust"], path)


def test_training(tmp_path: Path) -> None:
    path = tmp_path / "training.png"
    plot_training(STEPS, path)
    without_evaluation = pixels(path)
    assert np.ptp(without_evaluation) > 200
    plot_training([*STEPS, {"epoch": 3, "val_map": 0.4}, {"epoch": 6, "val_map": 0.6}], path)
    half = without_evaluation.shape[1] // 2
    changed = (pixels(path) != without_evaluation).any(axis=2)
    assert changed[:, half:].any()
    plot_training([], path)
    plot_training(STEPS[:1], path)


def test_svg_shows_every_loss_part(tmp_path: Path) -> None:
    path = tmp_path / "training.svg"
    plot_training([*STEPS, {"epoch": 3, "val_map": 0.4}], path)
    svg = path.read_text()
    for label in ("box loss", "learning rate", "images/s", "val map"):
        assert f"<!-- {label} -->" in svg
