"""The number formats in which a model can be measured, and the PyTorch settings that they need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import nn

# "tf32" stores float32 and lets a GPU round the factors of a product to a mantissa of 10 bits. The others are PyTorch's
# formats of these names; with "float32" no factor is rounded.
Precision = Literal["float32", "tf32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def dtype_of(precision: Precision) -> torch.dtype:
    """The dtype in which weights and inputs are stored. Raises ValueError for an unknown name."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    return torch.float32 if precision == "tf32" else getattr(torch, precision)


def cast(module: nn.Module, precision: Precision) -> nn.Module:
    """`module` itself, after its floating-point parameters and buffers were converted to this precision."""
    dtype = dtype_of(precision)
    # Not `module.to(dtype)`, which would drop the imaginary part of complex parameters.
    return module._apply(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)


@contextmanager
def matmul_precision(precision: Precision) -> Iterator[None]:
    """Round the factors of float32 products and convolutions to TF32 for "tf32", and not at all otherwise.

    By default PyTorch rounds convolutions on a GPU. Raises ValueError for an unknown name, and for "tf32" without a
    CUDA GPU.
    """
    dtype_of(precision)
    rounded = precision == "tf32"
    if rounded and not torch.cuda.is_available():
        raise ValueError("the precision tf32 needs a CUDA GPU, and PyTorch finds none: use float32")
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
    mkldnn: Any = torch.backends.mkldnn  # its type does not declare these attributes
    if not hasattr(cudnn, "conv"):  # before PyTorch 2.9
        return [(cuda.matmul, "allow_tf32"), (cudnn, "allow_tf32")]
    # mkldnn for the CPU: torch.set_float32_matmul_precision("medium") rounds to bfloat16 there.
    owners = (cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn)
    return [(owner, "fp32_precision") for owner in owners]
