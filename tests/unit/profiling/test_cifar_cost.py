"""Memory access cost of a dense network and of one-shot aggregation on CIFAR-10, §3.1 of the paper."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vovnet.profiling.cost import count_cost


def pre_activation(c_in: int, c_out: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.BatchNorm2d(c_in), nn.ReLU(), conv)


class DenseBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(pre_activation(channels + 12 * i, 12, 3) for i in range(12))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


class OneShotBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(pre_activation(channels if i == 0 else 43, 43, 3) for i in range(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(features[-1]))
        return torch.cat(features, 1)


class CifarNet(nn.Module):
    """Three blocks, each followed by a 1×1 transition of the same width (the last one optionally)."""

    def __init__(self, block: type[nn.Module], growth: int, transitions: int) -> None:
        super().__init__()
        widths = [16 + growth * i for i in range(4)]
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList(block(width) for width in widths[:3])
        self.transitions = nn.ModuleList(pre_activation(width, width, 1) for width in widths[1 : 1 + transitions])
        self.classifier = nn.Linear(widths[3], 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for i, block in enumerate(self.blocks):
            x = block(x)
            x = self.transitions[i](x) if i < len(self.transitions) else x
            x = F.avg_pool2d(x, 2) if i < 2 else x
        return self.classifier(x.mean((2, 3)))


@pytest.mark.parametrize(
    ("net", "blocks", "transitions", "whole", "mega_multiply_adds", "printed"),
    [
        pytest.param(
            CifarNet(DenseBlock, 12 * 12, 2),
            [1_261_344, 1_024_032, 772_896],
            [353_280, 248_064],
            3_684_442,
            264.8,
            "3.7",
            id="DenseNet-40",
        ),
        pytest.param(
            CifarNet(OneShotBlock, 5 * 43, 3),
            [485_428, 314_169, 292_478],
            [526_449, 427_268, 521_529],
            2_594_490,
            263.7,
            "2.6",  # the paper prints 2.5: truncated instead of rounded
            id="OSA 5/43",
        ),
    ],
)
def test_memory_access_cost_on_cifar10(
    net: nn.Module, blocks: list[int], transitions: list[int], whole: int, mega_multiply_adds: float, printed: str
) -> None:
    cost = count_cost(net, (1, 3, 32, 32))

    def part(path: str) -> int:
        return sum(row.memory_access_cost for row in cost.layers if row.path.startswith(path))

    assert [part(f"blocks.{i}.") for i in range(3)] == blocks
    assert [part(f"transitions.{i}.") for i in range(len(transitions))] == transitions
    blocks_and_transitions = part("blocks.") + part("transitions.")  # Eq. (1) over the blocks and all their transitions
    assert blocks_and_transitions == {"3.7": 3_659_616, "2.6": 2_567_321}[printed]
    assert f"{blocks_and_transitions / 1e6:.1f}" == printed
    assert cost.total.memory_access_cost == whole  # and with stem and classifier
    assert round(cost.total.multiply_adds / 1e6, 1) == mega_multiply_adds
