"""MobileNet v1, which alternates depthwise and pointwise convolutions (arXiv 1704.04861)."""

from __future__ import annotations

from torch import Tensor, nn

from vovnet.models.layers import ConvNormAct, Init, init_weights

# Channels and blocks of each stage from stride 4 on. The first block of a stage has stride 2.
STAGES = ((128, 2), (256, 2), (512, 6), (1024, 2))


class SeparableBlock(nn.Sequential):
    """A depthwise 3×3 convolution, then a pointwise 1×1 convolution, each with batch norm and ReLU."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(c_in, c_in, 3, stride, padding=1, groups=c_in, bias=False),
            nn.BatchNorm2d(c_in),
            nn.ReLU(inplace=True),
            ConvNormAct(c_in, c_out, 1),
        )


class MobileNet(nn.Module):
    """MobileNet v1 of full width; C2…C5 are the last feature maps of their strides, C4 is conv11 and C5 is conv13."""

    feature_names = ("c2", "c3", "c4", "c5")
    strides = (4, 8, 16, 32)
    channels = tuple(width for width, _ in STAGES)

    def __init__(self, *, num_classes: int = 1000, features_only: bool = False, init: Init = "kaiming") -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvNormAct(3, 32, 3, stride=2), SeparableBlock(32, 64))
        self.stages = nn.ModuleList()
        c_in = 64
        for width, blocks in STAGES:
            stage = nn.Sequential(SeparableBlock(c_in, width, stride=2))
            stage.extend(SeparableBlock(width, width) for _ in range(blocks - 1))
            self.stages.append(stage)
            c_in = width
        self.head = None if features_only else nn.Linear(c_in, num_classes)
        init_weights(self, init)

    def features(self, x: Tensor) -> list[Tensor]:
        """[c2, c3, c4, c5] of images (N, 3, H, W)."""
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

    def forward(self, x: Tensor) -> list[Tensor] | Tensor:
        features = self.features(x)
        return features if self.head is None else self.head(features[-1].mean(dim=(2, 3)))
