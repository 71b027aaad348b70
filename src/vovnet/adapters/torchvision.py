"""Our backbones in torchvision: by name after `register()`, and with a feature pyramid for its detectors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision.models import get_model_builder, list_models
from torchvision.models._api import register_model
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from vovnet.weights.backbone import create_backbone
from vovnet.zoo import BACKBONES


def register() -> tuple[str, ...]:
    """Let torchvision know our backbones, and return their names there. A second call changes nothing.

    `torchvision.models.get_model("vovnet39", weights=…, **options)` is `vovnet.create_backbone` with these arguments.
    The networks that torchvision has under the same names (resnet50, densenet161, …) stay torchvision's.
    """
    for name in BACKBONES:
        if name not in list_models():
            register_model(name)(_builder(name))
    return tuple(name for name in BACKBONES if get_model_builder(name).__module__ == __name__)


def _builder(name: str) -> Callable[..., nn.Module]:
    def build(*, weights: str | Path | None = None, **options: Any) -> nn.Module:
        return create_backbone(name, weights=weights, **options)

    build.__name__ = build.__qualname__ = name
    return build


class PyramidBackbone(nn.Module):
    """A backbone with a feature pyramid, in the form that torchvision's Faster R-CNN, Mask R-CNN and RetinaNet take.

    Returns the maps of the pyramid, finest first, as an OrderedDict: "0", "1", … and "pool", the coarsest one
    subsampled. Their names but the last, which `MultiScaleRoIAlign` does without, are in `feature_names`.

    name: of any backbone of `vovnet.create_backbone`, also "timm/convnext_tiny".
    out_channels: of each map.
    weights: of the backbone, see `vovnet.create_backbone`; None for random ones.
    options: of the backbone.
    """

    def __init__(
        self, name: str, *, out_channels: int = 256, weights: str | Path | None = None, **options: Any
    ) -> None:
        super().__init__()
        body: Any = create_backbone(name, weights=weights, features_only=True, **options)
        self.body = body
        self.fpn = FeaturePyramidNetwork(list(body.channels), out_channels, extra_blocks=LastLevelMaxPool())
        self.out_channels = out_channels
        self.feature_names = tuple(map(str, range(len(body.channels))))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.fpn(OrderedDict(zip(self.feature_names, self.body(images), strict=True)))
