"""A small, fast SSD: a narrow VoVNet, a top-down path and one 3×3 convolution before the predictions of a feature map.

It is made for CPUs, where a layer costs time for its start as well as for its multiply-adds. So it has few and full
convolutions instead of depthwise ones, a stem that reaches stride 4 without pooling, and no layers that only normalise.
The top-down path adds coarse feature maps to finer ones, as an FPN does (arXiv 1612.03144): so the finest map, on which
small objects are found, sees as much around them as the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import interpolate

from vovnet.models.anchors import AnchorLevel, Anchors, choose_levels
from vovnet.models.backbones.vovnet import NARROW, VoVNet
from vovnet.models.detectors.ssd import SSD
from vovnet.models.layers import ConvNormAct, init_weights
from vovnet.models.preprocessing import Preprocessing, with_pixels

# From 3 to 6 times the stride, the next map's smallest in between; width to height 1, 2 and 1/2.
ANCHORS_LIGHT = (
    AnchorLevel(24, 48, (2,), 8),
    AnchorLevel(48, 96, (2,), 16),
    AnchorLevel(96, 176, (2,), 32),
    AnchorLevel(176, 288, (2,), 64),
)
PREPROCESSING_LIGHT = Preprocessing((320, 320))
EXTRA_CHANNELS = 128
NECK_CHANNELS = 64


class TopDown(nn.Module):
    """Feature maps with the same number of channels, each the sum of its own and of the coarser one, enlarged.

    [(N, c, H, W) of each of `channels`, finest first] → [(N, width, H, W)].
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(ConvNormAct(c, width, 1, act=False) for c in channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        merged: list[Tensor] = []  # coarsest first
        for lateral, feature in zip(reversed(self.lateral), reversed(maps), strict=True):
            x = lateral(feature)
            if merged:
                x = x + interpolate(merged[-1], size=x.shape[-2:])
            merged.append(self.act(x))
        return merged[::-1]


class LightHead(nn.Module):
    """A 3×3 convolution with batch norm, then two 1×1, for the boxes and the classes of P default boxes per cell."""

    def __init__(self, channels: int, per_cell: int, num_logits: int) -> None:
        super().__init__()
        self.shared = ConvNormAct(channels, channels, 3)
        self.box = nn.Conv2d(channels, 4 * per_cell, 1)
        self.cls = nn.Conv2d(channels, num_logits * per_cell, 1)
        init_weights(self.shared, "kaiming")
        for conv in (self.box, self.cls):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.shared(x)
        return self.box(x), self.cls(x)


def ssdfpn320_vovnet19_tiny(
    num_classes: int,
    *,
    default_boxes: Sequence[AnchorLevel],
    anchors: Anchors = None,
    pixels: Mapping[str, Any] | None = None,
) -> SSD:
    """The light SSD on VoVNet-19-tiny, stages 3 to 5, and one more feature map of stride 64.

    anchors: see `Anchors`.
    pixels: `mean`, `std`, `channel_order` and `antialias` of `Preprocessing`, if they differ.
    """
    levels = choose_levels(anchors, default_boxes)
    backbone = VoVNet(NARROW["vovnet19_tiny"], features_only=True, stem="stride")
    extra = ConvNormAct(backbone.channels[-1], EXTRA_CHANNELS, 3, stride=2)
    neck = TopDown([*backbone.channels[1:], EXTRA_CHANNELS], NECK_CHANNELS)
    for part in (extra, neck):
        init_weights(part, "kaiming")
    heads = [LightHead(NECK_CHANNELS, level.per_cell, num_classes + 1) for level in levels]
    preprocessing = with_pixels(PREPROCESSING_LIGHT, pixels)
    return SSD(backbone, [extra], heads, levels, num_classes, preprocessing, sources=3, neck=neck)
