"""RefineDet320 and RefineDet512: a one-stage detector that predicts boxes in two steps.

The anchor refinement module (ARM) tells objects from background and moves the anchors. The transfer connection blocks
(TCB) combine its feature maps, from coarse to fine. The object detection module (ODM) classifies the moved anchors and
moves them again.

Source: RefineDet (arXiv 1711.06897), with the residual predictors of Tables 2, 4 and 6 of the VoVNet paper. On VGG-16
it is the plain form without batch norm.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from vovnet.boxes import decode, xyxy_to_cxcywh
from vovnet.matching import MIN_OBJECTNESS
from vovnet.models.anchors import AnchorGrid, AnchorLevel, Anchors, Level, choose_levels
from vovnet.models.backbones.vgg import VGG16
from vovnet.models.detectors.decoding import OneStageDetector
from vovnet.models.layers import ConvNormAct, ResidualBlock, caffe_xavier_, predict
from vovnet.models.preprocessing import Preprocessing, with_pixels

# One size per feature map, four times its stride, also for 512 inputs; width to height 1, 2 and 1/2.
ANCHORS = (
    AnchorLevel(32, None, (2,), 8),
    AnchorLevel(64, None, (2,), 16),
    AnchorLevel(128, None, (2,), 32),
    AnchorLevel(256, None, (2,), 64),
)
INPUT_MULTIPLE = 64  # so that each feature map is exactly twice as large as the next coarser one
SIXTH_CHANNELS = 512


class Predictor(nn.Module):
    """Two 3×3 convolutions, for the boxes and the classes of P default boxes per cell.

    residual: with a residual block before them.
    """

    def __init__(self, c_in: int, width: int, num_logits: int, *, per_cell: int, residual: bool) -> None:
        super().__init__()
        self.block = ResidualBlock(c_in, width, 4 * width) if residual else nn.Identity()
        channels = 4 * width if residual else c_in
        self.box = nn.Conv2d(channels, 4 * per_cell, 3, padding=1)
        self.cls = nn.Conv2d(channels, num_logits * per_cell, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.block(x)
        return self.box(x), self.cls(x)


class TransferConnection(nn.Module):
    """A TCB: takes a feature map of the ARM and adds the next coarser one of the ODM, enlarged to twice its size.

    (N, c_in, H, W), (N, width, H/2, W/2) → (N, width, H, W). The coarsest TCB has no second input.
    """

    def __init__(self, c_in: int, width: int, norm: bool, coarsest: bool) -> None:
        super().__init__()
        self.first = _conv(c_in, width, norm)
        self.second = _conv(width, width, norm, act=coarsest)
        self.last = _conv(width, width, norm)
        self.up = None if coarsest else _up(width, norm)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, coarser: Tensor | None) -> Tensor:
        x = self.second(self.first(x))
        if self.up is not None:
            x = self.act(x + self.up(coarser))
        return self.last(x)


def _conv(c_in: int, width: int, norm: bool, act: bool = True) -> nn.Module:
    if norm:
        return ConvNormAct(c_in, width, 3, act=act)
    conv = nn.Conv2d(c_in, width, 3, padding=1)
    return nn.Sequential(conv, nn.ReLU(inplace=True)) if act else conv


def _up(width: int, norm: bool) -> nn.Module:
    up = nn.ConvTranspose2d(width, width, 2, stride=2, bias=not norm)
    return nn.Sequential(up, nn.BatchNorm2d(width)) if norm else up


class RefineDet(OneStageDetector):
    """A backbone's feature maps of strides 8, 16 and 32, a fourth of stride 64, and the two steps on them.

    backbone: returns feature maps, finest first; the last three are used.
    sources: their channels.
    levels: the default boxes of the four feature maps.
    residual: with batch norm in the TCBs, a residual block before every predictor and one that makes the map of stride
        64, as in the paper's tables; False is the plain form for VGG-16, without them.
    width: channels of the TCBs and of the residual blocks, whose output has four times as many. The paper has 256.

    Outputs: "objectness_logits" (N, A, 2) and "class_logits" (N, A, K+1), background first in both; "anchor_deltas"
    (N, A, 4), which move "anchors_cxcywh" (A, 4) in pixels of the network's input; "box_deltas" (N, A, 4), which move
    the anchors once more.
    """

    input_multiple = INPUT_MULTIPLE
    candidates, top_k = 1000, 500

    def __init__(
        self,
        backbone: nn.Module,
        sources: Sequence[int],
        num_classes: int,
        preprocessing: Preprocessing,
        *,
        levels: Sequence[Level] = ANCHORS,
        residual: bool = True,
        width: int = 256,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.preprocessing = preprocessing
        self.anchors = AnchorGrid(levels)
        self.smallest_anchor = min(level.smallest for level in levels)
        self.backbone = backbone
        channels = (*sources, SIXTH_CHANNELS)
        if residual:
            self.sixth: nn.Module = ResidualBlock(sources[-1], 128, SIXTH_CHANNELS, stride=2)
        else:  # conv6_1 and conv6_2
            squeeze, conv = nn.Conv2d(sources[-1], 256, 1), nn.Conv2d(256, SIXTH_CHANNELS, 3, stride=2, padding=1)
            self.sixth = nn.Sequential(squeeze, nn.ReLU(inplace=True), conv, nn.ReLU(inplace=True))
        counts = [level.per_cell for level in levels]
        self.arm = nn.ModuleList(
            Predictor(c, width, 2, per_cell=count, residual=residual) for c, count in zip(channels, counts, strict=True)
        )
        self.tcb = nn.ModuleList(TransferConnection(c, width, residual, level == 3) for level, c in enumerate(channels))
        self.odm = nn.ModuleList(
            Predictor(width, width, num_classes + 1, per_cell=count, residual=residual) for count in counts
        )
        for part in (self.sixth, self.arm, self.tcb, self.odm):
            part.apply(_init)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images: (N, 3, H, W), preprocessed; H and W any multiples of 64."""
        height, width = images.shape[-2:]
        if height % INPUT_MULTIPLE or width % INPUT_MULTIPLE:
            raise ValueError(
                f"sides of RefineDet's input must be multiples of 64, such as 320 and 512, got {height}×{width}"
            )
        maps = self.backbone(images)[-3:]  # strides 8, 16, 32
        maps.append(self.sixth(maps[-1]))
        anchor_deltas, objectness = predict(self.arm, maps)
        merged: list[Tensor] = []  # coarsest first
        for tcb, feature in zip(reversed(self.tcb), reversed(maps), strict=True):
            merged.append(tcb(feature, merged[-1] if merged else None))
        box_deltas, logits = predict(self.odm, merged[::-1])
        return {
            "objectness_logits": objectness,
            "anchor_deltas": anchor_deltas,
            "class_logits": logits,
            "box_deltas": box_deltas,
            "anchors_cxcywh": self.anchors(maps, images),
        }

    def boxes_and_scores(self, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """See `OneStageDetector`. Scores are softmax probabilities of the ODM, and 0 where the ARM's objectness is
        below `MIN_OBJECTNESS`."""
        scores = outputs["class_logits"].float().softmax(dim=-1)[..., 1:]  # (N, A, K)
        objectness = outputs["objectness_logits"].float().softmax(dim=-1)[..., 1:]  # (N, A, 1)
        refined = decode(outputs["anchor_deltas"].float(), outputs["anchors_cxcywh"])  # (N, A, 4)
        boxes = decode(outputs["box_deltas"].float(), xyxy_to_cxcywh(refined))
        return boxes, scores * (objectness >= MIN_OBJECTNESS)


def _init(module: nn.Module) -> None:
    """Convolutions before a batch norm are drawn from N(0, 0.01²), those with a bias by `caffe_xavier_` with bias 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        if module.bias is None:
            nn.init.normal_(module.weight, std=0.01)
        else:
            caffe_xavier_(module.weight)
            nn.init.zeros_(module.bias)


def predictor_biases(model: nn.Module) -> list[nn.Parameter]:
    """The biases of a RefineDet's predictors, which learn at twice the rate."""
    return [bias for name, bias in model.named_parameters() if re.fullmatch(r"(arm|odm)\.\d\.(box|cls)\.bias", name)]


def refinedet(
    num_classes: int,
    *,
    make_backbone: Callable[..., nn.Module],
    image_size: tuple[int, int],
    default_boxes: Sequence[AnchorLevel],
    anchors: Anchors = None,
    backbone: Mapping[str, Any] | None = None,
    pixels: Mapping[str, Any] | None = None,
    width: int = 256,
) -> RefineDet:
    """RefineDet on the last three feature maps of any backbone; on VGG-16 in the plain form.

    make_backbone: builds the backbone with the options `backbone`.
    anchors: see `Anchors`.
    pixels: `mean`, `std`, `channel_order` and `antialias` of `Preprocessing`, for weights that need others.
    width: see `RefineDet`.
    """
    net: Any = make_backbone(**{**(backbone or {}), "features_only": True})
    preprocessing = with_pixels(Preprocessing(image_size), pixels)
    levels, residual = choose_levels(anchors, default_boxes), not isinstance(net, VGG16)
    return RefineDet(net, net.channels[-3:], num_classes, preprocessing, levels=levels, residual=residual, width=width)
