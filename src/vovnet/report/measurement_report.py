"""Measurements as Markdown and as a folder of files: record, tables, plots and one page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vovnet.files import write_bytes, write_text
from vovnet.printing import line
from vovnet.profiling.measurement import Measurement, write_measurements
from vovnet.report.document import BulletList, Figure, Section, parts_to_markdown
from vovnet.report.layer_tables import LAYER_COLUMNS, layer_rows, with_own_layers
from vovnet.report.measurement_plots import plot_batches, plot_layers, plot_stages, plot_tradeoffs, tradeoff_panels
from vovnet.report.measurement_remarks import is_warning, remarks
from vovnet.report.model_tables import label_measurements, model_columns, model_tables
from vovnet.report.page import Choice, page_content
from vovnet.report.plotting import Plot, marker_svg
from vovnet.report.roofline import plot_layer_roofline, plot_roofline
from vovnet.report.table import make_table, to_csv

INTRODUCTION = (
    "Operations, memory access, time, memory and energy of a forward pass. “G multiply-adds/s” is what the VoVNet "
    "paper calls GPU-computation efficiency in FLOP/s; a multiply-add is two FLOPs here."
)
_MODEL_PLOTS = ("tradeoffs", "roofline", "stages", "batches")
HOVER = (
    "Error bars are the intervals that the tables have in parentheses. Point at a marker or a bar to see its values."
)


def to_markdown(measurements: Sequence[Measurement]) -> str:
    """The tables and the remarks, without a title of their own."""
    rows = label_measurements(measurements)
    return parts_to_markdown([*model_tables(rows), BulletList("Conditions", remarks(rows))])


def write_measurement_report(measurements: Sequence[Measurement], folder: str | Path) -> None:
    """Write into `folder` measurement.json, .csv, .md and .html, layers.csv, and the plots as .png and .svg.

    Files of an earlier report there are replaced or removed. Raises ValueError without a measurement.
    """
    if not measurements:
        raise ValueError("a report needs at least one measurement, got none")
    folder = Path(folder)
    rows = label_measurements(measurements)
    write_measurements(measurements, folder / "measurement.json")
    texts = {
        "measurement.csv": to_csv(model_columns(rows), rows),
        "layers.csv": to_csv(LAYER_COLUMNS, [layer for row in with_own_layers(rows) for layer in layer_rows(row)]),
        "measurement.md": to_markdown(measurements),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    first, *others = model_tables(rows)
    first = replace(first, markers=[marker_svg(index) for index in range(len(rows))])
    plots = _write_model_plots(rows, folder)
    layers = [_write_layer_plots(row, folder, number) for number, row in enumerate(with_own_layers(rows), 1)]
    page = page_content(
        title=f"What {line(measurements[0].name)} costs" if len(layers) == 1 else f"What {len(layers)} models cost",
        introduction=INTRODUCTION,
        sections=[
            Section("Models", [first, *others]),
            Section("Plots", [HOVER, *plots]),
            Choice("Layers", "Model", layers),
            Section("Conditions and methods", [BulletList("", remarks(rows))]),
        ],
        scripted=True,
        item_class=lambda text: "warning" if is_warning(text) else "",
    )
    write_bytes(folder / "measurement.html", page)
    written = {Path(figure.name).stem for figures in (plots, *(part.figures for part in layers)) for figure in figures}
    old = [folder / f"{name}{suffix}" for name in _MODEL_PLOTS for suffix in (".png", ".svg")]
    for path in (*old, *(folder / "layers").glob("[0-9][0-9]_*")):  # last, so that a full disk costs none of them
        if path.stem not in written:
            path.unlink(missing_ok=True)


def _write_model_plots(rows: Sequence[Measurement], folder: Path) -> list[Figure]:
    """Write the plots of all models; returns those there are, for the page."""
    panels = tradeoff_panels(rows)
    tradeoffs = (
        f"({letter}) {panel.y.axis_label} against {panel.x.axis_label}"
        for letter, panel in zip("abcd", panels, strict=False)
    )
    figures = [
        _write_plot(plot_tradeoffs(rows), folder / "tradeoffs", "; ".join(tradeoffs)),
        _write_plot(plot_roofline(rows), folder / "roofline", "Roofline of the models"),
        _write_plot(plot_stages(rows), folder / "stages", "From reading the file to drawing the boxes"),
        _write_plot(plot_batches(rows), folder / "batches", "Images/s against batch size"),
    ]
    return list(filter(None, figures))


def _write_layer_plots(row: Measurement, folder: Path, number: int) -> Section:
    """Write the plots of a model's layers; returns its section of the page."""
    stem = f"{number:02d}_{re.sub(r'[^A-Za-z0-9.-]+', '_', row.name)[:80]}"
    figures = [
        _write_plot(plot_layers(row), folder / "layers" / stem, "Layer by layer, in the order of the calls"),
        _write_plot(plot_layer_roofline(row), folder / "layers" / f"{stem}_roofline", "Roofline of the layers"),
    ]
    _, *columns = LAYER_COLUMNS  # the first is the model
    return Section(row.name, [*filter(None, figures), make_table("", columns, layer_rows(row))])


def _write_plot(plot: Plot | None, path: Path, caption: str) -> Figure | None:
    """Write the plot as PNG and SVG. Returns the SVG, or None without a plot."""
    png, svg = (path.with_name(f"{path.name}{suffix}") for suffix in (".png", ".svg"))  # names can hold dots
    if plot is None:
        return None
    for file, content in ((png, plot.png()), (svg, plot.svg())):
        write_bytes(file, content)
    return Figure.of_file(svg, caption)
