"""The paper's scatter plots (Figures 3 and 4) with our measurements below its own, and Figure 5."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vovnet.paper.accuracy import METRICS, Accuracies
from vovnet.paper.blood_cells import COMMAND, Study
from vovnet.paper.measured import Record, conditions, measured_answer
from vovnet.paper.published import FIGURE_3, FIGURE_4, TABLES, PublishedColumn, PublishedPanel, PublishedRow
from vovnet.report.document import Figure, Section, Table
from vovnet.report.labelling import Point, label_points
from vovnet.report.plotting import COLOURS, make_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "osD^vp"
Values = Mapping[str, Mapping[str, float]]  # column key → row name → value


@dataclass(frozen=True)
class ScatterFigure:
    """A figure of the paper with four scatter plots.

    table: key of the table whose values are drawn.
    panels: a to d; the first one shows accuracy on its y axis.
    """

    number: str
    title: str
    table: str
    panels: tuple[PublishedPanel, ...]

    @property
    def rows(self) -> Sequence[PublishedRow]:
        return TABLES[self.table].rows

    @property
    def columns(self) -> dict[str, PublishedColumn]:
        return {column.key: column for panel in self.panels for column in (panel.x, panel.y)}

    @property
    def accuracy(self) -> PublishedColumn:
        return self.panels[0].y


SCATTER_FIGURES = {
    "figure3": ScatterFigure(
        "Figure 3", "lightweight detectors, accuracy against speed, efficiency and energy", "table2", FIGURE_3
    ),
    "figure4": ScatterFigure(
        "Figure 4", "RefineDet320, accuracy against speed, efficiency and energy", "table4", FIGURE_4
    ),
}


@dataclass(frozen=True)
class Measured:
    """What was measured here for a figure.

    accuracy_label: title of the accuracy axis.
    notes: where the values come from, and what is missing.
    """

    values: Values
    accuracy_label: str
    notes: Sequence[str]

    def header(self, column: PublishedColumn) -> str:
        return self.accuracy_label if column.key in METRICS else column.header


def scatter_section(key: str, record: Record | None, accuracies: Accuracies, studies: Mapping[str, Study]) -> Section:
    """Figure 3 or 4. record, accuracies, studies: see `vovnet.paper.tables.table_section`."""
    scatter = SCATTER_FIGURES[key]
    measured = measured_values(scatter, record, accuracies, studies)
    columns = scatter.columns
    rows = []
    for row in scatter.rows:
        values = [measured.values[column].get(row.name) for column in columns]
        texts = ["–" if value is None else f"{value:.4g}" for value in values]
        rows.append([short_name(row), *(row.values[column] for column in columns), *texts])
    header = [
        "",
        *(f"{column.header}, paper" for column in columns.values()),
        *(f"{measured.header(column)}, here" for column in columns.values()),
    ]
    drawn = any(points_of(scatter.rows, measured.values, panel) for panel in lower_panels(scatter, measured))
    lower = "the lower ones what was measured here" if drawn else "too little was measured here to draw the lower ones"
    return Section(
        f"{scatter.number}: {scatter.title}",
        (
            f"The paper's points are drawn from {TABLES[scatter.table].number}, even where its plots show others. Its "
            "axes say FLOP/s; the values are GFLOP/s, with a multiply-add counted as one operation.",
            Figure(
                f"{key}.png",
                f"{scatter.number}: the upper panels show the paper's values, {lower}",
                partial(_draw, scatter, measured),
            ),
            Table(header, rows, "Points", measured.notes),
        ),
    )


def figure_5_section(records: Path | None) -> Section:
    """The annotated images figure5.jpg of the records, or the command that draws them."""
    command = "`vovnet compare WEIGHTS… --images IMAGE…`"
    path = records / "figure5.jpg" if records else None
    text = f"The same images with the detections of several detectors, as the paper shows for COCO minival. {command} "
    text += "draws them."
    figure: str | Figure = f"needs {command}"
    if path is not None and path.is_file():
        figure = Figure.of_file(path, "The same images with the detections of several detectors, drawn here")
    return Section("Figure 5: example detections", [text, figure])


def short_name(row: PublishedRow) -> str:
    """The backbone without its growth rate."""
    return row.name.rpartition(", ")[2].partition(" (")[0]


def measured_values(
    scatter: ScatterFigure, record: Record | None, accuracies: Accuracies, studies: Mapping[str, Study]
) -> Measured:
    """Speed, efficiency and energy from the record, and accuracy on the paper's dataset.

    If no model of Figure 3 has that accuracy, it is the mAP on blood cells.
    """
    rows, table, metric = scatter.rows, scatter.table, scatter.accuracy
    values: dict[str, Mapping[str, float]] = {}
    notes: list[str] = []
    if record is not None:
        notes.append(conditions(record, next(iter(record.measurements.values()))))
    for column in ("fps", "efficiency", "energy"):
        answers = {row.name: measured_answer(record, table, row.model or "", column) for row in rows}
        values[column] = {name: answer.value for name, answer in answers.items() if answer.value is not None}
        notes += [f"{column}: needs {answer.note}" for answer in answers.values() if answer.kind == "needs"]
    answers = {row.name: accuracies.answer(table, row, metric.key) for row in rows}
    values[metric.key] = {name: answer.value for name, answer in answers.items() if answer.value is not None}
    label = metric.title
    if values[metric.key]:
        notes += [answer.note for answer in answers.values() if answer.kind == "measured"]
    elif table == "table2":
        values[metric.key] = {row.name: study.mean_ap for row in rows if (study := studies.get(row.model or ""))}
        label = "mAP on blood cells"
        missing = "" if values[metric.key] else f"; needs {COMMAND}"
        notes.append(f"mAP on blood cells, mean over seeds: see Table 2{missing}")
    else:
        notes.append(f"AP needs {answers[rows[0].name].note} and so on, see Table 4")
    return Measured(values, label, list(dict.fromkeys(notes)))


def lower_panels(scatter: ScatterFigure, measured: Measured) -> list[PublishedPanel]:
    """The paper's panels; without accuracy, the first one shows efficiency against speed."""
    first, *others = scatter.panels
    if not measured.values[scatter.accuracy.key] and all(measured.values[key] for key in ("fps", "efficiency")):
        first = PublishedPanel(scatter.columns["fps"], (0, 0), scatter.columns["efficiency"], (0, 0))
    return [first, *others]


def points_of(rows: Sequence[PublishedRow], values: Values, panel: PublishedPanel) -> list[Point]:
    """A point for each row with values in both columns of the panel."""
    x, y = values[panel.x.key], values[panel.y.key]
    return [
        Point(index, short_name(row), x[row.name], y[row.name], None, None)
        for index, row in enumerate(rows)
        if row.name in x and row.name in y
    ]


def _draw(scatter: ScatterFigure, measured: Measured) -> bytes:
    """The figure as PNG: the paper's panels, and below them ours if they have any point."""
    rows, lower = scatter.rows, lower_panels(scatter, measured)
    if not any(points_of(rows, measured.values, panel) for panel in lower):
        lower = []
    n_rows = 2 if lower else 1
    figure = make_figure(13.0, 3.5 * n_rows)
    all_axes = figure.subplots(n_rows, 4, squeeze=False)
    printed = {column: {row.name: float(row.values[column]) for row in rows} for column in scatter.columns}
    styles = {short_name(row): (MARKERS[i % len(MARKERS)], COLOURS[i % len(COLOURS)]) for i, row in enumerate(rows)}
    all_points = []
    for letter, axes, panel in zip("abcd", all_axes[0], scatter.panels, strict=True):
        points = points_of(rows, printed, panel)
        _plot(axes, points, styles, title=f"{letter}  paper", x_label=panel.x.header, y_label=panel.y.header)
        axes.set_xlim(_limits(panel.x_ticks, [point.x for point in points]))
        axes.set_ylim(_limits(panel.y_ticks, [point.y for point in points]))
        all_points.append(points)
    for letter, axes, panel in zip("abcd", all_axes[-1], lower, strict=False):
        points = points_of(rows, measured.values, panel)
        label = measured.header(panel.y)
        _plot(axes, points, styles, title=f"{letter}  here", x_label=panel.x.header, y_label=label)
        axes.margins(0.2)
        if not points:
            _say_what_is_missing(axes, panel, measured)
        all_points.append(points)
    label_points(figure, all_points)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _plot(
    axes: Axes,
    points: Sequence[Point],
    styles: Mapping[str, tuple[str, str]],
    *,
    title: str,
    x_label: str,
    y_label: str,
) -> None:
    """styles: marker and colour by the points' labels."""
    for point in points:
        marker, colour = styles[point.label]
        is_vovnet = point.label.startswith("VoVNet")
        axes.plot(
            point.x,
            point.y,
            marker,
            color=colour,
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


def _say_what_is_missing(axes: Axes, panel: PublishedPanel, measured: Measured) -> None:
    missing = [column.title for column in (panel.x, panel.y) if not measured.values[column.key]]
    text = f"{' and '.join(missing)}\nnot measured" if missing else "no model has both"
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=9, color="#606060")
    axes.set(xticks=[], yticks=[])
