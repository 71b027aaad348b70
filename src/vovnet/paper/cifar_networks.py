"""The small classifiers whose use of earlier layers the paper looks at (§3.1–3.2, Fig. 2): DenseNet-40, and the same
with each block's dense connections replaced by one-shot aggregation; ResNet-56 beside them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from vovnet.models.layers import NormActConv

BLOCKS = 3
STEM = 16
CIFAR_CLASSES = 10


class Connection(NamedTuple):
    """A layer that reads several earlier ones at once.

    weight: (c_out, c_in, kh, kw), or (c_out, c_in) of the classifier. sources: input channels that come from each
    source, in order: Σ = c_in. first: index of the first source, where 0 is the block's input.
    """

    name: str
    weight: Tensor
    sources: tuple[int, ...]
    first: int = 0


class DenseBlock(nn.Module):
    """Each 3×3 layer reads the input and all layers before it; the block gives all of them."""

    def __init__(self, c_in: int, layers: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(NormActConv(c_in + i * growth, growth, 3) for i in range(layers))
        self.sources = (c_in, *[growth] * layers)
        self.c_out = sum(self.sources)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return x  # (N, c_in + layers·growth, H, W)

    def connections(self) -> Iterator[Connection]:
        for index, layer in enumerate(self.layers):
            yield Connection(str(index + 1), layer.get_parameter("conv.weight"), self.sources[: index + 1])


class OSABlock(nn.Module):
    """Each 3×3 layer reads only the one before it; the block gives its input and all layers, once."""

    def __init__(self, c_in: int, layers: int, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(NormActConv(c_in if i == 0 else width, width, 3) for i in range(layers))
        self.sources = (c_in, *[width] * layers)
        self.c_out = sum(self.sources)

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(features[-1]))
        return torch.cat(features, dim=1)  # (N, c_in + layers·width, H, W)

    def connections(self) -> Iterator[Connection]:
        for index, layer in enumerate(self.layers):
            weight = layer.get_parameter("conv.weight")
            yield Connection(str(index + 1), weight, (self.sources[index],), first=index)


class AggregationNet(nn.Module):
    """Stem, three blocks at 32, 16 and 8 pixels, and a classifier on the mean of the last map.

    last_transition: a 1×1 also after the third block, as the paper's Figure 2 shows for one-shot aggregation; without
    it, as in DenseNet, the classifier itself reads the block's layers. Every transition keeps the number of channels:
    with the paper's two module sizes only then do the operations equal DenseNet-40's.
    Pre-activation throughout, and weights N(0, √(2 / (k²·c_out))), as in the network that is taken apart.
    """

    def __init__(
        self, block: Callable[[int, int, int], DenseBlock | OSABlock], layers: int, width: int, last_transition: bool
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM, 3, padding=1, bias=False)
        self.blocks, self.transitions = nn.ModuleList(), nn.ModuleList()
        channels = STEM
        for index in range(BLOCKS):
            module = block(channels, layers, width)
            channels = module.c_out
            self.blocks.append(module)
            last = index == BLOCKS - 1
            self.transitions.append(
                NormActConv(channels, channels, 1) if last_transition or not last else nn.Identity()
            )
        self.pool = nn.AvgPool2d(2)
        self.final = nn.Sequential(OrderedDict(norm=nn.BatchNorm2d(channels), act=nn.ReLU(inplace=True)))
        self.head = nn.Linear(channels, CIFAR_CLASSES)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """images: (N, 3, 32, 32), normalised; gives logits (N, 10)."""
        x = self.stem(x)
        for index, (block, transition) in enumerate(zip(self.blocks, self.transitions, strict=True)):
            x = transition(block(x if index == 0 else self.pool(x)))
        return self.head(self.final(x).mean(dim=(2, 3)))

    def connections(self) -> list[list[Connection]]:
        """For each block its layers, then what reads the whole block: its transition, or the classifier."""
        found = []
        for index in range(BLOCKS):
            block, transition = cast(DenseBlock | OSABlock, self.blocks[index]), self.transitions[index]
            classifier = isinstance(transition, nn.Identity)
            name = "classifier" if classifier else f"transition {index + 1}"
            weight = self.head.weight if classifier else transition.get_parameter("conv.weight")
            found.append([*block.connections(), Connection(name, weight, block.sources)])
        return found


class ResNet56(nn.Sequential):
    """He et al.'s ResNet-56 for CIFAR-10 (arXiv 1512.03385), with 1×1 shortcuts where the size changes."""

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
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


# (12/20) and (5/43) are layers and their channels of each module.
CIFAR_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "densenet40": lambda: AggregationNet(DenseBlock, 12, 12, last_transition=False),
    "osa_12_20": lambda: AggregationNet(OSABlock, 12, 20, last_transition=True),
    "osa_5_43": lambda: AggregationNet(OSABlock, 5, 43, last_transition=True),
    "resnet56": ResNet56,
}
