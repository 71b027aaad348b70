"""Figure 2 in the paper's layout, and the section with its numbers, from the records of the aggregation study."""

from __future__ import annotations

import io
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vovnet.files import write_bytes
from vovnet.paper.aggregation.cifar10 import ORIGINAL
from vovnet.paper.aggregation.connections import TITLES, Run, hypothesis_rows, normalized, runs_by_network, verdicts
from vovnet.paper.gpu_records import gpu_study
from vovnet.paper.published import TABLES
from vovnet.paper.records import read_aggregation
from vovnet.paper.wording import foreign
from vovnet.report.document import Figure, Section, Table
from vovnet.report.plotting import plain_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure
    from matplotlib.image import AxesImage

PUBLISHED_EPOCHS = 300
RECORD = "cifar10_aggregation.json"
# The paper's own colour map, and one that also works for colour-blind readers and in greyscale.
COLOUR_MAPS = {"figure2.png": "jet", "figure2_colour_blind_safe.png": "cividis"}


def accuracy_rows(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: for each network its counts, its test errors and the published error."""
    header = ["network", "parameters", "multiply-adds", "memory access (M elements)"]
    header += ["test error (%)", "by seed (%)", "published (%)"]
    published = {row.model: row.values for row in TABLES["cifar"].rows}
    rows = []
    for name, group in runs_by_network(runs):
        errors = [100 * (1 - run["test_accuracy"]) for run in group]
        each_seed = "; ".join(f"{error:.2f}" for error in errors)
        values = published.get(name, {})
        printed = values.get("error", "")
        if "accuracy" in values:  # printed instead of the error for one network
            printed = f"{100 - float(values['accuracy']):.1f}"
        counts = [f"{group[0][count]:,}" for count in ("parameters", "multiply_adds")]
        memory_access = f"{group[0]['memory_access_cost'] / 1e6:.2f}"
        rows.append([TITLES[name], *counts, memory_access, f"{statistics.mean(errors):.2f}", each_seed, printed])
    return header, rows


def figure_2_section(records: Path | None) -> Section:
    """Figure 2 from the study's record in a folder of records, or the command that runs the study."""
    title = "Figure 2: connection strengths between layers"
    command = (
        "`vovnet study aggregation configs/cifar10_aggregation.yaml data=DIR` trains the networks with the "
        "published protocol, which needs a GPU."
    )
    path = records / RECORD if records else None
    on_gpu = runs = gpu_study(records, TITLES)
    if not runs and path is not None and path.is_file():
        runs = read_aggregation(path, TITLES)
    if not any("strengths" in run for run in runs):
        return Section(title, [f"Not run. {command}"])
    text = f"Measured: {' / '.join(dict.fromkeys(map(_conditions, runs)))}."
    if any(run["settings"]["epochs"] < PUBLISHED_EPOCHS for run in runs):
        text += f" The heat maps therefore show networks early in training. {command}"
    if on_gpu and (
        missing := [title for name, title in TITLES.items() if name not in {run["network"] for run in runs}]
    ):
        text += f" Not trained on a GPU yet: {', '.join(missing)}; `make gpu` goes on."
    lists = ("log", "strengths", "targets")
    without_lists = [{key: value for key, value in run.items() if key not in lists} for run in runs]
    cases = [[hypothesis, f"{sum(holds)} of {len(holds)}"] for hypothesis, holds in verdicts(runs).items()]
    return Section(
        title,
        [
            text,
            Table(*accuracy_rows(runs), title="Test error", data=without_lists),
            Table(
                *hypothesis_rows(runs),
                title="The heat maps in numbers, one value per block",
                notes=[
                    "the sources of a block are its input and its layers; its final layer is the transition or "
                    "classifier that reads all of them (the last column of its heat map)",
                    "rank correlation (ρ), intermediate vs final layer: of the connection strengths from a block's "
                    "sources to its intermediate layers with those to its final layer",
                    "coefficient of variation, final layer: standard deviation divided by the mean of the connection "
                    "strengths to the final layer",
                    "early/late ratio: mean connection strength from the first half of the block's layers to the final "
                    "layer, divided by that from the second half",
                ],
            ),
            Table(["paper's observation", "cases where it holds here"], cases),
            *(
                Figure(name, f"Connection strengths, colour map {colour_map}", partial(_png, runs, colour_map))
                for name, colour_map in COLOUR_MAPS.items()
            ),
        ],
    )


def _conditions(run: Run) -> str:
    """The conditions of a run, and where they differ from the paper's."""
    settings = run["settings"]
    paper = "" if settings["epochs"] == PUBLISHED_EPOCHS else f" (paper: {PUBLISHED_EPOCHS})"
    copies = "" if run["images"] == ORIGINAL else "; images are JPEG-recompressed copies of CIFAR-10"
    return (
        f"{settings['epochs']:g} epochs{paper} on {run['train_images']:,} images, "
        f"batch {settings['batch_size']}, learning rate {settings['learning_rate']:g}, "
        f"weight decay {settings['weight_decay']:g}, {foreign(settings['precision'])}, on {foreign(run['device'])}"
        f"{copies}"
    )


def _png(runs: Sequence[Run], colour_map: str) -> bytes:
    buffer = io.BytesIO()
    plot_figure2(runs, colour_map).savefig(buffer, metadata={"Software": None})
    return buffer.getvalue()


def write_figure2(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Draw the figure with both colour maps into `folder`; the files, none if no run has connections."""
    if not any("strengths" in run for run in runs):
        return []
    for name, colour_map in COLOUR_MAPS.items():
        write_bytes(folder / name, _png(runs, colour_map))
    return [folder / name for name in COLOUR_MAPS]


def plot_figure2(runs: Sequence[Run], colour_map: str) -> MatplotlibFigure:
    """Heat maps of the connection strengths: a row per network, a column per block.

    Source layers go down (0 is the block's input), target layers go right. Strengths are means over the seeds, divided
    by the largest of their column.
    """
    from matplotlib.figure import Figure as MatplotlibFigure

    groups = runs_by_network([run for run in runs if "strengths" in run])
    figure = MatplotlibFigure(figsize=(12, 3.6 * len(groups)), layout="constrained", dpi=120)
    all_axes = figure.subplots(len(groups), 3, squeeze=False)
    for row, (name, group) in zip(all_axes, groups, strict=True):
        for block, axes in enumerate(row):
            image = _plot_block(axes, group, block, colour_map)
            axes.set_title(f"{TITLES[name]}, block {block + 1}", fontsize=11)
    figure.colorbar(
        image, ax=all_axes, shrink=0.6, label="mean |w| from a source, relative to the largest in its column"
    )
    return figure


def _plot_block(axes: Axes, runs: Sequence[Run], block: int, colour_map: str) -> AxesImage:
    mean = np.array([run["strengths"][block] for run in runs], dtype=float).mean(axis=0)
    cells = normalized(mean).T  # (sources, targets); NaN where a target does not read the source
    image = axes.imshow(cells, cmap=colour_map, vmin=0, vmax=1, aspect="auto")
    axes.set_facecolor("white")
    last = cells.shape[1] - 1
    between = 1 if last < 8 else 2
    ticks = [*range(0, last, between), last]
    name_of_last = plain_text(runs[0]["targets"][block][-1].partition(" ")[0], 20)
    axes.set_xticks(ticks, [*(str(tick + 1) for tick in ticks[:-1]), name_of_last], fontsize=8)
    axes.set_yticks(range(0, last + 1, between))
    axes.tick_params(labelsize=8)
    axes.set_xlabel("target layer", fontsize=9)
    axes.set_ylabel("source layer", fontsize=9)
    return image
