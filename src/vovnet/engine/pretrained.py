"""A detector whose backbone starts from weights of another source."""

from __future__ import annotations

from dataclasses import replace

from vovnet.engine.checkpoint import ModelInfo
from vovnet.errors import UsageError
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.detectors.mask_rcnn import MaskRCNN
from vovnet.models.detectors.refinedet import RefineDet
from vovnet.models.weights import read_weights
from vovnet.models.zoo import MASK_RCNN, REFINEDET


def build_pretrained(info: ModelInfo, source: str) -> tuple[ModelInfo, DetectionModel]:
    """The detector with the backbone weights of `source`, and `info` with what they presuppose.

    All of it is trainable, but for the statistics and weights of norms where the detector freezes them (Mask R-CNN and
    Faster R-CNN, unless their option backbone={"norm": "batch"} says otherwise).

    source: see `vovnet.models.weights.read_weights`. The backbone's options and the images' normalisation become those
    of the weights, so that the detector's own files need no `source` any more; `info`'s own normalisation goes first.

    Raises as `read_weights` does, and ValueError where the weights are of another backbone or contradict its options.
    """
    detector, _, backbone = info.name.partition("_")
    if detector not in REFINEDET | MASK_RCNN or backbone.endswith("_gn"):
        raise UsageError(
            "backbone_weights is for RefineDet, Mask R-CNN and Faster R-CNN on a VoVNet, such as refinedet320_vovnet39 "
            f"and maskrcnn_vovnet39, got {info.name}"
        )
    weights = read_weights(source)
    wanted = {**info.options.get("backbone", {}), "features_only": True}
    options = {key: value for key, value in weights.options_for(backbone, wanted).items() if key != "features_only"}
    pixels = {**weights.pixels, **info.options.get("pixels", {})}
    info = replace(info, options={**info.options, "backbone": options, "pixels": pixels})
    model = info.build()
    assert isinstance(model, RefineDet | MaskRCNN)
    weights.load_into(model.backbone)
    return info, model
