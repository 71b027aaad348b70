"""The classifiers of the aggregation study: DenseNet-40, the same network with one-shot aggregation in place of dense
connections, and ResNet-56 for comparison.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from vovnet.models.layers import NormActConv

BLOCKS = 3
STEM = 16
CIFAR_CLASSES = 10


class Connection(NamedTuple):
    """A layer that reads several earlier ones.

    weight: (c_out, c_in, kh, kw), or (c_out, c_in) of the classifier.
    sources: the number of input channels from each source, in order; their sum is c_in.
    first: index of the first source; 0 is the block's input.
    """

    name: str
    weight: Tensor
    sources: tuple[int, ...]
    first: int = 0


class Block(nn.Module):
    """A chain of 3×3 layers; the output concatenates the block's input and all layers.

    dense: each layer reads the input and all earlier layers. Otherwise it reads only the previous one, and the
    aggregation is one-shot.
    """

    def __init__(self, c_in: int, layers: int, width: int, *, dense: bool) -> None:
        super().__init__()
        self.dense = dense
        self.sources = (c_in, *[width] * layers)
        reads = [self.sources[: i + 1] if dense else self.sources[i : i + 1] for i in range(layers)]
        self.layers = nn.ModuleList(NormActConv(sum(channels), width, 3) for channels in reads)

    def forward(self, x: Tensor) -> Tensor:
        if self.dense:
            for layer in self.layers:
                x = torch.cat([x, layer(x)], dim=1)
            return x  # (N, c_in + layers·width, H, W)
        features = [x]
        for layer in self.layers:
            features.append(layer(features[-1]))
        return torch.cat(features, dim=1)

    def connections(self) -> list[Connection]:
        connections = []
        for index, layer in enumerate(self.layers):
            first = 0 if self.dense else index
            sources = self.sources[first : index + 1]
            connections.append(Connection(str(index + 1), layer.get_parameter("conv.weight"), sources, first))
        return connections


class AggregationNet(nn.Module):
    """A stem, three blocks at 32, 16 and 8 pixels, and a classifier on the mean of the last feature map.

    Every transition keeps the number of channels: only then do the paper's two module sizes need as many multiply-adds
    as DenseNet-40. Pre-activation and the initial weights N(0, √(2 / (k²·c_out))) are those of DenseNet.

    layers, width: number of layers of each block, and their channels.
    dense: see `Block`.
    last_transition: also add a 1×1 after the third block, as the paper's Figure 2 shows for one-shot aggregation.
    Without it, as in DenseNet, the classifier itself reads the block's layers.
    """

    def __init__(self, layers: int, width: int, *, dense: bool, last_transition: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM, 3, padding=1, bias=False)
        self.blocks, self.transitions = nn.ModuleList(), nn.ModuleList()
        channels = STEM
        for index in range(BLOCKS):
            self.blocks.append(Block(channels, layers, width, dense=dense))
            channels += layers * width
            has_transition = last_transition or index < BLOCKS - 1
            self.transitions.append(NormActConv(channels, channels, 1) if has_transition else nn.Identity())
        self.pool = nn.AvgPool2d(2)
        self.final = nn.Sequential(OrderedDict(norm=nn.BatchNorm2d(channels), act=nn.ReLU(inplace=True)))
        self.head = nn.Linear(channels, CIFAR_CLASSES)
        _init_convolutions(self)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 10) of normalised images (N, 3, 32, 32)."""
        x = self.stem(x)
        for index, (block, transition) in enumerate(zip(self.blocks, self.transitions, strict=True)):
            x = transition(block(x if index == 0 else self.pool(x)))
        return self.head(self.final(x).mean(dim=(2, 3)))

    def connections(self) -> list[list[Connection]]:
        """For each block, its layers and then the layer that reads all of them: a transition or the classifier."""
        connections = []
        for number, (module, transition) in enumerate(zip(self.blocks, self.transitions, strict=True), start=1):
            block = cast(Block, module)
            last = Connection("classifier", self.head.weight, block.sources)
            if not isinstance(transition, nn.Identity):
                last = Connection(f"transition {number}", transition.get_parameter("conv.weight"), block.sources)
            connections.append([*block.connections(), last])
        return connections


class ResNet56(nn.Sequential):
    """He et al.'s ResNet-56 for CIFAR-10 (arXiv 1512.03385), with 1×1 shortcuts where the resolution changes."""

    def __init__(self) -> None:
        blocks, c_in = [], STEM
        for c_out in (16, 32, 64):
            for index in range(9):
                stride = 2 if index == 0 and c_out > STEM else 1
                shortcut = None
                if stride == 2:
                    shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))
                blocks.append(BasicBlock(c_in, c_out, stride, shortcut))
                c_in = c_out
        stem = nn.Sequential(nn.Conv2d(3, STEM, 3, padding=1, bias=False), nn.BatchNorm2d(STEM), nn.ReLU(inplace=True))
        parts = {"stem": stem, "blocks": nn.Sequential(*blocks), "pool": nn.AdaptiveAvgPool2d(1)}
        super().__init__(OrderedDict(**parts, flatten=nn.Flatten(), head=nn.Linear(c_in, CIFAR_CLASSES)))
        _init_convolutions(self)


def _init_convolutions(model: nn.Module) -> None:
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


# (12/20) and (5/43) are the number of layers of each block and their channels.
CIFAR_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "densenet40": lambda: AggregationNet(12, 12, dense=True, last_transition=False),
    "osa_12_20": lambda: AggregationNet(12, 20, dense=False, last_transition=True),
    "osa_5_43": lambda: AggregationNet(5, 43, dense=False, last_transition=True),
    "resnet56": ResNet56,
}
