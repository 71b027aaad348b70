"""A stand-in for CUDA graphs on the CPU, and networks that can and cannot be captured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from vovnet.profiling.runs import CudaGraphs


class ReplayedOnCpu(CudaGraphs):
    """Like CUDA graphs: a replay computes again from the same inputs, and overwrites the same outputs.

    frozen: a replay computes nothing, as if values had been written into the graph while it was captured.
    """

    made: list[ReplayedOnCpu]

    def __init__(self, device: torch.device, *, frozen: bool = False) -> None:
        super().__init__(device)
        self.frozen, self.log = frozen, list[str]()

    def warm_up(self, function: Callable[[], Any]) -> None:
        function()
        self.log.append("warm-up")

    def capture(self, function: Callable[[], Any]) -> tuple[Callable[[], object], Any]:
        outputs = tree_map_only(Tensor, torch.clone, function())
        self.log.append("capture")

        def replay() -> None:
            self.log.append("replay")
            if self.frozen:
                return
            for new, kept in zip(_leaves(function()), _leaves(outputs), strict=True):
                kept.copy_(new)

        return replay, outputs


def _leaves(value: Any) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


class Net(nn.Sequential):
    def __init__(self, width: int = 4) -> None:
        super().__init__(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.LeakyReLU(), nn.Conv2d(width, 4, 1))


class Detects(nn.Module):
    """Outputs in a dictionary, some of them whole numbers, as a detector has them."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        logits = self.net(x)
        return {"logits": logits, "best": logits.argmax(1)}
