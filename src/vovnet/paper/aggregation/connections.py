"""How strongly a layer uses each of the earlier layers that it reads (Figure 2), as in the DenseNet paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vovnet.paper.aggregation.networks import AggregationNet


def connection_strengths(weight: Tensor, sources: Sequence[int]) -> Tensor:
    """(S,) mean |w| over the weights of each source's channels. Raises ValueError if `sources` do not add up to c_in.

    weight: (c_out, c_in, kh, kw), or (c_out, c_in) of a linear layer.
    sources: the number of input channels from each of S sources, in order.
    """
    if sum(sources) != weight.shape[1]:
        raise ValueError(f"sources must add up to {weight.shape[1]} input channels, got {sum(sources)}")
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
    targets, blocks = [], []
    for connections in model.connections():
        n_sources = len(connections[-1].sources)
        columns = []
        for connection in connections:
            column: list[float | None] = [None] * n_sources
            values = connection_strengths(connection.weight, connection.sources).tolist()
            column[connection.first : connection.first + len(values)] = [round(value, 7) for value in values]
            columns.append(column)
        targets.append([connection.name for connection in connections])
        blocks.append(columns)
    return {"targets": targets, "strengths": blocks}


def normalized_columns(columns: Sequence[Sequence[float | None]]) -> list[list[float | None]]:
    """Each target's strengths over its largest, so that every column of the figure contains a 1."""
    normalized: list[list[float | None]] = []
    for column in columns:
        largest = max(value for value in column if value is not None)
        normalized.append([None if value is None else value / largest for value in column])
    return normalized
