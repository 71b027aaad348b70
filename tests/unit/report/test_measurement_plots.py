"""Plots of measurements show what they are given, and no name covers another."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from vovnet.profiling.measurement import Accuracy, Measurement
from vovnet.report.measurement_plots import (
    MARKERS,
    plot_batches,
    plot_layer_roofline,
    plot_layers,
    plot_roofline,
    plot_stages,
    plot_tradeoffs,
)
from vovnet.report.page import SHAPES, _figures
from vovnet.report.panels import group_layers, layer_points, roofline_panel, tradeoff_panels
from vovnet.report.plots import COLOURS

from .measured import bare_measurements, energy, latency, measurements

BARE = bare_measurements()
FULL = measurements()


def axis_labels(figure: Figure) -> list[tuple[str, str]]:
    return [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]


def names_in(figure: Figure) -> list[list[Annotation]]:
    return [[one for one in axes.texts if isinstance(one, Annotation) and one.get_text()] for axes in figure.axes]


def crowd(size: int) -> list[Measurement]:
    chance = random.Random(1)
    return [
        replace(
            FULL[place % 3],
            name=f"a_model_number_{place}",
            latency=latency(1.4 * chance.uniform(0.7, 2), place),
            energy=energy(chance.uniform(1, 6)),
            accuracy=Accuracy("COCO", "val", 5000, {"AP": 0.3 + 0.05 * chance.random()}),
        )
        for place in range(size)
    ]


def test_the_four_panels_of_the_paper() -> None:
    accuracy = "VOC07, VOC 2007 test, 4952 images"
    efficiency = "G multiply-adds/s"
    assert axis_labels(plot_tradeoffs(FULL)) == [
        ("images/s", accuracy),
        (efficiency, accuracy),
        ("J/image", accuracy),
        ("J/image", efficiency),
    ]


def test_panels_without_data_are_left_out_and_substitutes_stand_in() -> None:
    no_joules = [replace(one, energy=None) for one in FULL]
    assert [panel.x_label for panel in tradeoff_panels(no_joules)] == ["images/s", "G multiply-adds/s"]
    assert [panel.title for panel in tradeoff_panels(BARE)] == ["(a)", "(b)"]
    assert axis_labels(plot_tradeoffs(BARE)) == [
        ("images/s", "G multiply-adds/s"),
        ("memory access cost (M elements)", "time (ms)"),
    ]


def test_points_carry_the_figures_and_their_intervals() -> None:
    speed, efficiency, joules, _ = tradeoff_panels(FULL)
    for place, one in enumerate(FULL):
        fast, slow = one.latency.interval_ms
        point = speed.points[place]
        assert (point.x, point.y) == (one.images_per_s, one.accuracy.figures["VOC07"])
        assert point.x_interval == pytest.approx((1e3 / slow, 1e3 / fast))
        assert efficiency.points[place].x == pytest.approx(one.gmultiply_adds_per_s)
        assert joules.points[place].x_interval == one.energy.figure.energy_interval_j
        assert point.y_interval is None


def test_accuracies_on_different_data_share_no_axis() -> None:
    odd = replace(FULL[0], accuracy=Accuracy("other data", "test", 10, {"VOC07": 0.9}))
    panel = tradeoff_panels([odd, FULL[1], FULL[2]])[0]
    assert [point.label for point in panel.points] == ["resnet18", "mobilenet_v3_small"]
    assert "VOC 2007" in panel.y_label


def test_no_name_covers_another_and_all_are_inside() -> None:
    figure = plot_tradeoffs(crowd(8))
    renderer = FigureCanvasAgg(figure).get_renderer()
    for axes, names in zip(figure.axes, names_in(figure), strict=True):
        assert len(names) == 8
        boxes = [name.get_window_extent(renderer) for name in names]
        frame = axes.get_window_extent(renderer)
        for place, box in enumerate(boxes):
            assert frame.x0 <= box.x0 < box.x1 <= frame.x1
            assert frame.y0 <= box.y0 < box.y1 <= frame.y1
            overlaps = [Bbox.intersection(box, other) for other in boxes[:place]]
            assert not any(one is not None and one.width * one.height > 1 for one in overlaps)


def test_no_two_models_look_alike() -> None:
    looks = {(COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]) for place in range(56)}
    assert len(looks) == 56
    assert len(SHAPES) == len(MARKERS)  # the page uses the same shapes


def test_dollars_in_a_name_are_no_formula() -> None:
    figure = plot_tradeoffs([replace(FULL[0], name=r"$\oops$ costs $")])
    FigureCanvasAgg(figure).draw()  # a formula that is none would raise here
    assert names_in(figure)[0][0].get_text().count("$") == 3


def test_the_roofline_has_a_roof_and_a_point_for_each_model() -> None:
    panel, roofs = roofline_panel(FULL)
    assert [(roof.gflop_per_s, roof.gbyte_per_s) for roof in roofs] == [(900.0, 60.0)]
    for point, one in zip(panel.points, FULL, strict=True):
        assert point.y == one.gflop_per_s
        assert point.x == one.cost.total.flops_per_byte(4)
    (axes,) = plot_roofline(FULL).axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    x, y = axes.lines[-1].get_data()
    assert max(y) == 900
    assert y[0] == pytest.approx(60 * x[0])
    no_peak = [replace(one, conditions=replace(one.conditions, peak=None)) for one in FULL]
    assert roofline_panel(no_peak)[1] == []
    assert len(names_in(plot_roofline(no_peak))[0]) == 3


def test_dots_of_layers_have_areas_by_their_share_of_the_time() -> None:
    points = sorted(layer_points(FULL[0]), key=lambda point: -point.share)
    areas = plot_layer_roofline(FULL[0]).axes[0].collections[0].get_sizes()
    assert len(areas) == len(points) > 10
    assert areas[0] / areas[1] == pytest.approx(points[0].share / points[1].share)
    assert layer_points(BARE[0]) == []


def test_layers_are_grouped_by_path_and_lose_nothing() -> None:
    one = FULL[2]
    groups = group_layers(one)
    assert 20 < len(groups) <= 40 < len(one.cost.layers)
    assert groups[0].label == "features.0.0"
    assert sum(group.multiply_adds for group in groups) == one.cost.total.multiply_adds
    assert sum(group.time_ms for group in groups) == pytest.approx(1e3 * sum(one.layer_seconds))
    few = group_layers(one, at_most=2)  # less than the parts at the first level
    assert len(few) <= 2
    assert sum(group.other_elements for group in few) == one.cost.total.other_elements
    assert len(group_layers(one, at_most=1000)) == len({layer.path for layer in one.cost.layers})


def test_bars_of_layers_show_each_group() -> None:
    figure = plot_layers(FULL[0])
    groups = group_layers(FULL[0])
    time, work, memory = figure.axes
    assert [bar.get_width() for bar in time.patches] == [group.time_ms for group in groups]
    assert [bar.get_width() for bar in work.patches] == [group.multiply_adds / 1e6 for group in groups]
    assert len(memory.patches) == 2 * len(groups)
    assert len(plot_layers(BARE[0]).axes) == 2


def test_stages_are_stacked() -> None:
    (axes,) = plot_stages([*FULL, BARE[0]]).axes
    assert len(axes.patches) == 4 * 3  # the model without stages has no bar
    ends = [bar.get_x() + bar.get_width() for bar in axes.patches[-3:]]
    assert ends == pytest.approx([sum(part.median_ms for part in one.stages.values()) for one in FULL])


def test_the_sweep_shows_images_per_second() -> None:
    (axes,) = plot_batches(FULL).axes
    sizes, speeds = axes.lines[0].get_data()
    assert list(sizes) == [1, 2, 4, 8]
    assert speeds[3] == pytest.approx(8e3 / FULL[0].batches[8].median_ms)


def test_the_sweep_has_the_batch_of_the_run_and_intervals_in_file_and_page() -> None:
    one = replace(FULL[0], batches={4: latency(4.0), 2: latency(2.5)})
    (axes,) = plot_batches([one]).axes
    assert list(axes.lines[0].get_xdata()) == [1, 2, 4]
    page = _figures([one])[-1]["data"][0]
    assert page["x"] == [1, 2, 4]
    assert page["y"][0] == pytest.approx(one.images_per_s)
    fast_ms, slow_ms = one.latency.interval_ms
    assert page["y"][0] + page["error_y"]["array"][0] == pytest.approx(1e3 / fast_ms)
    assert page["y"][0] - page["error_y"]["arrayminus"][0] == pytest.approx(1e3 / slow_ms)


def test_axes_of_accuracy_name_the_last_folder_and_stay_within_0_and_1() -> None:
    one, other = (
        replace(FULL[0], accuracy=Accuracy(f"/{folder}/bccd", "test", 72, {"AP": 0.99})) for folder in ("a", "b")
    )
    assert axis_labels(plot_tradeoffs([one]))[0][1] == "AP, bccd test, 72 images"
    assert len(tradeoff_panels([one, other])[0].points) == 1  # folders of one name are not the same data
    assert plot_tradeoffs([one]).axes[0].get_ylim()[1] == 1
    axis = _figures([one])[0]["layout"]["yaxis"]
    assert (axis["minallowed"], axis["maxallowed"]) == (0, 1)


def test_a_model_without_counted_products_is_in_no_plot_of_efficiency() -> None:
    layers = tuple(replace(layer, multiply_adds=0) for layer in FULL[0].cost.layers)
    one = replace(FULL[0], cost=replace(FULL[0].cost, layers=layers, uncounted={"aten::_weight_int8pack_mm": 3}))
    panels = [*tradeoff_panels([one, FULL[1]]), roofline_panel([one, FULL[1]])[0]]
    for panel in panels:
        efficient = {panel.x_label, panel.y_label} & {"G multiply-adds/s", "GFLOP/s"}
        assert len(panel.points) == (1 if efficient else 2)


def test_rooflines_say_what_the_roof_is() -> None:
    for figure in (plot_roofline(FULL), plot_layer_roofline(FULL[0])):
        assert "matrix product" in figure.legends[0].get_title().get_text()
