"""A digest of weights, by which an exported file is known to come from them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of the names and values of all tensors: the same for the same weights in any file.

    A network holds float32, so a file in another number format has the digest of its values in float32.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu()
        tensor = tensor.to(torch.float32 if tensor.is_floating_point() else torch.int64).contiguous()
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
