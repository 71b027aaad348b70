"""A detector whose backbone starts from weights of another source."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vovnet.errors import UsageError
from vovnet.models.backbones.timm import read_timm_weights
from vovnet.models.detectors.contract import DetectionModel
from vovnet.weights.backbone import read_weights
from vovnet.weights.checkpoint import ModelInfo
from vovnet.zoo import find_detector


def build_pretrained(info: ModelInfo, source: str) -> tuple[ModelInfo, DetectionModel]:
    """The detector with the backbone weights of `source`, and `info` with what they presuppose.

    All of it is trainable, but for the statistics and weights of norms where the detector freezes them (Mask R-CNN and
    Faster R-CNN, unless their option backbone={"norm": "batch"} says otherwise).

    source: see `vovnet.weights.backbone.read_weights`, and for a backbone of timm's `read_timm_weights`. The backbone's
    options and the images' normalisation become those of the weights, so that the detector's own files need no `source`
    any more; `info`'s own normalisation goes first.

    Raises as these do, and ValueError where the weights are of another backbone or contradict its options.
    """
    spec = find_detector(info.name)
    backbone = spec.backbone
    if backbone is None or spec.group_norm:
        raise UsageError(
            "backbone_weights is for RefineDet, Mask R-CNN and Faster R-CNN on a VoVNet or a network of timm's, such "
            f"as refinedet320_vovnet39 and maskrcnn_timm/resnet50, got {info.name}"
        )
    if backbone.startswith("timm/"):
        state, pixels = read_timm_weights(backbone.removeprefix("timm/"), source)
        info = replace(info, options={**info.options, "pixels": {**pixels, **info.options.get("pixels", {})}})
        model: Any = info.build()
        model.backbone.net.load_state_dict(state)
        return info, model
    weights = read_weights(source)
    wanted = {**info.options.get("backbone", {}), "features_only": True}
    options = {key: value for key, value in weights.options_for(backbone, wanted).items() if key != "features_only"}
    pixels = {**weights.pixels, **info.options.get("pixels", {})}
    info = replace(info, options={**info.options, "backbone": options, "pixels": pixels})
    model = info.build()
    weights.load_into(model.backbone)
    return info, model
