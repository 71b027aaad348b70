"""Small tensors of Python numbers that are copied to a device once, and not again each time they are needed."""

from __future__ import annotations

import torch
from torch import Tensor

_MADE: dict[tuple[tuple[float, ...], torch.dtype, torch.device], Tensor] = {}


def constant(values: tuple[float, ...], like: Tensor) -> Tensor:
    """The values as a tensor of the number format of `like`, on its device. For values that are part of the code.

    A copy from main memory waits for a GPU to finish all that it was given. While a graph is traced the values become
    part of it.
    """
    if torch.compiler.is_compiling() or type(like) is not Tensor:
        return like.new_tensor(values)
    key = (values, like.dtype, like.device)
    if key not in _MADE:
        with torch.inference_mode(False):
            made = torch.tensor(values, dtype=like.dtype, device=like.device)
        if type(made) is not Tensor:  # a mode is on in which tensors have no values
            return made
        _MADE[key] = made
    return _MADE[key]
