"""The number formats that a network can be measured in, and what PyTorch must be told for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import nn

# "tf32" holds float32 and lets a GPU round the factors of a product to 10 bits of mantissa. The others are what PyTorch
# calls by these names; "float32" is strict, no factor is rounded.
Precision = Literal["float32", "tf32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def dtype_of(precision: Precision) -> torch.dtype:
    """What weights and inputs are held in. Raises ValueError for an unknown name."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    return torch.float32 if precision == "tf32" else getattr(torch, precision)


def cast(module: nn.Module, precision: Precision) -> nn.Module:
    """`module` itself, with its floating-point parameters and buffers in this precision from now on."""
    dtype = dtype_of(precision)
    # As `module.to(dtype)`, which would drop the imaginary part of complex ones.
    return module._apply(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)


@contextmanager
def matmul_precision(precision: Precision) -> Iterator[None]:
    """Within, products of float32 (also in convolutions) are rounded to TF32 for "tf32" and not at all otherwise.

    PyTorch rounds convolutions on a GPU by default. What was set before holds again afterwards. Raises ValueError for
    an unknown name, and for "tf32" without a CUDA GPU.
    """
    dtype_of(precision)
    rounded = precision == "tf32"
    if rounded and not torch.cuda.is_available():
        raise ValueError("the precision tf32 needs a CUDA GPU and PyTorch finds none: use float32")
    switches = _switches()
    before = [getattr(owner, name) for owner, name in switches]
    try:
        for owner, name in switches:
            setattr(owner, name, rounded if name == "allow_tf32" else "tf32" if rounded else "ieee")
        yield
    finally:
        for (owner, name), value in zip(switches, before, strict=True):
            setattr(owner, name, value)


def _switches() -> list[tuple[Any, str]]:
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn  # its type does not tell what it has
    if not hasattr(cudnn, "conv"):  # before PyTorch 2.9
        return [(cuda.matmul, "allow_tf32"), (cudnn, "allow_tf32")]
    # Those of a CPU too, where "medium" of torch.set_float32_matmul_precision rounds to bfloat16.
    owners = (cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn)
    return [(owner, "fp32_precision") for owner in owners]
