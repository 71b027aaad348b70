"""PeleeNet: a small DenseNet with two branches in each layer (arXiv 1804.06882)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from vovnet.models.layers import ConvNormAct, Init, init_weights

# Dense layers of each stage, and the channels of their bottlenecks in units of half a growth.
STAGES = ((3, 1), (4, 2), (8, 4), (6, 4))
STEM = 32
GROWTH = 32  # half of it from each branch
Unit = partial(ConvNormAct, eps=1e-3)


class Stem(nn.Module):
    """(N, 3, H, W) → (N, 32, H/4, W/4): a strided convolution, then pooling in parallel with two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Unit(3, STEM, 3, stride=2)
        self.pool = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.conv = nn.Sequential(Unit(STEM, STEM // 2, 1), Unit(STEM // 2, STEM, 3, stride=2))
        self.last = Unit(2 * STEM, STEM, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(torch.cat([self.pool(x), self.conv(x)], dim=1))


class TwoWayLayer(nn.Module):
    """x → concat[x, one 3×3, two 3×3 in a row]; each branch begins with its own 1×1 bottleneck."""

    def __init__(self, c_in: int, bottleneck: int) -> None:
        super().__init__()
        growth = GROWTH // 2
        width = growth * bottleneck // 4 * 4  # a multiple of 4, as in Pelee's code
        self.near = nn.Sequential(Unit(c_in, width, 1), Unit(width, growth, 3))
        self.far = nn.Sequential(Unit(c_in, width, 1), Unit(width, growth, 3), Unit(growth, growth, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.near(x), self.far(x)], dim=1)  # (N, c_in, H, W) → (N, c_in + 32, H, W)


class PeleeNet(nn.Module):
    """PeleeNet; C2…C5 are taken before the pooling that follows them."""

    feature_names = ("c2", "c3", "c4", "c5")
    strides = (4, 8, 16, 32)

    def __init__(self, *, num_classes: int = 1000, features_only: bool = False, init: Init = "xavier") -> None:
        super().__init__()
        self.stem = Stem()
        self.pool = nn.AvgPool2d(2, stride=2, ceil_mode=True)
        self.stages = nn.ModuleList()
        width, channels = STEM, []
        for layers, bottleneck in STAGES:
            stage = nn.Sequential(*(TwoWayLayer(width + i * GROWTH, bottleneck) for i in range(layers)))
            width += layers * GROWTH
            self.stages.append(stage.append(Unit(width, width, 1)))
            channels.append(width)
        self.channels = tuple(channels)  # 128, 256, 512, 704
        self.head = None if features_only else nn.Linear(width, num_classes)
        init_weights(self, init)

    def features(self, x: Tensor) -> list[Tensor]:
        """[c2, c3, c4, c5] of images (N, 3, H, W)."""
        x = self.stem(x)
        features: list[Tensor] = []
        for stage in self.stages:
            x = stage(self.pool(x) if features else x)
            features.append(x)
        return features

    def forward(self, x: Tensor) -> list[Tensor] | Tensor:
        features = self.features(x)
        return features if self.head is None else self.head(features[-1].mean(dim=(2, 3)))
