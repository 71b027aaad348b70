"""The names and shapes that networks of other sources were seen to have, in recorded/."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

FOLDER = Path(__file__).with_name("recorded")


def recorded_state(name: str) -> dict[str, Tensor]:
    """A state with these names and shapes; each tensor is filled with a number of its own."""
    state = {}
    for number, row in enumerate((FOLDER / f"{name}.txt").read_text().splitlines(), start=1):
        tensor, *shape = row.split()
        counter = tensor.endswith("num_batches_tracked")
        state[tensor] = torch.tensor(7) if counter else torch.full([int(size) for size in shape], float(number))
    return state
