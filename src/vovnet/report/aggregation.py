"""How strongly layers use earlier ones: Figure 2 in the paper's layout, and what it says in numbers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vovnet.files import replacing
from vovnet.measure.connections import normalized_columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Run = Mapping[str, Any]
TITLES = {
    "densenet40": "DenseNet-40",
    "osa_12_20": "OSA (12/20)",
    "osa_5_43": "OSA (5/43)",
    "resnet56": "ResNet-56",
}
# The paper's own, and one that is as clear to the colour-blind and in grey.
COLOUR_MAPS = {"figure2.png": "jet", "figure2_colour_blind_safe.png": "cividis"}


def accuracy_rows(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: cost and test error of each network, the mean over its seeds and every one."""
    header = ["network", "parameters", "multiply-adds", "memory access (M)", "test error, %", "each seed", "images/s"]
    rows = []
    for name, group in _by_network(runs):
        errors = [100 * (1 - run["test_accuracy"]) for run in group]
        first, speed = group[0], statistics.median(run["images_per_s"] for run in group)
        rows.append(
            [
                TITLES[name],
                f"{first['parameters']:,}",
                f"{first['multiply_adds']:,}",
                f"{first['memory_access_cost'] / 1e6:.2f}",
                f"{statistics.mean(errors):.2f}",
                "; ".join(f"{error:.2f}" for error in errors),
                f"{speed:.0f}",
            ]
        )
    return header, rows


def redundancy(run: Run) -> list[float]:
    """Of each block: the rank correlation over its sources between how strongly the intermediate layers use a source
    (mean of its normalised row) and how strongly the last layer does.

    The paper's first hypothesis: dense connections between intermediate layers make the last layer use the same
    features less, so it expects a negative one. Only for blocks whose intermediate layers have a choice.
    """
    found = []
    for block in run["strengths"]:
        columns = normalized_columns(block)
        used = [
            [column[source] for column in columns[:-1] if column[source] is not None]
            for source in range(len(columns) - 1)
        ]
        if all(len(_present(column)) == 1 for column in columns[:-1]):
            continue
        inner = [statistics.mean(row) for row in used]
        found.append(_rank_correlation(inner, [value for value in columns[-1][: len(inner)] if value is not None]))
    return found


def last_column(run: Run) -> list[float]:
    """Of each block the mean of its last layer's normalised strengths: 1 if it uses all sources alike."""
    return [statistics.mean(_present(normalized_columns(block)[-1])) for block in run["strengths"]]


def early_to_late(run: Run) -> list[float]:
    """Of each block, in its last layer: mean strength of the first half of the sources over that of the second half."""
    found = []
    for block in run["strengths"]:
        column = _present(block[-1])
        half = len(column) // 2
        found.append(statistics.mean(column[:half]) / statistics.mean(column[-half:]))
    return found


def hypothesis_rows(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Header and rows, one a network and seed, three numbers a figure: one for each block."""
    header = ["network", "seed", "inner against last use (ρ)", "last layer's mean use", "early / late in it"]
    rows = []
    for name, group in _by_network(runs):
        for run in group:
            if "strengths" not in run:
                continue
            figures = [redundancy(run), last_column(run), early_to_late(run)]
            texts = ["; ".join(f"{value:.2f}".replace("-", "−") for value in values) or "–" for values in figures]
            rows.append([TITLES[name], str(run["seed"]), *texts])
    return header, rows


def plot_figure2(runs: Sequence[Run], colour_map: str) -> Figure:
    """A row a network, a column a block: sources from above (0 is the block's input), what reads them to the right.

    Strengths are means over the seeds, each column over its greatest.
    """
    from matplotlib.figure import Figure

    groups = [(name, group) for name, group in _by_network(runs) if "strengths" in group[0]]
    figure = Figure(figsize=(12, 3.6 * len(groups)), layout="constrained", dpi=120)
    axes = figure.subplots(len(groups), 3, squeeze=False)
    image = None
    for row, (name, group) in zip(axes, groups, strict=True):
        for block, place in enumerate(row):
            stack = np.array([run["strengths"][block] for run in group], dtype=float)
            columns = normalized_columns(_optional(stack.mean(axis=0)))
            cells = np.array(columns, dtype=float).T
            image = place.imshow(cells, cmap=colour_map, vmin=0, vmax=1, aspect="auto")
            place.set_facecolor("white")
            layers = cells.shape[1] - 1
            reader = group[0]["targets"][block][-1]
            place.set_title(f"{TITLES[name]}, block {block + 1}", fontsize=11)
            ticks = [*range(0, layers, 1 if layers < 8 else 2), layers]
            place.set_xticks(ticks, [*(str(tick + 1) for tick in ticks[:-1]), reader.partition(" ")[0]], fontsize=8)
            place.set_yticks(range(0, layers + 1, 1 if layers < 8 else 2))
            place.tick_params(labelsize=8)
            place.set_xlabel("target layer", fontsize=9)
            place.set_ylabel("source layer", fontsize=9)
    if image is not None:
        figure.colorbar(image, ax=axes, shrink=0.6, label="mean |w| from a source, over the column's greatest")
    return figure


def write_figure2(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Draw the figure in both colour maps into `folder`; nothing where no run has connections."""
    if not any("strengths" in run for run in runs):
        return []
    for name, colour_map in COLOUR_MAPS.items():
        with replacing(folder / name) as temporary:
            plot_figure2(runs, colour_map).savefig(temporary)
    return [folder / name for name in COLOUR_MAPS]


def _by_network(runs: Sequence[Run]) -> list[tuple[str, list[Run]]]:
    order = list(TITLES)
    known = sorted((run for run in runs), key=lambda run: (order.index(run["network"]), run["seed"]))
    return [(name, list(group)) for name, group in groupby(known, key=lambda run: run["network"])]


def _present(column: Sequence[float | None]) -> list[float]:
    return [value for value in column if value is not None]


def _optional(strengths: Any) -> list[list[float | None]]:
    return [[None if np.isnan(value) else float(value) for value in column] for column in strengths]


def _rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: Sequence[float]) -> Any:
    return np.argsort(np.argsort(values))
