"""DenseNets: DSOD's, whose small form DS/64-64-16-1 is DenseNet-67, and DenseNet-161 and 201 for RefineDet."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import DenseNet as TorchvisionDenseNet

from vovnet.models.layers import ConvNormAct, Init, NormActConv, init_weights


class DenseLayer(nn.Module):
    """A 1×1 and a 3×3 convolution, whose output is appended to the input: (N, c_in, H, W) → (N, c_in + growth, H, W).

    bottleneck: channels between the two.
    """

    def __init__(self, c_in: int, bottleneck: int, growth: int) -> None:
        super().__init__()
        self.squeeze = NormActConv(c_in, bottleneck, 1)
        self.conv = NormActConv(bottleneck, growth, 3)

    def forward(self, x: Tensor) -> Tensor:
        # The in-place ReLU overwrites the norm's output, never x itself.
        return torch.cat([x, self.conv(self.squeeze(x))], dim=1)


class DSODDenseNet(nn.Module):
    """DSOD's backbone DS/A-B-k-1, the source of its first two feature maps (strides 8 and 16).

    The transitions do not compress (θ = 1). The default is DenseNet-67; the number counts layers: 3 + 2·30 + 4.

    stem: A, channels of the first two convolutions; the third has twice as many.
    bottleneck: B, channels of each dense layer's 1×1 convolution.
    growth: k, channels that each dense layer adds.
    """

    feature_names = ("c3", "c4")
    strides = (8, 16)
    side = 256

    def __init__(self, stem: int = 64, bottleneck: int = 64, growth: int = 16, *, init: Init = "xavier") -> None:
        super().__init__()
        width = 2 * stem
        self.stem = nn.Sequential(
            ConvNormAct(3, stem, 3, stride=2), ConvNormAct(stem, stem, 3), ConvNormAct(stem, width, 3)
        )
        self.pool = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.blocks = nn.ModuleList()
        self.transitions = nn.ModuleList()
        widths = []
        for index, layers in enumerate((6, 8, 8, 8)):
            block = nn.Sequential(*(DenseLayer(width + i * growth, bottleneck, growth) for i in range(layers)))
            width += layers * growth
            widths.append(width)
            self.blocks.append(block)
            self.transitions.append(NormActConv(width, width if index < 3 else self.side, 1))
        self.side_path = nn.Sequential(self.pool, NormActConv(widths[1], self.side, 1))
        self.channels = (widths[1], 2 * self.side)
        init_weights(self, init)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.pool(self.stem(x))  # (N, 128, 75, 75) for a 300 input
        x = self.pool(self.transitions[0](self.blocks[0](x)))
        first = self.transitions[1](self.blocks[1](x))  # (N, 352, 38, 38)
        x = self.transitions[2](self.blocks[2](self.pool(first)))
        x = self.transitions[3](self.blocks[3](x))  # (N, 256, 19, 19)
        return [first, torch.cat([x, self.side_path(first)], dim=1)]


class Variant(NamedTuple):
    stem: int  # channels of the first convolution
    growth: int  # channels that each layer adds (k)
    layers: tuple[int, int, int, int]  # of each block


VARIANTS = {
    "densenet161": Variant(stem=96, growth=48, layers=(6, 12, 36, 24)),
    "densenet201": Variant(stem=64, growth=32, layers=(6, 12, 48, 32)),
}


class DenseNet(TorchvisionDenseNet):
    """DenseNet-BC (arXiv 1608.06993).

    C2…C4 are the outputs of the transitions' 1×1 convolutions before their pooling, without norm or ReLU; C5 follows
    the final batch norm and ReLU. No script of the paper is public; only these sources give the parameters and FLOPs of
    Table 4.
    """

    feature_names = ("c2", "c3", "c4", "c5")
    strides = (4, 8, 16, 32)

    def __init__(self, variant: Variant, *, num_classes: int = 1000, features_only: bool = False) -> None:
        super().__init__(variant.growth, variant.layers, variant.stem, num_classes=num_classes)
        if features_only:
            self.classifier = None
        transitions = (self.features.transition1, self.features.transition2, self.features.transition3)
        self.channels = (*(t.conv.out_channels for t in transitions), self.features.norm5.num_features)

    def forward(self, x: Tensor) -> list[Tensor] | Tensor:
        features = []
        for name, part in self.features.named_children():
            if name.startswith("transition"):
                x = part.conv(part.relu(part.norm(x)))
                features.append(x)
                x = part.pool(x)
            else:
                x = part(x)
        x = F.relu(x)
        return [*features, x] if self.classifier is None else self.classifier(x.mean(dim=(2, 3)))
