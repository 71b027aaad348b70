"""The paper's scatter plots (Figures 3 and 4) with our measurements below its own, and Figure 5."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vovnet.paper.blood_cells import COMMAND
from vovnet.paper.gpu_tables import gpu_answer
from vovnet.paper.measured import conditions
from vovnet.paper.published import FIGURES, TABLES, PublishedColumn, PublishedFigure, PublishedPanel, PublishedRow
from vovnet.paper.sources import Sources
from vovnet.parsing import naming, read_bounded
from vovnet.report.document import Figure, Section, Table
from vovnet.report.labelling import Point, label_points
from vovnet.report.plotting import COLOURS, make_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "osD^vp"
Values = Mapping[str, Mapping[str, float]]  # column key → row name → value


@dataclass(frozen=True)
class Measured:
    """What was measured here for a figure.

    columns: of the values, by key; the accuracy metric may differ from the paper's.
    notes: where the values come from, and what is missing.
    """

    values: Values
    columns: Mapping[str, PublishedColumn]
    notes: Sequence[str]


def scatter_section(key: str, sources: Sources) -> Section:
    """Figure 3 or 4."""
    scatter = FIGURES[key]
    measured = measured_values(scatter, sources)
    lower = lower_panels(scatter, measured)
    rows = []
    for row in TABLES[scatter.table].rows:
        values = [measured.values[column].get(row.name) for column in scatter.columns]
        texts = ["–" if value is None else f"{value:.4g}" for value in values]
        rows.append([short_name(row), *(row.values[column] for column in scatter.columns), *texts])
    header = [
        "",
        *(f"{column.header}, paper" for column in scatter.columns.values()),
        *(f"{column.header}, ours" for column in measured.columns.values()),
    ]
    here = "the lower panels show ours" if lower else "too little was measured here to draw the lower panels"
    caption = f"{scatter.title.partition(':')[0]}: the upper panels show the paper's values, {here}"
    return Section(
        scatter.title,
        (
            f"The paper's points are plotted from {TABLES[scatter.table].number}, even where the paper's plot "
            "disagrees. The paper's axes say FLOP/s; the values are GFLOP/s, with a multiply-add counted as "
            "one operation.",
            Figure(f"{key}.png", caption, partial(_draw, scatter, measured, lower)),
            Table(header, rows, "Points", measured.notes),
        ),
    )


def figure_5_section(records: Path | None) -> Section:
    """The annotated images figure5.jpg of the records, or the command that draws them."""
    command = "`vovnet compare WEIGHTS… --images IMAGE…`"
    path = records / "figure5.jpg" if records else None
    text = "Laid out like the paper's Figure 5 (which uses COCO minival images): one image per row, one detector "
    text += "per column. "
    text += f"Dashed boxes are missed objects. {command} draws such a figure."
    figure: str | Figure = f"needs {command}"
    if path is not None and path.is_file():
        with naming(path):
            content = read_bounded(path, "record_bytes")
        caption = "Detections of four detectors on BCCD test images, next to the ground truth"
        figure = Figure(path.name, caption, lambda: content)
    return Section("Figure 5: example detections", [text, figure])


def short_name(row: PublishedRow) -> str:
    """The backbone without its growth rate."""
    return row.name.rpartition(", ")[2].partition(" (")[0]


def measured_values(scatter: PublishedFigure, sources: Sources) -> Measured:
    """Speed, efficiency and energy from the record, and accuracy on the paper's dataset.

    Figure 3 falls back to mAP on blood cells if no model has that accuracy.
    """
    table, metric = scatter.table, scatter.panels[0].y
    rows, record = TABLES[table].rows, sources.record(table)
    columns = dict(scatter.columns)
    values: dict[str, Mapping[str, float]] = {}
    notes: list[str] = []
    on_gpu = any(gpu_answer(sources.gpu(table), row.model, "fps") for row in rows)
    if record is not None and not on_gpu:
        notes.append(conditions(record, next(iter(record.measurements.values()))))
    for column in ("fps", "efficiency", "energy"):
        answers = {row.name: sources.cost(table, row.model, column) for row in rows}
        notes += [answer.note for answer in answers.values() if on_gpu and answer.kind == "measured"]
        values[column] = {name: answer.value for name, answer in answers.items() if answer.value is not None}
        notes += [f"{column}: needs {answer.note}" for answer in answers.values() if answer.kind == "needs"]
        notes += [f"{column}, {name}: {answer.note}" for name, answer in answers.items() if answer.text.startswith("≥")]
    answers = {row.name: sources.accuracy(table, row, metric.key) for row in rows}
    values[metric.key] = {name: answer.value for name, answer in answers.items() if answer.value is not None}
    if values[metric.key]:
        notes += [answer.note for answer in answers.values() if answer.kind == "measured"]
    elif table == "table2":
        studies = sources.studies
        values[metric.key] = {row.name: studies[row.model].mean_ap for row in rows if row.model in studies}
        columns[metric.key] = replace(metric, title="mAP on blood cells")
        missing = "" if values[metric.key] else f"; needs {COMMAND}"
        notes.append(f"mAP on blood cells, mean over seeds: see Table 2{missing}")
    else:
        notes.append(f"AP needs {answers[rows[0].name].note}; and likewise for the other rows of Table 4")
    return Measured(values, columns, list(dict.fromkeys(notes)))


def lower_panels(scatter: PublishedFigure, measured: Measured) -> list[PublishedPanel]:
    """The paper's panels for our values; none if no panel would have a point.

    Without accuracy, the first panel shows efficiency against speed.
    """
    first, *others = scatter.panels
    if not measured.values[first.y.key] and all(measured.values[key] for key in ("fps", "efficiency")):
        first = PublishedPanel(scatter.columns["fps"], (0, 0), scatter.columns["efficiency"], (0, 0))
    panels = [first, *others]
    return panels if any(points_of(TABLES[scatter.table].rows, measured.values, panel) for panel in panels) else []


def points_of(rows: Sequence[PublishedRow], values: Values, panel: PublishedPanel) -> list[Point]:
    """A point for each row with values in both columns of the panel."""
    x, y = values[panel.x.key], values[panel.y.key]
    return [
        Point(index, short_name(row), x[row.name], y[row.name])
        for index, row in enumerate(rows)
        if row.name in x and row.name in y
    ]


def _draw(scatter: PublishedFigure, measured: Measured, lower: Sequence[PublishedPanel]) -> bytes:
    """The figure as PNG: the paper's panels, and below them ours, if there are any."""
    rows = TABLES[scatter.table].rows
    n_rows = 2 if lower else 1
    figure = make_figure(13.0, 3.5 * n_rows)
    all_axes = figure.subplots(n_rows, 4, squeeze=False)
    printed = {column: {row.name: float(row.values[column]) for row in rows} for column in scatter.columns}
    all_points = []
    for letter, axes, panel in zip("abcd", all_axes[0], scatter.panels, strict=True):
        points = points_of(rows, printed, panel)
        _plot(axes, points, f"{letter}  paper", panel.x.header, panel.y.header)
        axes.set_xlim(_limits(panel.x_ticks, [point.x for point in points]))
        axes.set_ylim(_limits(panel.y_ticks, [point.y for point in points]))
        all_points.append(points)
    for letter, axes, panel in zip("abcd", all_axes[-1], lower, strict=False):
        points = points_of(rows, measured.values, panel)
        _plot(axes, points, f"{letter}  ours", panel.x.header, measured.columns[panel.y.key].header)
        axes.margins(0.2)
        if not points:
            missing = [column.title for column in (panel.x, panel.y) if not measured.values[column.key]]
            text = f"{' and '.join(missing)}\nnot measured" if missing else "no model has both"
            axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=9, color="#606060")
            axes.set(xticks=[], yticks=[])
        all_points.append(points)
    label_points(figure, all_points)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _plot(axes: Axes, points: Sequence[Point], title: str, x_label: str, y_label: str) -> None:
    for point in points:
        is_vovnet = point.label.startswith("VoVNet")
        axes.plot(
            point.x,
            point.y,
            MARKERS[point.index % len(MARKERS)],
            color=COLOURS[point.index % len(COLOURS)],
            markersize=6.5 if is_vovnet else 5.5,
            markeredgecolor="black",
            markeredgewidth=1.3 if is_vovnet else 0.5,
            zorder=3,
        )
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xlabel(x_label, fontsize=9)
    axes.set_ylabel(y_label, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)


def _limits(ticks: tuple[float, float], values: Sequence[float]) -> tuple[float, float]:
    """The range of the paper's ticks and all points, with room for the markers."""
    low, high = min(ticks[0], *values), max(ticks[1], *values)
    margin = 0.08 * (high - low)
    return low - margin, high + margin
