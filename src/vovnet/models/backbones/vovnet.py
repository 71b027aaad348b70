"""VoVNet: a backbone of One-Shot Aggregation modules (arXiv 1904.09730, §3.2–3.3), and VoVNetV2 (arXiv 1911.06667)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vovnet.models.layers import ConvNormAct, Init, Norm, check_option, init_weights

Stem = Literal["pool", "stride"]
Pool = Literal["k3", "k2"]
ESE = Literal["none", "all", "last"]

LAYERS_PER_MODULE = 5


class Variant(NamedTuple):
    """A column of Table 1. The first three fields have a value for each of the stages 2, 3, 4 and 5."""

    widths: tuple[int, int, int, int]  # channels of the 3×3 layers
    outputs: tuple[int, int, int, int]  # channels of the feature map
    modules: tuple[int, int, int, int]  # OSA modules
    layers: int = LAYERS_PER_MODULE  # 3×3 layers of a module
    stem: tuple[int, int, int] = (64, 64, 128)  # channels of the stem's three convolutions
    depthwise: bool = False  # whether all 3×3 layers but the stem's first are depthwise separable


# Table 1. The number in a name counts convolutions: 3 in the stem and 6 in each module.
# 75 and 93 are not in the paper; their numbers of modules are those of the authors' detection code.
TABLE_1 = {
    "vovnet27_slim": Variant(widths=(64, 80, 96, 112), outputs=(128, 256, 384, 512), modules=(1, 1, 1, 1)),
    "vovnet39": Variant(widths=(128, 160, 192, 224), outputs=(256, 512, 768, 1024), modules=(1, 1, 2, 2)),
    "vovnet57": Variant(widths=(128, 160, 192, 224), outputs=(256, 512, 768, 1024), modules=(1, 1, 4, 3)),
    "vovnet75": Variant(widths=(128, 160, 192, 224), outputs=(256, 512, 768, 1024), modules=(1, 2, 6, 3)),
    "vovnet93": Variant(widths=(128, 160, 192, 224), outputs=(256, 512, 768, 1024), modules=(1, 3, 8, 3)),
}
# Not in the paper: for CPUs, where a layer with few channels costs time for its start and not for its multiply-adds.
NARROW = {
    "vovnet19_tiny": Variant(
        widths=(32, 48, 80, 112), outputs=(48, 96, 192, 256), modules=(1, 1, 1, 1), layers=3, stem=(16, 16, 32)
    )
}
# VoVNetV2 as in the authors' detection code, all with eSE, identity and the stem "stride". 39 and 57 are Table 1's.
_SLIM_19 = Variant(widths=(64, 80, 96, 112), outputs=(112, 256, 384, 512), modules=(1, 1, 1, 1), layers=3)
_WIDE_19 = Variant(widths=(128, 160, 192, 224), outputs=(256, 512, 768, 1024), modules=(1, 1, 1, 1), layers=3)
VOVNET_V2 = {
    "vovnet19_slim_dw_ese": _SLIM_19._replace(stem=(64, 64, 64), depthwise=True),
    "vovnet19_dw_ese": _WIDE_19._replace(stem=(64, 64, 64), depthwise=True),
    "vovnet19_slim_ese": _SLIM_19,
    "vovnet19_ese": _WIDE_19,
    "vovnet39_ese": TABLE_1["vovnet39"],
    "vovnet57_ese": TABLE_1["vovnet57"],
    "vovnet99_ese": Variant(widths=(128, 160, 192, 224), outputs=(256, 512, 768, 1024), modules=(1, 3, 9, 3)),
}


def _conv3x3(c_in: int, c_out: int, stride: int = 1, *, norm: Norm, depthwise: bool) -> nn.Module:
    """A 3×3 convolution with norm and ReLU; depthwise separable, a 3×3 without both and a 1×1 with them."""
    if not depthwise:
        return ConvNormAct(c_in, c_out, 3, stride, norm)
    conv = nn.Conv2d(c_in, c_in, 3, stride, padding=1, groups=c_in, bias=False)
    return nn.Sequential(OrderedDict(depthwise=conv, pointwise=ConvNormAct(c_in, c_out, 1, norm=norm)))


class EffectiveSE(nn.Module):
    """Weight each channel by one fully connected layer on the channel means (VoVNetV2's eSE)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.fc(x.mean(dim=(2, 3), keepdim=True)))


class OSAModule(nn.Module):
    """One-Shot Aggregation: a chain of 3×3 layers, then a 1×1 over the input and all their outputs (Fig. 1b).

    width (m): channels of each 3×3 layer.
    c_out (o): channels of the output.
    layers (n): number of 3×3 layers.
    bottleneck: put a 1×1 layer with m / 2 channels before every 3×3 layer (the ablation of Table 3).
    depthwise: make the 3×3 layers separable, preceded by a 1×1 to m channels if the input has a different number.
    ese: weight the output's channels by `EffectiveSE`.
    identity: then add the input (not in the paper; the authors' PyTorch code does so in a stage's repeated modules).
    """

    def __init__(
        self,
        c_in: int,
        width: int,
        c_out: int,
        *,
        layers: int = LAYERS_PER_MODULE,
        norm: Norm = "batch",
        bottleneck: bool = False,
        depthwise: bool = False,
        ese: bool = False,
        identity: bool = False,
    ) -> None:
        super().__init__()
        self.identity = identity
        self.reduction = ConvNormAct(c_in, width, 1, norm=norm) if depthwise and c_in != width else nn.Identity()
        self.layers = nn.ModuleList()
        for layer in range(layers):
            c_layer = width if layer or depthwise else c_in
            if bottleneck:
                squeeze = ConvNormAct(c_layer, width // 2, 1, norm=norm)
                self.layers.append(nn.Sequential(squeeze, ConvNormAct(width // 2, width, 3, norm=norm)))
            else:
                self.layers.append(_conv3x3(c_layer, width, norm=norm, depthwise=depthwise))
        self.concat = ConvNormAct(c_in + layers * width, c_out, 1, norm=norm)
        self.ese = EffectiveSE(c_out) if ese else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        y = self.reduction(x)
        for layer in self.layers:
            y = layer(y)  # (N, m, H, W)
            features.append(y)
        out = self.ese(self.concat(torch.cat(features, dim=1)))  # (N, c_in + n·m, H, W) → (N, o, H, W)
        return out + x if self.identity else out


class OSAStage(nn.Sequential):
    """The OSA modules of one stride: (N, c_in, H, W) → (N, c_out, H, W).

    ese: which modules have an eSE: "none", "all" or "last".
    identity: add the input of every module but the first, whose input has a different number of channels.
    options: those of every `OSAModule`.
    """

    def __init__(
        self, c_in: int, width: int, c_out: int, *, modules: int, ese: ESE, identity: bool, **options: Any
    ) -> None:
        super().__init__()
        for index in range(modules):
            weighed = ese == "all" or (ese == "last" and index == modules - 1)
            module = OSAModule(
                c_out if index else c_in, width, c_out, ese=weighed, identity=identity and index > 0, **options
            )
            self.append(module)


class VoVNet(nn.Module):
    """VoVNet; C2…C5 are taken before the pooling that follows them.

    stem: "pool" is Table 1: the third convolution has stride 1, and max-pooling follows. "stride" is what the
        authors' PyTorch code and all released PyTorch weights use: the third convolution has stride 2, without pooling.
        Both have the same parameters, but "stride" needs fewer operations. Tables 2–4 need "pool". For Table 5 the
        authors' code has "stride"; what the paper used is not known.
    identity: add the input in a stage's second and later modules. Tables 2–4 need False; for Table 5 the authors' code
        has True.
    ese: which modules of a stage have an eSE: "none" (v1), "all" (VoVNetV2) or "last" (timm's VoVNetV2).
    norm: "batch", "group" or "frozen", see `make_norm`. Table 5 needs "group".
    bottleneck: see `OSAModule`.
    pool: "k3" is 3×3 max-pooling of stride 2 without padding; "k2" is 2×2, which gives the feature map sizes of DSOD's
        DenseNet. Both round sizes up. All tables need "k3".
    init: see `init_weights`.
    """

    feature_names = ("c2", "c3", "c4", "c5")
    strides = (4, 8, 16, 32)

    def __init__(
        self,
        variant: Variant,
        *,
        num_classes: int = 1000,
        features_only: bool = False,
        stem: Stem = "pool",
        identity: bool = False,
        ese: ESE = "none",
        norm: Norm = "batch",
        bottleneck: bool = False,
        pool: Pool = "k3",
        init: Init = "kaiming",
    ) -> None:
        super().__init__()
        check_option("stem", stem, Stem)
        check_option("pool", pool, Pool)
        check_option("ese", ese, ESE)
        if bottleneck and variant.depthwise:
            raise ValueError("bottleneck=True needs a variant with full 3×3 convolutions, this one has depthwise ones")
        self.channels = variant.outputs
        c1, c2, c_in = variant.stem
        self.stem = nn.Sequential(
            ConvNormAct(3, c1, 3, stride=2, norm=norm),
            _conv3x3(c1, c2, norm=norm, depthwise=variant.depthwise),
            _conv3x3(c2, c_in, 2 if stem == "stride" else 1, norm=norm, depthwise=variant.depthwise),
        )
        self.pool = nn.MaxPool2d(3 if pool == "k3" else 2, stride=2, ceil_mode=True)
        self.stem_pool = self.pool if stem == "pool" else nn.Identity()
        self.stages = nn.ModuleList()
        for width, c_out, modules in zip(variant.widths, variant.outputs, variant.modules, strict=True):
            stage = OSAStage(
                c_in,
                width,
                c_out,
                modules=modules,
                ese=ese,
                identity=identity,
                layers=variant.layers,
                depthwise=variant.depthwise,
                norm=norm,
                bottleneck=bottleneck,
            )
            self.stages.append(stage)
            c_in = c_out
        self.head = None if features_only else nn.Linear(c_in, num_classes)
        init_weights(self, init)

    def features(self, x: Tensor) -> list[Tensor]:
        """[c2, c3, c4, c5] of images (N, 3, H, W)."""
        x = self.stem_pool(self.stem(x))  # (N, stem[-1], H/4, W/4)
        features: list[Tensor] = []
        for stage in self.stages:
            x = stage(self.pool(x) if features else x)
            features.append(x)
        return features

    def forward(self, x: Tensor) -> list[Tensor] | Tensor:
        features = self.features(x)
        return features if self.head is None else self.head(features[-1].mean(dim=(2, 3)))
