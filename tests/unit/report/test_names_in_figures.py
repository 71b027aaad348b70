"""Names of models and classes in all scripts, and long ones, in figures: no boxes, no warnings, no broken layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.text import Text

from vovnet.engine import fonts
from vovnet.engine.fonts import draws, font_file_for
from vovnet.report.comparison_files import draw_figure
from vovnet.report.measurement_plots import plot_batches, plot_layers, plot_stages, plot_tradeoffs
from vovnet.report.plots import plot_confusion
from vovnet.report.plotting import Plot, _base_font, plain_text, save_figure
from vovnet.report.roofline import plot_layer_roofline, plot_roofline

from ..engine.test_fonts import NAMES, install
from .compared import comparison
from .measured import measurements

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
