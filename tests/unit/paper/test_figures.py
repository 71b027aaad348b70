"""What the scatter plots show, and Figure 5."""

from __future__ import annotations

import pytest

from vovnet.paper import figures
from vovnet.paper.published import FIGURES, TABLES
from vovnet.paper.sources import Sources

from .reproduced import TABLE_2 as TIMES
from .reproduced import models_of, write_record, write_study

FIGURE_3, FIGURE_4 = FIGURES.values()


def test_points_of_the_plots(tmp_path):
    write_record(tmp_path, "table2", TIMES)
    write_study(tmp_path, "pelee304", [0.7])
    measured = figures.measured_values(FIGURE_3, Sources(tmp_path))
    assert measured.values["map"] == {"Pelee304, PeleeNet": pytest.approx(70)}
    assert measured.columns["map"].title == "mAP on blood cells"
    panel = FIGURE_3.panels[2]
    (point,) = figures.points_of(TABLES["table2"].rows, measured.values, panel)
    assert (point.label, point.x, point.y) == ("PeleeNet", pytest.approx(2.5), pytest.approx(70))


def test_without_accuracy_efficiency_against_speed_is_shown(tmp_path):
    write_record(tmp_path, "table4", {model: (50.0, 5.0) for model in models_of("table4")}, sensor=False)
    measured = figures.measured_values(FIGURE_4, Sources(tmp_path))
    first, *others = figures.lower_panels(FIGURE_4, measured)
    assert (first.x.key, first.y.key) == ("fps", "efficiency")
    assert len(figures.points_of(TABLES["table4"].rows, measured.values, first)) == 6
    assert not any(figures.points_of(TABLES["table4"].rows, measured.values, panel) for panel in others)


def test_the_plots_are_drawn(tmp_path):
    write_record(tmp_path, "table4", {model: (50.0 + 9 * i, 5.0) for i, model in enumerate(models_of("table4"))})
    section = figures.scatter_section("figure4", Sources(tmp_path))
    (figure,) = section.figures
    assert figure.make().startswith(b"\x89PNG")
    alone = figures.scatter_section("figure4", Sources())
    assert "too little was measured here" in alone.figures[0].caption


def test_figure_5_is_shown_if_it_was_drawn(tmp_path):
    assert not figures.figure_5_section(tmp_path).figures
    assert "needs `vovnet compare" in figures.figure_5_section(tmp_path).parts[-1]
    (tmp_path / "figure5.jpg").write_bytes(b"picture")
    assert figures.figure_5_section(tmp_path).figures[0].make() == b"picture"
