"""How strongly a layer uses each of the earlier layers that it reads (Fig. 2), after Huang et al.'s DenseNet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def connection_strengths(weight: Tensor, sources: Sequence[int]) -> Tensor:
    """(S,) mean |w| over the weights of each source's channels.

    weight: (c_out, c_in, kh, kw), or (c_out, c_in) of a linear layer; sources: how many input channels come from each
    of S sources, in their order. Raises ValueError where they do not add up to c_in.
    """
    if sum(sources) != weight.shape[1]:
        raise ValueError(f"sources must add up to {weight.shape[1]} input channels, got {sum(sources)}")
    size = weight.detach().abs().float()
    return torch.stack([part.mean() for part in size.split(list(sources), dim=1)])


def normalized_columns(strengths: Sequence[Sequence[float | None]]) -> list[list[float | None]]:
    """Each target's strengths over its greatest, so that every column of the figure has a 1; None is no connection."""
    columns = []
    for column in strengths:
        greatest = max(value for value in column if value is not None)
        columns.append([None if value is None else value / greatest for value in column])
    return columns
