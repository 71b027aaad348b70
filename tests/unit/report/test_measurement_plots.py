"""Plots of measurements show what they are given, in the figure and in the SVG, and no label covers another."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from vovnet.profiling.measurement import Accuracy, Measurement
from vovnet.report.labelling import Point
from vovnet.report.layer_tables import group_layers
from vovnet.report.measurement_plots import (
    plot_batches,
    plot_layers,
    plot_stages,
    plot_tradeoffs,
    tradeoff_panels,
)
from vovnet.report.model_tables import label_measurements
from vovnet.report.plotting import COLOURS, MARKERS, Plot
from vovnet.report.roofline import ROOFLINE, plot_layer_roofline, plot_roofline, roofline_layers, roofs_of

from .measured import bare_measurements, energy, latency, measurements

BARE = bare_measurements()
FULL = measurements()
ROWS = label_measurements(FULL)
SVG = "{http://www.w3.org/2000/svg}"


def axis_labels(plot: Plot) -> list[tuple[str, str]]:
    return [(axes.get_xlabel(), axes.get_ylabel()) for axes in plot.figure.axes]


def labels_in(figure: Figure) -> list[list[Annotation]]:
    return [[text for text in axes.texts if isinstance(text, Annotation) and text.get_text()] for axes in figure.axes]


def panel_points(measurements: Sequence[Measurement]) -> list[list[Point]]:
    rows = label_measurements(measurements)
    return [panel.points(rows) for panel in tradeoff_panels(rows)]


def titles_in(plot: Plot) -> list[str]:
    """The texts that an SVG shows on hover."""
    return [title.text or "" for title in ElementTree.fromstring(plot.svg()).iter(f"{SVG}title")]


def texts_in(plot: Plot) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(plot.svg()).iter(f"{SVG}text")]


def crowd(size: int) -> list[Measurement]:
    generator = random.Random(1)
    return [
        replace(
            FULL[index % 3],
            name=f"a_model_number_{index}",
            latency=latency(1.4 * generator.uniform(0.7, 2), index),
            energy=energy(generator.uniform(1, 6)),
            accuracy=Accuracy("COCO", "val", 5000, {"AP": 0.3 + 0.05 * generator.random()}),
        )
        for index in range(size)
    ]


def test_the_four_panels_of_the_paper() -> None:
    accuracy = "VOC07, VOC 2007 test, 4952 images"
    efficiency = "G multiply-adds/s"
    assert axis_labels(plot_tradeoffs(ROWS)) == [
        ("images/s", accuracy),
        (efficiency, accuracy),
        ("energy (J/image)", accuracy),
        ("energy (J/image)", efficiency),
    ]


def test_panels_without_data_are_left_out_and_substitutes_stand_in() -> None:
    no_joules = [replace(one, energy=None) for one in FULL]
    panels = tradeoff_panels(label_measurements(no_joules))
    assert [panel.x.header for panel in panels] == ["images/s", "G multiply-adds/s"]
    plot = plot_tradeoffs(label_measurements(BARE))
    assert [axes.get_title(loc="left") for axes in plot.figure.axes] == ["(a)", "(b)"]
    assert axis_labels(plot) == [
        ("images/s", "G multiply-adds/s"),
        ("memory access cost (M elements)", "median latency (ms)"),
    ]


def test_points_carry_the_figures_and_their_intervals() -> None:
    speed, efficiency, joules, _ = panel_points(FULL)
    for index, one in enumerate(FULL):
        fast, slow = one.latency.interval_ms
        point = speed[index]
        assert (point.x, point.y) == (one.images_per_s, one.accuracy.figures["VOC07"])
        assert point.x_interval == pytest.approx((1e3 / slow, 1e3 / fast))
        assert efficiency[index].x == pytest.approx(one.gmultiply_adds_per_s)
        assert joules[index].x_interval == one.energy.figure.energy_interval_j
        assert point.y_interval is None
    axes = plot_tradeoffs(ROWS).figure.axes[0]
    drawn = [container.lines[0].get_xydata()[0] for container in axes.containers]
    assert [tuple(xy) for xy in drawn] == [(point.x, point.y) for point in speed]
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert all(left < x < right and bottom < y < top for x, y in drawn)


def test_accuracies_on_different_data_share_no_axis() -> None:
    odd = replace(FULL[0], accuracy=Accuracy("other data", "test", 10, {"VOC07": 0.9}))
    rows = label_measurements([odd, FULL[1], FULL[2]])
    panel = tradeoff_panels(rows)[0]
    assert [point.label for point in panel.points(rows)] == ["resnet18", "mobilenet_v3_small"]
    assert "VOC 2007" in panel.y.axis_label


def test_no_label_covers_another_and_all_are_inside() -> None:
    figure = plot_tradeoffs(label_measurements(crowd(8))).figure
    renderer = FigureCanvasAgg(figure).get_renderer()
    for axes, labels in zip(figure.axes, labels_in(figure), strict=True):
        assert len(labels) == 8
        boxes = [label.get_window_extent(renderer) for label in labels]
        frame = axes.get_window_extent(renderer)
        for index, box in enumerate(boxes):
            assert frame.x0 <= box.x0 < box.x1 <= frame.x1
            assert frame.y0 <= box.y0 < box.y1 <= frame.y1
            overlaps = [Bbox.intersection(box, other) for other in boxes[:index]]
            assert not any(overlap is not None and overlap.width * overlap.height > 1 for overlap in overlaps)


def test_no_two_models_look_alike() -> None:
    looks = {(COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]) for index in range(56)}
    assert len(looks) == 56


def test_dollars_in_a_name_are_no_formula() -> None:
    odd = replace(FULL[0], name="$\\oops$ costs $ \x1b", accuracy=Accuracy("$\\data$", "test", 72, {"VOC07": 0.7}))
    plot = plot_tradeoffs(label_measurements([odd]))
    FigureCanvasAgg(plot.figure).draw()  # would raise for a wrong formula
    assert labels_in(plot.figure)[0][0].get_text().count("$") == 3
    texts = texts_in(plot)  # would raise for a control code
    assert "$\\oops$ costs $ \N{REPLACEMENT CHARACTER}" in texts
    assert "VOC07, $\\data$ test, 72 images" in texts


def test_the_roofline_has_a_roof_and_a_point_for_each_model() -> None:
    roofs = roofs_of(ROWS)
    assert [(roof.gflop_per_s, roof.gbyte_per_s) for roof in roofs.values()] == [(900.0, 60.0)]
    for point, one in zip(ROOFLINE.points(ROWS), FULL, strict=True):
        assert point.y == one.gflop_per_s
        assert point.x == one.cost.total.flops_per_byte(4)
    (axes,) = plot_roofline(ROWS).figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    x, y = axes.lines[-1].get_data()
    assert max(y) == 900
    assert y[0] == pytest.approx(60 * x[0])
    assert axis_labels(plot_roofline(ROWS)) == [("FLOP/byte", "GFLOP/s")]
    for rows in (ROWS, ROWS[:1]):  # one point has no range of its own
        (axes,) = plot_roofline(rows).figure.axes
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        for point in ROOFLINE.points(rows):
            assert 1.2 * left < point.x < right / 1.2
            assert 1.2 * bottom < point.y < top / 1.2
    no_peak = label_measurements([replace(one, conditions=replace(one.conditions, peak=None)) for one in FULL])
    assert roofs_of(no_peak) == {}
    assert len(labels_in(plot_roofline(no_peak).figure)[0]) == 3


def test_dots_of_layers_have_areas_by_their_share_of_the_time() -> None:
    layers = roofline_layers(ROWS[0])
    plot = plot_layer_roofline(ROWS[0])
    dots = plot.figure.axes[0].collections[0]
    areas = dots.get_sizes()
    assert len(areas) == len(layers) > 10
    assert areas[0] / areas[1] == pytest.approx(layers[0].share / layers[1].share)
    assert [tuple(xy) for xy in dots.get_offsets()] == [(layer.flops_per_byte, layer.gflop_per_s) for layer in layers]
    assert axis_labels(plot) == [("FLOP/byte", "GFLOP/s")]
    bare = label_measurements(BARE)[0]
    assert roofline_layers(bare) == []
    assert plot_layer_roofline(bare) is None


def test_layers_are_grouped_by_path_and_lose_nothing() -> None:
    one = FULL[2]
    groups = group_layers(ROWS[2])
    assert 20 < len(groups) <= 40 < len(one.cost.layers)
    assert groups[0].path == "features.0.0"
    assert sum(group.cost.multiply_adds for group in groups) == one.cost.total.multiply_adds
    assert sum(group.time_ms for group in groups) == pytest.approx(1e3 * sum(one.layer_seconds))
    few = group_layers(ROWS[2], at_most=2)  # less than the parts at the first level
    assert len(few) <= 2
    assert sum(group.cost.other_elements for group in few) == one.cost.total.other_elements
    assert len(group_layers(ROWS[2], at_most=1000)) == len({layer.path for layer in one.cost.layers})


def test_bars_of_layers_show_each_group() -> None:
    plot = plot_layers(ROWS[0])
    groups = group_layers(ROWS[0])
    time, work, memory = plot.figure.axes
    assert [axes.get_xlabel() for axes in plot.figure.axes] == [
        "time (ms)", "multiply-adds (M)", "memory access (M elements)"
    ]  # fmt: skip
    assert [label.get_text() for label in time.get_yticklabels()] == [group.path for group in groups]
    assert [bar.get_width() for bar in time.patches] == [group.time_ms for group in groups]
    assert [bar.get_width() for bar in work.patches] == [group.cost.multiply_adds / 1e6 for group in groups]
    assert len(memory.patches) == 2 * len(groups)
    ends = [bar.get_x() + bar.get_width() for bar in memory.patches[len(groups) :]]
    assert ends == pytest.approx(
        [(group.cost.memory_access_cost + group.cost.other_elements) / 1e6 for group in groups]
    )
    assert len(plot_layers(label_measurements(BARE)[0]).figure.axes) == 2


def test_stages_are_stacked() -> None:
    plot = plot_stages(label_measurements([*FULL, BARE[0]]))
    (axes,) = plot.figure.axes
    assert len(axes.patches) == 4 * 3  # the model without stages has no bar
    ends = [bar.get_x() + bar.get_width() for bar in axes.patches[-3:]]
    assert ends == pytest.approx([sum(part.median_ms for part in one.stages.values()) for one in FULL])
    legend = [text.get_text() for text in plot.figure.legends[0].get_texts()]
    assert legend == ["decode image", "pre-process", "network", "decode + NMS"]
    assert axes.get_xlabel() == "median latency (ms)"
    assert plot_stages(label_measurements(BARE)) is None


def test_the_sweep_shows_images_per_second() -> None:
    plot = plot_batches(ROWS)
    (axes,) = plot.figure.axes
    assert axis_labels(plot) == [("batch size", "images/s")]
    assert [text.get_text() for text in plot.figure.legends[0].get_texts()] == [one.name for one in FULL]
    assert plot_batches(label_measurements(BARE)) is None
    sizes, speeds = axes.lines[0].get_data()
    assert list(sizes) == [1, 2, 4, 8]
    assert speeds[3] == pytest.approx(8e3 / FULL[0].batches[8].median_ms)


def test_the_sweep_has_the_batch_of_the_run_and_intervals() -> None:
    one = replace(FULL[0], batches={4: latency(4.0), 2: latency(2.5)})
    plot = plot_batches(label_measurements([one]))
    (axes,) = plot.figure.axes
    sizes, speeds = axes.lines[0].get_data()
    assert list(sizes) == [1, 2, 4]
    assert speeds[0] == pytest.approx(one.images_per_s)
    fast_ms, slow_ms = one.latency.interval_ms
    (low, high) = axes.collections[0].get_segments()[0][:, 1]  # the error bar of the first size
    assert (low, high) == pytest.approx((1e3 / slow_ms, 1e3 / fast_ms))
    assert [title.splitlines()[1] for title in titles_in(plot)] == [f"part: batch size {size}" for size in (1, 2, 4)]


def test_axes_of_accuracy_name_the_last_folder_and_stay_within_0_and_1() -> None:
    one, other = (
        replace(FULL[0], accuracy=Accuracy(f"/{folder}/bccd", "test", 72, {"AP": 0.99})) for folder in ("a", "b")
    )
    assert axis_labels(plot_tradeoffs(label_measurements([one])))[0][1] == "AP, bccd test, 72 images"
    assert len(panel_points([one, other])[0]) == 1  # folders of one name are not the same data
    assert plot_tradeoffs(label_measurements([one])).figure.axes[0].get_ylim()[1] == 1


def test_a_model_without_counted_products_is_in_no_plot_of_efficiency() -> None:
    layers = tuple(replace(layer, multiply_adds=0) for layer in FULL[0].cost.layers)
    one = replace(FULL[0], cost=replace(FULL[0].cost, layers=layers, uncounted={"aten::_weight_int8pack_mm": 3}))
    rows = label_measurements([one, FULL[1]])
    for panel in [*tradeoff_panels(rows), ROOFLINE]:
        efficient = {panel.x.header, panel.y.header} & {"G multiply-adds/s", "GFLOP/s"}
        assert len(panel.points(rows)) == (1 if efficient else 2)
    assert plot_roofline(rows[:1]) is None


def test_rooflines_say_what_the_roof_is() -> None:
    for plot in (plot_roofline(ROWS), plot_layer_roofline(ROWS[0])):
        assert "matrix product" in plot.figure.legends[0].get_title().get_text()
        assert [text.get_text() for text in plot.figure.legends[0].get_texts()] == [
            "Invented GPU, float32: 900 GFLOP/s, 60 GB/s"
        ]


def test_an_svg_shows_all_values_of_a_model_on_hover() -> None:
    titles = titles_in(plot_tradeoffs(ROWS))
    assert len(titles) == 4 * 3  # models in each panel
    lines = titles[1].splitlines()
    assert lines[0] == "resnet18"
    median = FULL[1].latency
    low, high = median.interval_ms
    assert f"median (ms): {median.median_ms:.3f} ({low:.3f} – {high:.3f})" in lines
    assert {"VOC07: 0.7000", "energy (J/image): 1.700 (1.632 – 1.768)", "params (M): 11.69"} <= set(lines)


def test_an_svg_shows_the_values_of_layers_on_hover() -> None:
    layer = roofline_layers(ROWS[0])[0]
    titles = titles_in(plot_layer_roofline(ROWS[0]))
    assert titles[1].splitlines()[:2] == [layer.path, f"kind: {layer.cost.kind}"]  # the first is that of the roof
    assert len(titles) == 1 + len(roofline_layers(ROWS[0]))
    group = next(group for group in group_layers(ROWS[0]) if group.cost.multiply_adds)
    share = group.cost.multiply_adds / FULL[0].cost.total.multiply_adds
    expected = f"{group.path}\nmultiply-adds (M): {group.cost.multiply_adds / 1e6:.4g} ({share:.1%})"
    assert expected in titles_in(plot_layers(ROWS[0]))


def test_an_svg_is_the_same_bytes_each_time_and_shares_no_ids() -> None:
    first, second = plot_roofline(ROWS), plot_roofline(ROWS)
    assert first.svg() == first.svg() == second.svg()
    assert b"date" not in first.svg().lower()
    ids = [re.findall(rb' id="([^"]+)"', plot.svg()) for plot in (first, plot_layer_roofline(ROWS[0]))]
    assert all(len(set(names)) == len(names) > 0 for names in ids)
    assert not set(ids[0]) & set(ids[1])
    for plot in (first, plot_layers(ROWS[0])):
        svg = plot.svg()
        used = set(re.findall(rb'(?:url\(|href=")#([^")]+)', svg))
        assert used <= set(re.findall(rb' id="([^"]+)"', svg))
