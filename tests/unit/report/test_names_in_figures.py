"""Names of models and classes in all scripts, and long ones, in figures: no boxes, no warnings, no broken layout."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.text import Text

from vovnet.engine.predicting.drawing import draw_detections, draw_target
from vovnet.media import fonts
from vovnet.media.fonts import draws, font_file_for
from vovnet.profiling.measurement import Accuracy
from vovnet.report.comparison_files import _fit_names, _font, draw_figure
from vovnet.report.measurement_plots import plot_batches, plot_layers, plot_stages, plot_tradeoffs
from vovnet.report.model_tables import label_measurements
from vovnet.report.plots import plot_confusion, plot_precision_recall, plot_training
from vovnet.report.plotting import Plot, _base_font, plain_names, plain_text, save_figure
from vovnet.report.roofline import plot_layer_roofline, plot_roofline
from vovnet.structures import Detections, Target

from ..media.test_fonts import NAMES, install
from .compared import comparison
from .measured import latency, measurements
from .test_plots import voc_result

__all__ = ["install"]  # a fixture
LONG = "runs/" + "a_long_name_" * 30 + "best.safetensors"
PLOTS = (
    plot_tradeoffs,
    plot_roofline,
    plot_stages,
    plot_batches,
    lambda rows: plot_layers(rows[0]),
    lambda rows: plot_layer_roofline(rows[0]),
)


HOSTILE = {
    "a formula": "$\\frac{$",
    "another formula": "\\$x$",
    "half of a pair": "\udce9t",
    "long": "x" * 100_000,
    "long and wide": "W" * 500,
    "wide": "猫" * 100_000,
    "emoji": "😀" * 1000,
    "accents": "\u0301" * 5000,
    "a forged line": "a\nvovnet: done",
    "hidden": "_hidden",
    "per cent": "100% %s {x}",
    "control characters": "\0\x01\x1b[31m\x9b",
    "HTML": "<script>alert(1)</script>",
    "an entity": "a&b;<![CDATA[",
    "no characters": "\ufffe\uffff",
    "turned": "\u202egpj.exe",
    "empty": "",
    "a space": " ",
    "an escape": "\\u0041",
}


def shown_in(svg: bytes) -> str:
    return "".join(ElementTree.fromstring(svg).itertext())


def letters_without_glyph(plot: Plot) -> set[str]:
    texts = {letter for text in plot.figure.findobj(Text) for letter in text.get_text() if not letter.isspace()}
    return {letter for letter in texts if not draws(_base_font(), letter) and font_file_for(letter) is None}


@pytest.mark.parametrize("make", PLOTS)
@pytest.mark.parametrize("installed", ["x", "猫汽车"])
def test_figures_have_a_glyph_for_every_letter(install: Callable[[str], Path], make: object, installed: str) -> None:
    """matplotlib's warning of a missing glyph is an error in these tests."""
    install(installed)
    rows = [replace(row, name=name) for row, name in zip(measurements(), ("汽车", "😀猫", LONG), strict=True)]
    plot = make(rows)
    png, svg = plot.png(), plot.svg()
    assert png[:4] == b"\x89PNG"
    assert letters_without_glyph(plot) == set()
    shown = "".join(ElementTree.fromstring(svg).itertext())
    assert "汽车" in shown  # a browser has fonts of its own
    assert "\\u" not in shown


def test_figures_use_the_fonts_that_are_installed(install: Callable[[str], Path]) -> None:
    install("x")
    without = plot_stages([replace(measurements()[0], name="汽车")])
    fonts_without = {family for text in without.figure.findobj(Text) for family in text.get_fontfamily()}
    install("汽车")
    plot = plot_stages([replace(measurements()[0], name="汽车")])
    plot.png()
    label, *_ = (text for text in plot.figure.findobj(Text) if "汽" in text.get_text())
    assert label.get_text() == "汽车"
    assert set(label.get_fontfamily()) - fonts_without


@pytest.mark.parametrize("name", NAMES)
def test_a_confusion_matrix_of_any_classes(name: str, tmp_path: Path) -> None:
    save_figure(plot_confusion(np.array([[9, 1], [2, 0]]), [name]), tmp_path / "confusion.png")


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_plots_of_an_evaluation_with_hostile_classes(name: str) -> None:
    for figure in (plot_confusion(np.array([[9, 1], [2, 0]]), [name]), plot_precision_recall(voc_result(1), [name])):
        svg = Plot(figure).svg()
        assert Plot(figure).png()[:4] == b"\x89PNG"
        assert plain_text(name).removeprefix("\\")[:1] in shown_in(svg)
        assert len(shown_in(svg)) < 2000


@pytest.mark.parametrize("names", [list(HOSTILE)[start : start + 3] for start in range(0, len(HOSTILE), 3)])
def test_plots_of_measurements_with_hostile_names(names: Sequence[str]) -> None:
    rows = []
    for key, row in zip(names, measurements(), strict=False):
        name = HOSTILE[key]
        conditions = replace(row.conditions, device_name=name)
        accuracy = Accuracy(name, name, 9, {name: 0.5})
        rows.append(replace(row, name=name, conditions=conditions, stages={name: latency(1.0)}, accuracy=accuracy))
    for make in (plot_tradeoffs, plot_roofline, plot_stages, plot_batches):
        assert len(shown_in(make(rows).svg())) < 20_000


def test_layers_with_hostile_names() -> None:
    first = measurements()[0]
    names = itertools.cycle(HOSTILE.values())
    layers = tuple(replace(layer, path=next(names), kind=next(names)) for layer in first.cost.layers)
    row = replace(first, cost=replace(first.cost, layers=layers))
    for make in (plot_layers, plot_layer_roofline):
        ElementTree.fromstring(make(row).svg())


def test_a_training_log_with_hostile_keys() -> None:
    records = [{"epoch": 1.0, **{f"val_{name}": 0.5 for name in HOSTILE.values()}, f"{HOSTILE['a formula']}_loss": 1.0}]
    assert len(shown_in(Plot(plot_training(records)).svg())) < 5000


def test_labels_that_matplotlib_would_hide_are_in_the_legends() -> None:
    rows = [replace(row, name=f"_{row.name}", stages={"_decode": latency(1.0)}) for row in measurements()]
    assert "_hidden  " in shown_in(Plot(plot_precision_recall(voc_result(1), ["_hidden"])).svg())
    assert "_vovnet27_slim" in shown_in(plot_batches(rows).svg())
    assert "_decode" in shown_in(plot_stages(rows).svg())
    rows = [replace(row, conditions=replace(row.conditions, device_name="_GPU")) for row in rows]
    assert "_GPU" in shown_in(plot_roofline(rows).svg())


def test_names_that_are_the_same_when_short_can_be_told_apart() -> None:
    names = [f"{'a' * 500}{number}{'b' * 500}" for number in range(3)] + ["a\x01", "a\x02"]
    shown = plain_names(names)
    assert len(set(shown)) == 5
    assert all(len(name) < 70 for name in shown)
    labels = {text.get_text() for text in plot_confusion(np.eye(6, dtype=np.int64), names).findobj(Text)}
    assert set(shown) <= labels
    rows = label_measurements([replace(row, name=name) for row, name in zip(measurements(), names, strict=False)])
    assert len({plain_text(row.name) for row in rows}) == 3
    made = comparison()
    assert len(set(_fit_names(names, _font("DejaVuSans.ttf", 20), 300))) == 5
    draw_figure(replace(made, images=made.images[:1]))


def test_a_confusion_matrix_of_a_thousand_classes_has_a_bounded_size() -> None:
    sizes = [plot_confusion(np.eye(n + 1, dtype=np.int64), [f"class {i}" for i in range(n)]) for n in (80, 400, 1203)]
    assert max(figure.get_size_inches().max() for figure in sizes) < 25
    assert len(sizes[0].axes[0].get_xticks()) == 81
    assert max(len(figure.axes[0].get_xticks()) for figure in sizes) < 210


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_on_images(name: str) -> None:
    boxes, labels = torch.tensor([[10.0, 10, 90, 90]] * 20), torch.zeros(20, dtype=torch.int64)
    detections = Detections(boxes, labels, torch.full((20,), 0.5), (100, 100))
    image = torch.zeros(3, 100, 100, dtype=torch.uint8)
    began = time.process_time()
    assert draw_detections(image, detections, [name], target=Target.make(boxes.tolist()[:1], [0])).shape == image.shape
    draw_target(image, Target.make(boxes.tolist(), [0] * 20), [name])
    made = comparison()
    draw_figure(replace(made, annotators=tuple(replace(one, name=name) for one in made.annotators)))
    assert time.process_time() - began < 5


def test_text_of_a_figure(install: Callable[[str], Path]) -> None:
    install("猫")
    assert plain_text("猫 $x$") == "猫 \\$x\\$"
    assert plain_text("汽") == "\\u6c7d"
    assert len(plain_text(LONG)) == 64
    assert plain_text(LONG).startswith("runs/a_long")
    assert plain_text(LONG).endswith("best.safetensors")


def test_names_on_a_comparison_can_be_told_apart(install: Callable[[str], Path]) -> None:
    install("x")
    made = comparison()
    figures = [
        np.asarray(draw_figure(replace(made, annotators=tuple(replace(one, name=name) for one in made.annotators))))
        for name in ("汽", "车", "\U0010ffff")
    ]
    assert not np.array_equal(figures[0], figures[1])
    assert not np.array_equal(figures[0], figures[2])
    assert fonts.font_file_for("汽") is None
