"""The paper's scatter plots (Figures 3 and 4) with our points below its own, and where Figures 2 and 5 are drawn."""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vovnet.paper.accuracy import FIGURES, Accuracies
from vovnet.paper.blood_cells import COMMAND, Study
from vovnet.paper.measured_tables import Record, conditions, measured_answer
from vovnet.paper.published import FIGURE_3, FIGURE_4, TABLES, PublishedColumn, PublishedPanel, PublishedRow
from vovnet.report.document import Figure, Section, Table
from vovnet.report.labelling import Point, label_points
from vovnet.report.plotting import COLOURS, make_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "osD^vp"
PANELS = {"figure3": FIGURE_3, "figure4": FIGURE_4}
SOURCES = {"figure3": "table2", "figure4": "table4"}
TITLES = {
    "figure3": "Figure 3: light detectors, accuracy against speed, efficiency and energy",
    "figure4": "Figure 4: RefineDet320, accuracy against speed, efficiency and energy",
}
# Of what a user's machine gives where there is neither accuracy nor energy.
SUBSTITUTE = ("fps", "efficiency")


@dataclass(frozen=True)
class Ours:
    """Measured figures by column and row; accuracy: what its axis is called; notes: where all of it comes from."""

    values: Mapping[str, Mapping[str, float]]
    accuracy: str
    notes: Sequence[str]


def scatter_section(key: str, record: Record | None, accuracies: Accuracies, studies: Mapping[str, Study]) -> Section:
    """Figure 3 or 4."""
    table = TABLES[SOURCES[key]]
    ours = _measured(key, record, accuracies, studies)
    axes = {column.key: column for panel in PANELS[key] for column in (panel.x, panel.y)}
    rows = []
    for row in table.rows:
        found = {column: ours.values[column].get(row.name) for column in axes}
        measured = ["–" if value is None else f"{value:.4g}" for value in found.values()]
        rows.append([short_name(row), *(row.figures[column] for column in axes), *measured])
    here = [f"{ours.accuracy if column in FIGURES else axes[column].header}, here" for column in axes]
    header = ["", *(f"{column.header}, paper" for column in axes.values()), *here]
    drawn = any(_points(table.rows, ours.values, panel) for panel in _lower_panels(PANELS[key], ours))
    lower = "the lower ones what was measured here" if drawn else "too little was measured here for others"
    caption = f"{TITLES[key].partition(':')[0]}: the upper panels are the paper's, {lower}"
    return Section(
        TITLES[key],
        (
            f"The paper's points are those of {table.title.partition(':')[0]}: where its plots show others, its tables "
            "are taken. Its axes say FLOP/s; the values are GFLOP/s, multiply-adds counted once.",
            Figure(f"{key}.png", caption, partial(_draw, key, ours)),
            Table(header, rows, "Points", ours.notes),
        ),
    )


def figure_2(records: Path | None) -> Section:
    from vovnet.paper import figure2 as aggregation

    return aggregation.section(records or Path("docs/records"))


def figure_5(records: Path | None) -> Section:
    command = "`vovnet compare WEIGHTS… --images IMAGE…`"
    path = records / "figure5.jpg" if records else None
    text = f"The same pictures by several detectors, as the paper shows COCO minival; {command} draws them."
    parts: list[str | Figure] = [text]
    if path is not None and path.is_file():
        parts.append(Figure.of_file(path, "The same pictures by several detectors, drawn here"))
    else:
        parts.append(f"needs {command}")
    return Section("Figure 5: what detectors find", parts)


def short_name(row: PublishedRow) -> str:
    """The backbone, without its growth rate."""
    return row.name.rpartition(", ")[2].partition(" (")[0]


def _measured(key: str, record: Record | None, accuracies: Accuracies, studies: Mapping[str, Study]) -> Ours:
    """Accuracy is that on the paper's data where all models have it, else for Figure 3 that on blood cells."""
    source = SOURCES[key]
    rows = TABLES[source].rows
    values: dict[str, dict[str, float]] = {}
    notes: list[str] = []
    for column in ("fps", "efficiency", "energy"):
        answers = {row.name: measured_answer(record, source, row.model or "", column) for row in rows}
        values[column] = {name: one.value for name, one in answers.items() if one.value is not None}
        notes += [f"{column}: needs {one.note}" for one in answers.values() if one.kind == "needs"]
    if record is not None:
        notes.insert(0, conditions(record, next(iter(record.measurements.values()))))
    name = next(panel.y.key for panel in PANELS[key])
    own = {row.name: accuracies.answer(source, row, name) for row in rows}
    accuracy = {name: one.value for name, one in own.items() if one.value is not None}
    label = f"{'mAP' if name == 'map' else 'AP'}"
    if accuracy:
        notes += [one.note for one in own.values() if one.kind == "measured"]
    elif key == "figure3":
        found = {row.name: study.mean_aps for row in rows if (study := studies.get(row.model or ""))}
        accuracy = {row: statistics.mean(means.values()) for row, means in found.items()}
        label = "mAP on blood cells"
        notes.append(f"mAP on blood cells, mean over seeds: see table 2{'' if accuracy else f'; needs {COMMAND}'}")
    else:
        notes += [f"AP needs {own[rows[0].name].note} and so on, see table 4"]
    values[name] = accuracy
    return Ours(values, label, list(dict.fromkeys(notes)))


def _draw(key: str, ours: Ours) -> bytes:
    panels, rows = PANELS[key], TABLES[SOURCES[key]].rows
    lower = _lower_panels(panels, ours)
    down = 2 if any(_points(rows, ours.values, panel) for panel in lower) else 1
    figure = make_figure(13.0, 3.5 * down)
    all_axes = figure.subplots(down, 4, squeeze=False)
    printed = {
        column.key: {row.name: float(row.figures[column.key]) for row in rows}
        for panel in panels
        for column in (panel.x, panel.y)
    }
    points = []
    for letter, axes, panel in zip("abcd", all_axes[0], panels, strict=True):
        points.append(_plot(axes, panel, _points(rows, printed, panel), f"{letter}  paper", panel.y.header))
        axes.set_xlim(_limits(panel.x_ticks, [point.x for point in points[-1]]))
        axes.set_ylim(_limits(panel.y_ticks, [point.y for point in points[-1]]))
    if down == 2:
        for letter, axes, panel in zip("abcd", all_axes[1], lower, strict=True):
            label = ours.accuracy if panel.y.key in FIGURES else panel.y.header
            here = _points(rows, ours.values, panel)
            points.append(_plot(axes, panel, here, f"{letter}  here", label))
            axes.margins(0.2)
            if not here:
                _say_missing(axes, panel, ours)
    label_points(figure, points)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _lower_panels(panels: Sequence[PublishedPanel], ours: Ours) -> list[PublishedPanel]:
    """The same panels; without accuracy, efficiency against speed stands in the first place."""
    first, *others = panels
    if not ours.values[first.y.key] and all(ours.values[key] for key in SUBSTITUTE):
        columns: dict[str, PublishedColumn] = {column.key: column for panel in panels for column in (panel.x, panel.y)}
        first = PublishedPanel(columns["fps"], (0, 0), columns["efficiency"], (0, 0))
    return [first, *others]


def _points(
    rows: Sequence[PublishedRow], values: Mapping[str, Mapping[str, float]], panel: PublishedPanel
) -> list[Point]:
    across, up = values[panel.x.key], values[panel.y.key]
    return [
        Point(place, short_name(row), across[row.name], up[row.name])
        for place, row in enumerate(rows)
        if row.name in across and row.name in up
    ]


def _plot(axes: Axes, panel: PublishedPanel, points: list[Point], title: str, y_label: str) -> list[Point]:
    for point in points:
        ours = point.label.startswith("VoVNet")
        axes.plot(
            point.x,
            point.y,
            MARKERS[point.index % len(MARKERS)],
            color=COLOURS[point.index % len(COLOURS)],
            markersize=6.5 if ours else 5.5,
            markeredgecolor="black",
            markeredgewidth=1.3 if ours else 0.5,
            zorder=3,
        )
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xlabel(panel.x.header, fontsize=9)
    axes.set_ylabel(y_label, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    return points


def _limits(ticks: tuple[float, float], values: Sequence[float]) -> tuple[float, float]:
    """The paper's ticks and all points, with room for the markers."""
    low, high = min(ticks[0], *values), max(ticks[1], *values)
    room = 0.08 * (high - low)
    return low - room, high + room


def _say_missing(axes: Axes, panel: PublishedPanel, ours: Ours) -> None:
    missing = [column.title for column in (panel.x, panel.y) if not ours.values[column.key]]
    text = f"{' and '.join(missing)}\nnot measured" if missing else "of no model both"
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=9, color="#606060")
    axes.set(xticks=[], yticks=[])
