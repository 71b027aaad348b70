"""The Pareto front of the detectors trained on blood cells: what they find against what they cost.

Accuracy and counts are those of the records of the trainings. Times and joules are those of bccd_costs.json, which
benchmarks/bccd_costs.py writes; without it the front is that of the multiply-adds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vovnet.profiling.measurement import Measurement, read_measurements
from vovnet.profiling.pareto import undominated
from vovnet.provenance import count_threads
from vovnet.report.plotting import PAGE_INCH, SMALL, Plot, add_legend, label_axes, make_figure, model_style

COSTS = "bccd_costs.json"
METRICS = {"COCO AP": "coco_ap", "VOC07 mAP": "voc07_map"}


@dataclass(frozen=True)
class Trained:
    """A detector trained on blood cells.

    name: of its record.
    model, options: as in its config.
    voc07_map, coco_ap: on test.
    """

    name: str
    model: str
    options: Mapping[str, Any]
    classes: int
    epochs: float
    parameters: int
    multiply_adds: int
    voc07_map: float
    coco_ap: float


def trained(records: Path) -> list[Trained]:
    """Those with a record, the fewest multiply-adds first; of several seeds the first, whatever it reached."""
    paths = [*sorted(records.glob("bccd*.json")), *sorted((records / "bccd_study").glob("*_0.json"))]
    found = [_read(path) for path in paths if path.name != COSTS]
    return sorted(found, key=lambda one: (one.multiply_adds, one.name))


def _read(path: Path) -> Trained:
    record = json.loads(path.read_text())
    config, test = record["config"], record["test"]
    return Trained(
        path.stem,
        config["model"],
        config["model_options"],
        len(test["classes"]),
        config["schedule"]["epochs"],
        record["parameters"],
        record["multiply_adds"],
        test["voc07_map"],
        test["coco"]["AP"],
    )


def costs(records: Path) -> dict[str, Measurement]:
    """Name of a record → what its detector costs; empty before `benchmarks/bccd_costs.py` has run."""
    path = records / COSTS
    return {one.name: one for one in read_measurements(path)} if path.exists() else {}


def front_section(records: Path) -> str:
    """The section of docs/results.md."""
    rows, measured = trained(records), costs(records)
    columns: dict[str, list[str]] = {
        "detector": [one.model for one in rows],
        "epochs": [f"{one.epochs:g}" for one in rows],
        "parameters": [f"{one.parameters:,}" for one in rows],
        "multiply-adds (G)": [f"{one.multiply_adds / 1e9:.2f}" for one in rows],
    }
    if measured:
        columns["median (ms)"] = [_of(measured.get(one.name), lambda m: f"{m.latency.median_ms:.1f}") for one in rows]
    if any(one.energy_j_per_image for one in measured.values()):
        columns["J/image"] = [_of(measured.get(one.name), lambda m: f"{m.energy_j_per_image or 0:.3g}") for one in rows]
    for metric, key in METRICS.items():
        columns[metric] = [f"{getattr(one, key):.3f}" for one in rows]
    columns["on the front of"] = [_fronts(one, rows, measured) for one in rows]
    lines = list(zip(*columns.values(), strict=True))
    return f"""## Blood cells: accuracy against cost (measured)

All were trained from scratch on the same images, for the epochs given. Accuracy is that on test. A detector is on the
front if no other is at least as accurate at no more cost.
{_conditions(measured)}

{_table(list(columns), lines)}

![Accuracy against cost](records/bccd_front.png)
"""


def _of(measurement: Measurement | None, text: Callable[[Measurement], str]) -> str:
    return "–" if measurement is None else text(measurement)


def _fronts(one: Trained, rows: Sequence[Trained], measured: Mapping[str, Measurement]) -> str:
    """Which metrics at which costs no other detector beats, in words."""
    parts = []
    for axis, cost in _axes(rows, measured).items():
        metrics = [metric for metric, key in METRICS.items() if one.name in _on_front(rows, key, cost)]
        if metrics:
            parts.append(f"{axis.partition(' (')[0]}: {' and '.join(metrics)}")
    return "; ".join(parts) or "–"


def _axes(rows: Sequence[Trained], measured: Mapping[str, Measurement]) -> dict[str, dict[str, float]]:
    """What a cost is called → by name of a record. Times are there once they were measured."""
    axes = {"multiply-adds (G)": {one.name: one.multiply_adds / 1e9 for one in rows}}
    times = {one.name: measured[one.name].latency.median_ms for one in rows if one.name in measured}
    return axes | ({"median latency (ms)": times} if times else {})


def _on_front(rows: Sequence[Trained], key: str, cost: Mapping[str, float]) -> list[str]:
    """Names on the front of one metric and one cost, the cheapest first."""
    known = sorted((one for one in rows if one.name in cost), key=lambda one: cost[one.name])
    kept = undominated([(cost[one.name], getattr(one, key)) for one in known])
    return [one.name for one, keep in zip(known, kept, strict=True) if keep]


def _conditions(measured: Mapping[str, Measurement]) -> str:
    if not measured:
        return "Their times were not measured together yet (`python benchmarks/bccd_costs.py`)."
    conditions = next(iter(measured.values())).conditions
    where = f"{conditions.device_name}, {count_threads(conditions.threads)}"
    return f"""Times are the medians of eager passes of one image, all measured in one run ({where}) by
`python benchmarks/bccd_costs.py`."""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def plot_front(records: Path) -> Plot:
    """Each metric against multiply-adds and, once measured, against time; a line joins the detectors on the front."""
    rows = trained(records)
    by_axis = _axes(rows, costs(records))
    plot = Plot(make_figure(PAGE_INCH, 0.9 + 2.6 * len(by_axis)))
    grid = plot.figure.subplots(len(by_axis), len(METRICS), squeeze=False)
    shown: dict[str, Any] = {}
    for line, (axis, cost) in zip(grid, by_axis.items(), strict=True):
        for axes, (metric, key) in zip(line, METRICS.items(), strict=True):
            for index, one in enumerate(rows):
                if one.name in cost:
                    style = {"markeredgecolor": "black", **model_style(index)}
                    (marker,) = axes.plot(cost[one.name], getattr(one, key), linestyle="none", **style)
                    shown.setdefault(f"{one.model}, {one.epochs:g} epochs", marker)
            values = {one.name: getattr(one, key) for one in rows}
            front = [(cost[name], values[name]) for name in _on_front(rows, key, cost)]
            axes.step(*zip(*front, strict=True), where="post", color="0.6", linewidth=1, zorder=1)
            label_axes(axes, axis, f"{metric}, test")
    add_legend(plot.figure, list(shown.values()), list(shown), loc="outside lower center", ncols=2, fontsize=SMALL)
    return plot
