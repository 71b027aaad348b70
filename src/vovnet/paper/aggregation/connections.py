"""Connection strengths between layers (Figure 2): from trained weights as in the DenseNet paper, and in numbers.

A run is a record of the study. Its "strengths" hold for each block one list per target layer, the last of which reads
the whole block, with one number per source.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vovnet.paper.aggregation.networks import AggregationNet
from vovnet.paper.records import Run

TITLES = {
    "densenet40": "DenseNet-40",
    "osa_12_20": "OSA (12/20)",
    "osa_5_43": "OSA (5/43)",
    "resnet56": "ResNet-56",
}


def connection_strengths(weight: Tensor, sources: Sequence[int]) -> Tensor:
    """(S,) mean |w| over the weights of each source's channels.

    weight: (c_out, c_in, kh, kw), or (c_out, c_in) of a linear layer.
    sources: the number of input channels from each of S sources, in order; c_in in all.
    """
    magnitudes = weight.detach().abs().float()
    return torch.stack([part.mean() for part in magnitudes.split(list(sources), dim=1)])


def strengths(model: nn.Module) -> dict[str, Any]:
    """ "targets" and "strengths" of each block, for a record; empty for a network without connections.

    "targets": names of the layers that read earlier ones.
    "strengths": for each target a list with one number per source, the block's input first; None where the target does
    not read the source.
    """
    if not isinstance(model, AggregationNet):
        return {}
    blocks = []
    for connections in model.connections():
        n_sources = len(connections[-1].sources)
        columns: list[list[float | None]] = []
        for connection in connections:
            values = connection_strengths(connection.weight, connection.sources).tolist()
            after = n_sources - connection.first - len(values)
            columns.append([*[None] * connection.first, *(round(value, 7) for value in values), *[None] * after])
        blocks.append(columns)
    targets = [[connection.name for connection in connections] for connections in model.connections()]
    return {"targets": targets, "strengths": blocks}


def normalized(block: Sequence[Sequence[float | None]]) -> npt.NDArray[np.float64]:
    """(targets, sources) strengths of a block, each target's over its largest. NaN where a source is not read."""
    values = np.array(block, dtype=float)
    return values / np.nanmax(values, axis=1, keepdims=True)


def runs_by_network(runs: Sequence[Run]) -> list[tuple[str, list[Run]]]:
    """The runs of each network by seed; the networks in the order of `TITLES`."""
    order = list(TITLES)
    ordered = sorted(runs, key=lambda run: (order.index(run["network"]), run["seed"]))
    return [(name, list(group)) for name, group in groupby(ordered, key=lambda run: run["network"])]


def redundancy(run: Run) -> list[float]:
    """For each block, the rank correlation between two uses of its sources: by its intermediate and by its last layer.

    The use by intermediate layers is the mean of a source's normalised strengths. The paper's first hypothesis is that
    dense connections between intermediate layers make the last layer use the same features less, so it expects a
    negative value. Blocks whose intermediate layers read only one source each are left out.
    """
    correlations = []
    for block in run["strengths"]:
        *intermediate, last = normalized(block)[:, :-1]  # no intermediate layer reads the last source
        if any(np.isfinite(layer).sum() > 1 for layer in intermediate):
            correlations.append(_rank_correlation(np.nanmean(intermediate, axis=0), last))
    return correlations


def unevenness(run: Run) -> list[float]:
    """For each block, the standard deviation of its last layer's strengths over their mean."""
    return [statistics.pstdev(last) / statistics.mean(last) for *_, last in run["strengths"]]


def early_to_late(run: Run) -> list[float]:
    """For each block, the mean strength of its first half of layers over that of the second, in its last layer.

    The block's input is not a layer of it, and a layer in the middle belongs to neither half.
    """
    ratios = []
    for *_, (_, *layers) in run["strengths"]:
        half = len(layers) // 2
        ratios.append(statistics.mean(layers[:half]) / statistics.mean(layers[-half:]))
    return ratios


def hypothesis_rows(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: for each network and seed, the three values above, each with one number per block."""
    header = ["network", "seed", "rank correlation (ρ), intermediate vs final layer"]
    header += ["coefficient of variation, final layer", "early/late ratio"]
    rows = []
    for name, group in runs_by_network([run for run in runs if "strengths" in run]):
        for run in group:
            by_value = [redundancy(run), unevenness(run), early_to_late(run)]
            texts = ["; ".join(f"{value:.2f}".replace("-", "−") for value in values) or "–" for values in by_value]
            rows.append([TITLES[name], str(run["seed"]), *texts])
    return header, rows


def verdicts(runs: Sequence[Run]) -> dict[str, list[bool]]:
    """The paper's two hypotheses and what it concludes from the second, each with the cases in which it holds or not.

    A case is a block of a network with one seed; hypotheses without any case are left out.
    """
    by_name = dict(runs_by_network([run for run in runs if "strengths" in run]))
    dense, twelve, five = (by_name.get(name, []) for name in ("densenet40", "osa_12_20", "osa_5_43"))
    cases = {
        "Sources used more by intermediate layers are used less by the final layer: DenseNet-40, ρ below 0": [
            correlation < 0 for run in dense for correlation in redundancy(run)
        ],
        "With one-shot aggregation, transitions use their sources more evenly: variation below DenseNet-40's": [
            osa_spread < dense_spread
            for osa_run, dense_run in _same_seed((*twelve, *five), dense)
            for osa_spread, dense_spread, targets in zip(
                unevenness(osa_run), unevenness(dense_run), dense_run["targets"], strict=True
            )
            if targets[-1].startswith("transition")  # a classifier is not comparable with a transition
        ],
        "Of twelve layers, the late ones are used less than the early ones: OSA (12/20), early/late ratio above 1": [
            ratio > 1 for run in twelve for ratio in early_to_late(run)
        ],
        "Five wider layers are used more evenly than twelve: early/late ratio closer to 1 for OSA (5/43)": [
            abs(math.log(five_ratio)) < abs(math.log(twelve_ratio))
            for twelve_run, five_run in _same_seed(twelve, five)
            for twelve_ratio, five_ratio in zip(early_to_late(twelve_run), early_to_late(five_run), strict=True)
        ],
    }
    return {hypothesis: holds for hypothesis, holds in cases.items() if holds}


def _same_seed(first: Sequence[Run], second: Sequence[Run]) -> list[tuple[Run, Run]]:
    return [(run, other) for run in first for other in second if run["seed"] == other["seed"]]


def _rank_correlation(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """Spearman's; 0 if all values of either are equal."""
    ranks = _ranks(first), _ranks(second)
    return float(np.corrcoef(*ranks)[0, 1]) if all(np.ptp(values) for values in ranks) else 0.0


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks from 0; equal values share their mean rank."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[index]
