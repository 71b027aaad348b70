"""The SSD-style detectors of Table 2: one class, with heads and extra layers of each family, and one builder each.

- DSOD300 predicts densely and is designed to be trained from scratch (arXiv 1708.01241 and its Caffe scripts). In the
  paper, VoVNet-27-slim replaces its DenseNet and nothing else changes (arXiv 1904.09730, §4.2); stages 3, 4 and 5 are
  the first of six feature maps.
- SSD300-MobileNet is the Caffe network of MobileNet-SSD.
- Pelee304 is the Caffe network of Pelee (arXiv 1804.06882).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vovnet.boxes import decode
from vovnet.models.anchors import AnchorGrid, AnchorLevel, Anchors, Level, choose_levels
from vovnet.models.backbones.densenet import DSODDenseNet
from vovnet.models.backbones.mobilenet import MobileNet
from vovnet.models.backbones.peleenet import PeleeNet
from vovnet.models.backbones.vovnet import TABLE_1, Pool, VoVNet
from vovnet.models.detectors.decoding import OneStageDetector
from vovnet.models.layers import ConvNormAct, Init, L2Norm, Norm, NormActConv, ResidualBlock, init_weights, predict
from vovnet.models.preprocessing import Preprocessing, with_pixels

# DSOD300_pascal: min and max size, aspect ratios and step of each feature map. The last step is 300, although 150
# would fit a 2×2 map of a 300-pixel input; so three of its four cells lie outside the image. The published models were
# trained this way.
# DSOD300_coco has smaller boxes and is otherwise the same.
ANCHORS_DSOD = {
    "voc": (
        AnchorLevel(30, 60, (2,), 8),
        AnchorLevel(60, 111, (2, 3), 16),
        AnchorLevel(111, 162, (2, 3), 32),
        AnchorLevel(162, 213, (2, 3), 64),
        AnchorLevel(213, 264, (2,), 100),
        AnchorLevel(264, 315, (2,), 300),
    ),
    "coco": (
        AnchorLevel(21, 45, (2,), 8),
        AnchorLevel(45, 99, (2, 3), 16),
        AnchorLevel(99, 153, (2, 3), 32),
        AnchorLevel(153, 207, (2, 3), 64),
        AnchorLevel(207, 261, (2,), 100),
        AnchorLevel(261, 315, (2,), 300),
    ),
}

# MobileNet-SSD and Pelee state no step. Pelee's sizes are 30.4, 60.8, 112.48, … 319.2, truncated to integers by Caffe.
# Its first two rows belong to the same feature map.
ANCHORS_MOBILENET = (
    AnchorLevel(60, None, (2,)),
    AnchorLevel(105, 150, (2, 3)),
    AnchorLevel(150, 195, (2, 3)),
    AnchorLevel(195, 240, (2, 3)),
    AnchorLevel(240, 285, (2, 3)),
    AnchorLevel(285, 300, (2, 3)),
)
ANCHORS_PELEE = (
    AnchorLevel(30, 60, (2, 3)),
    AnchorLevel(60, 112, (2, 3)),
    AnchorLevel(112, 164, (2, 3)),
    AnchorLevel(164, 215, (2, 3)),
    AnchorLevel(215, 267, (2, 3)),
    AnchorLevel(267, 319, (2, 3)),
)
# The standard deviations are published as factors: × 0.007843 and × 0.017.
PREPROCESSING_DSOD = Preprocessing((300, 300))
PREPROCESSING_MOBILENET = Preprocessing((300, 300), mean=(127.5,) * 3, std=(1 / 0.007843,) * 3)
PREPROCESSING_PELEE = Preprocessing((304, 304), mean=(103.94, 116.78, 123.68), std=(1 / 0.017,) * 3)


class DenseExtra(nn.Module):
    """DSOD's next feature map: half of its channels are learnt, half are the previous map, pooled."""

    def __init__(self, c_in: int, width: int) -> None:
        super().__init__()
        self.reuse = nn.Sequential(nn.MaxPool2d(2, stride=2, ceil_mode=True), NormActConv(c_in, width, 1))
        self.learn = nn.Sequential(NormActConv(c_in, width, 1), NormActConv(width, width, 3, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.reuse(x), self.learn(x)], dim=1)  # (N, c_in, H, W) → (N, 2·width, ⌈H/2⌉, ⌈W/2⌉)


class DSODHead(nn.Module):
    """L2Norm, then two 3×3 convolutions with batch norm, for the boxes and the classes of P default boxes per cell."""

    def __init__(self, channels: int, per_cell: int, num_logits: int) -> None:
        super().__init__()
        self.l2norm = L2Norm(channels, scale=20.0)
        self.box = ConvNormAct(channels, 4 * per_cell, 3, act=False, eps=1e-3)
        self.cls = ConvNormAct(channels, num_logits * per_cell, 3, act=False, eps=1e-3)
        for conv in (self.box.conv, self.cls.conv):
            nn.init.normal_(conv.weight, std=0.01)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.l2norm(x)
        return self.box(x), self.cls(x)


class PlainHead(nn.Module):
    """Two 1×1 convolutions, for the boxes and the classes of P default boxes per cell."""

    def __init__(self, channels: int, per_cell: int, num_logits: int) -> None:
        super().__init__()
        self.box = nn.Conv2d(channels, 4 * per_cell, 1)
        self.cls = nn.Conv2d(channels, num_logits * per_cell, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.box(x), self.cls(x)


class PeleeNeck(nn.Module):
    """A residual block for each feature map; the finest map goes to two heads."""

    out_channels = 256

    def __init__(self, channels: Iterable[int]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(c, 128, self.out_channels, eps=1e-3) for c in channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        finest, *others = (block(feature) for block, feature in zip(self.blocks, maps, strict=True))
        return [finest, finest, *others]  # (N, 256, H, W) each


class SSD(OneStageDetector):
    """A backbone's feature maps and further ones made from them, one head per feature map, default boxes.

    extras: each makes a further feature map from the one before.
    levels: the default boxes of each head.
    sources: how many of the backbone's last feature maps are used.
    neck: changes all these feature maps before the heads; None leaves them.

    Outputs: "class_logits" (N, A, K+1), background first; "box_deltas" (N, A, 4); "anchors_cxcywh" (A, 4) in pixels of
    the network's input.
    """

    candidates, top_k = 400, 200

    def __init__(
        self,
        backbone: nn.Module,
        extras: Iterable[nn.Module],
        heads: Iterable[nn.Module],
        levels: Sequence[Level],
        num_classes: int,
        preprocessing: Preprocessing,
        *,
        sources: int,
        neck: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.preprocessing = preprocessing
        self.anchors = AnchorGrid(levels)
        self.smallest_anchor = min(level.smallest for level in levels)
        self.backbone = backbone
        self.sources = sources
        self.extras = nn.ModuleList(extras)
        self.neck = neck or nn.Identity()
        self.heads = nn.ModuleList(heads)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images: (N, 3, H, W), preprocessed."""
        maps = self.backbone(images)[-self.sources :]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        maps = self.neck(maps)
        box_deltas, logits = predict(self.heads, maps)
        return {"class_logits": logits, "box_deltas": box_deltas, "anchors_cxcywh": self.anchors(maps, images)}

    def boxes_and_scores(self, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """See `OneStageDetector`. Scores are softmax probabilities."""
        scores = outputs["class_logits"].float().softmax(dim=-1)[..., 1:]
        return decode(outputs["box_deltas"].float(), outputs["anchors_cxcywh"]), scores


def dsod300_vovnet27_slim(
    num_classes: int,
    *,
    default_boxes: Mapping[str, Sequence[AnchorLevel]],
    bottleneck: bool = False,
    anchors: Anchors = "voc",
    norm: Norm = "batch",
    pool: Pool = "k3",
    init: Init = "xavier",
    pixels: Mapping[str, Any] | None = None,
) -> SSD:
    """DSOD300 on VoVNet-27-slim, stages 3 to 5.

    default_boxes: the sets that `anchors` chooses from: "voc", or "coco" with smaller boxes.
    anchors: see `Anchors`.
    bottleneck: as in Table 3's ablation.
    norm, pool: of the backbone, see `VoVNet`.
    init: of backbone and extra layers, see `init_weights`.
    pixels: `mean`, `std`, `channel_order` and `antialias` of `Preprocessing`, if they differ.
    """
    backbone = VoVNet(
        TABLE_1["vovnet27_slim"], features_only=True, norm=norm, pool=pool, init=init, bottleneck=bottleneck
    )
    levels = choose_levels(anchors, default_boxes["voc"], default_boxes)
    return _dsod300(
        backbone, backbone.channels[1:], num_classes, widths=(128, 128, 128), levels=levels, init=init, pixels=pixels
    )


def dsod300_densenet67(
    num_classes: int,
    *,
    default_boxes: Mapping[str, Sequence[AnchorLevel]],
    anchors: Anchors = "voc",
    init: Init = "xavier",
    pixels: Mapping[str, Any] | None = None,
) -> SSD:
    """DSOD300 on DS/64-64-16-1. Options as in `dsod300_vovnet27_slim`."""
    backbone = DSODDenseNet(init=init)
    levels = choose_levels(anchors, default_boxes["voc"], default_boxes)
    return _dsod300(
        backbone, backbone.channels, num_classes, widths=(256, 128, 128, 128), levels=levels, init=init, pixels=pixels
    )


def _dsod300(
    backbone: nn.Module,
    sources: Sequence[int],
    num_classes: int,
    *,
    widths: Sequence[int],
    levels: Sequence[Level],
    init: Init,
    pixels: Mapping[str, Any] | None,
) -> SSD:
    """DSOD300 on the backbone's last feature maps.

    sources: their channels.
    widths: of the extra feature maps, which have 2·width channels.
    """
    channels, extras = list(sources), nn.ModuleList()
    for width in widths:
        extras.append(DenseExtra(channels[-1], width))
        channels.append(2 * width)
    init_weights(extras, init)
    heads = [DSODHead(c, level.per_cell, num_classes + 1) for c, level in zip(channels, levels, strict=True)]
    preprocessing = with_pixels(PREPROCESSING_DSOD, pixels)
    return SSD(backbone, extras, heads, levels, num_classes, preprocessing, sources=len(sources))


def ssd300_mobilenet(
    num_classes: int,
    *,
    default_boxes: Sequence[AnchorLevel],
    anchors: Anchors = None,
    init: Init = "kaiming",
    pixels: Mapping[str, Any] | None = None,
) -> SSD:
    """SSD300 on MobileNet's last two feature maps, conv11 and conv13. Options as in `dsod300_vovnet27_slim`."""
    levels = choose_levels(anchors, default_boxes)
    backbone = MobileNet(features_only=True, init=init)
    channels, extras = list(backbone.channels[-2:]), nn.ModuleList()
    for width in (256, 128, 128, 64):
        extras.append(nn.Sequential(ConvNormAct(channels[-1], width, 1), ConvNormAct(width, 2 * width, 3, stride=2)))
        channels.append(2 * width)
    heads = nn.ModuleList(
        PlainHead(c, level.per_cell, num_classes + 1) for c, level in zip(channels, levels, strict=True)
    )
    for part in (extras, heads):
        init_weights(part, init)
    preprocessing = with_pixels(PREPROCESSING_MOBILENET, pixels)
    return SSD(backbone, extras, heads, levels, num_classes, preprocessing, sources=2)


def pelee304(
    num_classes: int,
    *,
    default_boxes: Sequence[AnchorLevel],
    anchors: Anchors = None,
    init: Init = "xavier",
    pixels: Mapping[str, Any] | None = None,
) -> SSD:
    """Pelee304 on PeleeNet's last two feature maps. Its extra layers have biases and no batch norm.

    anchors, pixels: as in `dsod300_vovnet27_slim`.
    """
    levels = choose_levels(anchors, default_boxes)
    backbone = PeleeNet(features_only=True, init=init)
    channels, extras = list(backbone.channels[-2:]), nn.ModuleList()
    for width, stride, padding in ((256, 2, 1), (128, 1, 0), (128, 1, 0)):  # 5×5, 3×3, 1×1 for a 304 input
        squeeze, conv = nn.Conv2d(channels[-1], width, 1), nn.Conv2d(width, 256, 3, stride, padding)
        extras.append(nn.Sequential(squeeze, nn.ReLU(inplace=True), conv, nn.ReLU(inplace=True)))
        channels.append(256)
    neck = PeleeNeck(channels)
    heads = nn.ModuleList(PlainHead(neck.out_channels, level.per_cell, num_classes + 1) for level in levels)
    for part in (extras, neck, heads):
        init_weights(part, init)
    preprocessing = with_pixels(PREPROCESSING_PELEE, pixels)
    return SSD(backbone, extras, heads, levels, num_classes, preprocessing, sources=2, neck=neck)
