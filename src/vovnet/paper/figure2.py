"""How strongly layers use earlier ones: Figure 2 in the paper's layout, and what it says in numbers."""

from __future__ import annotations

import io
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vovnet.files import replacing
from vovnet.paper.cifar10 import ORIGINAL
from vovnet.paper.connections import normalized_columns
from vovnet.paper.published import CIFAR
from vovnet.report.document import Figure, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

Run = Mapping[str, Any]
TITLES = {
    "densenet40": "DenseNet-40",
    "osa_12_20": "OSA (12/20)",
    "osa_5_43": "OSA (5/43)",
    "resnet56": "ResNet-56",
}
PUBLISHED_EPOCHS = 300
RECORD = "cifar10_aggregation.json"
# The paper's own, and one that is as clear to the colour-blind and in grey.
COLOUR_MAPS = {"figure2.png": "jet", "figure2_colour_blind_safe.png": "cividis"}


def accuracy_rows(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: cost and test error of each network, the mean over its seeds and every one; the paper's."""
    header = ["network", "parameters", "multiply-adds", "memory access (M)", "error, %", "each seed", "published"]
    rows = []
    for name, group in _by_network(runs):
        errors = [100 * (1 - run["test_accuracy"]) for run in group]
        first = group[0]
        rows.append(
            [
                TITLES[name],
                f"{first['parameters']:,}",
                f"{first['multiply_adds']:,}",
                f"{first['memory_access_cost'] / 1e6:.2f}",
                f"{statistics.mean(errors):.2f}",
                "; ".join(f"{error:.2f}" for error in errors),
                _published_error(name),
            ]
        )
    return header, rows


def _published_error(network: str) -> str:
    """In percent, after 300 epochs; the paper prints the accuracy of one network."""
    figures: Mapping[str, str] = next((row.figures for row in CIFAR.rows if row.model == network), {})
    return figures.get("error") or (f"{100 - float(figures['accuracy']):.1f}" if figures else "")


def redundancy(run: Run) -> list[float]:
    """Of each block: the rank correlation over its sources between how strongly the intermediate layers use a source
    (mean of its normalised row) and how strongly the last layer does.

    The paper's first hypothesis: dense connections between intermediate layers make the last layer use the same
    features less, so it expects a negative one. Only for blocks whose intermediate layers have a choice.
    """
    found = []
    for block in run["strengths"]:
        columns = normalized_columns(block)
        used = [_present([column[source] for column in columns[:-1]]) for source in range(len(columns) - 1)]
        if all(len(_present(column)) == 1 for column in columns[:-1]):
            continue
        inner = [statistics.mean(row) for row in used]
        found.append(_rank_correlation(inner, _present(columns[-1][: len(inner)])))
    return found


def unevenness(run: Run) -> list[float]:
    """Of each block the spread of its last layer's strengths over the sources: standard deviation over mean."""
    columns = [_present(block[-1]) for block in run["strengths"]]
    return [statistics.pstdev(column) / statistics.mean(column) for column in columns]


def early_to_late(run: Run) -> list[float]:
    """Of each block, in its last layer: mean strength of the first half of the block's layers over that of the second;
    the block's input is no layer of it, nor is one in the middle in either half."""
    found = []
    for block in run["strengths"]:
        column = _present(block[-1])[1:]
        half = len(column) // 2
        found.append(statistics.mean(column[:half]) / statistics.mean(column[-half:]))
    return found


def hypothesis_rows(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Header and rows, one a network and seed, three numbers a figure: one for each block."""
    header = ["network", "seed", "inner against last use (ρ)", "spread of last use", "early / late in it"]
    rows = []
    for name, group in _by_network(runs):
        for run in group:
            if "strengths" not in run:
                continue
            figures = [redundancy(run), unevenness(run), early_to_late(run)]
            texts = ["; ".join(f"{value:.2f}".replace("-", "−") for value in values) or "–" for values in figures]
            rows.append([TITLES[name], str(run["seed"]), *texts])
    return header, rows


class Verdict(NamedTuple):
    """A hypothesis, and in how many of how many cases (a block of a network of a seed) it holds."""

    text: str
    held: int
    of: int


def verdicts(runs: Sequence[Run]) -> list[Verdict]:
    """The paper's two hypotheses and what follows of the second, case by case; none without the networks they need."""
    by_name = dict(_by_network([run for run in runs if "strengths" in run]))
    dense, long, short = (by_name.get(name, []) for name in ("densenet40", "osa_12_20", "osa_5_43"))
    found = []
    if dense:
        signs = [value < 0 for run in dense for value in redundancy(run)]
        text = "What intermediate layers use more, the last layer of the block uses less: DenseNet-40, ρ below 0"
        found.append(Verdict(text, sum(signs), len(signs)))
    if dense and (long or short):
        pairs = [
            (one, other)
            for osa in (*long, *short)
            for run in dense
            if run["seed"] == osa["seed"]
            for one, other, reader in zip(unevenness(osa), unevenness(run), run["targets"], strict=True)
            if reader[-1].startswith("transition")  # a classifier is another kind of layer
        ]
        text = "Aggregating once, a transition uses its sources more alike: OSA's spread below DenseNet-40's"
        found.append(Verdict(text, sum(one < other for one, other in pairs), len(pairs)))
    if long:
        ratios = [value for run in long for value in early_to_late(run)]
        text = "Of twelve layers the late ones count less than the early: OSA (12/20), early / late above 1"
        found.append(Verdict(text, sum(value > 1 for value in ratios), len(ratios)))
    if long and short:
        by_seed = [(early_to_late(a), early_to_late(b)) for a in long for b in short if a["seed"] == b["seed"]]
        pairs = [pair for ratios in by_seed for pair in zip(*ratios, strict=True)]
        text = "Five wider layers are used more alike than twelve: OSA (5/43), early / late nearer to 1"
        nearer = [abs(math.log(five)) < abs(math.log(twelve)) for twelve, five in pairs]
        found.append(Verdict(text, sum(nearer), len(nearer)))
    return [one for one in found if one.of]


def section(records: Path) -> Section:
    """Figure 2 from the record cifar10_aggregation.json in the folder `records`, or what it needs."""
    path, title = records / RECORD, "Figure 2: how strongly layers use earlier ones"
    needs = (
        "`vovnet study aggregation configs/cifar10_aggregation.yaml data=DIR` trains the networks by the published "
        "protocol; that needs a GPU."
    )
    runs = json.loads(path.read_text())["runs"] if path.is_file() else []
    if not any("strengths" in run for run in runs):
        return Section(title, [f"Not run. {needs}"])
    how = f"Measured: {' / '.join(dict.fromkeys(map(_how, runs)))}."
    if any(run["settings"]["epochs"] < PUBLISHED_EPOCHS for run in runs):
        how += f" So the heat maps are those of networks early in their training. {needs}"
    accuracy = Table(*accuracy_rows(runs), title="Test error", data=[_without_log(run) for run in runs])
    numbers = Table(
        *hypothesis_rows(runs),
        title="The heat maps in numbers, one a block",
        notes=[
            "inner against last use: rank correlation, over a block's sources, of how strongly its intermediate layers "
            "use a source and how strongly its last layer does",
            "spread of last use: standard deviation over mean of the strengths in the last column",
            "early / late: mean strength, in the last column, of the first half of the block's layers over the second",
        ],
    )
    cases = [[text, f"{held} of {of}"] for text, held, of in verdicts(runs)]
    pictures = [
        Figure(name, f"Connection strengths, colour map {colour_map}", partial(_png, runs, colour_map))
        for name, colour_map in COLOUR_MAPS.items()
    ]
    return Section(
        title,
        [how, accuracy, numbers, Table(["the paper's reading", "holds here, in cases"], cases), *pictures],
    )


def _how(run: Run) -> str:
    """Under what conditions a run was made, and where they are not the paper's."""
    settings = run["settings"]
    epochs = f"{settings['epochs']:g} epochs" + ("" if settings["epochs"] == PUBLISHED_EPOCHS else " instead of 300")
    kind = "" if run["images"] == ORIGINAL else f", as {run['images']} whose pixels differ a little from the original"
    decay = f"weight decay {settings['weight_decay']:g}"
    rates = f"batch {settings['batch_size']}, rate {settings['learning_rate']:g}, {decay}, {settings['precision']}"
    return f"{epochs} of {run['train_images']:,} images{kind}, {rates}, on {run['device']}"


def _png(runs: Sequence[Run], colour_map: str) -> bytes:
    buffer = io.BytesIO()
    plot_figure2(runs, colour_map).savefig(buffer, metadata={"Software": None})
    return buffer.getvalue()


def _without_log(run: Run) -> dict[str, Any]:
    return {key: value for key, value in run.items() if key not in ("log", "strengths", "targets")}


def plot_figure2(runs: Sequence[Run], colour_map: str) -> MatplotlibFigure:
    """A row a network, a column a block: sources from above (0 is the block's input), what reads them to the right.

    Strengths are means over the seeds, each column over its greatest.
    """
    from matplotlib.figure import Figure as MatplotlibFigure

    groups = [(name, group) for name, group in _by_network(runs) if "strengths" in group[0]]
    figure = MatplotlibFigure(figsize=(12, 3.6 * len(groups)), layout="constrained", dpi=120)
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
    ranks = _ranks(first), _ranks(second)
    return float(np.corrcoef(*ranks)[0, 1]) if all(np.ptp(one) for one in ranks) else 0.0


def _ranks(values: Sequence[float]) -> Any:
    """From 0; equal values have their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[place]
