"""Every backbone and detector by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from vovnet.models.backbones.densenet import DSODDenseNet
from vovnet.models.backbones.vovnet import TABLE_1, VoVNet
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.detectors.ssd import ANCHORS, SSD
from vovnet.models.preprocessing import Preprocessing


def _dsod300_vovnet27_slim(num_classes: int, *, anchors: str = "voc", **backbone_options: Any) -> SSD:
    options = {"init": "xavier"} | backbone_options
    backbone = VoVNet(TABLE_1["vovnet27_slim"], features_only=True, **options)
    levels = _choose(ANCHORS, anchors, "anchors")
    return SSD(backbone, backbone.channels[1:], (128, 128, 128), levels, num_classes, Preprocessing((300, 300)))


def _dsod300_densenet67(num_classes: int, *, anchors: str = "voc") -> SSD:
    backbone = DSODDenseNet(stem=64, bottleneck=64, growth=16)
    levels = _choose(ANCHORS, anchors, "anchors")
    return SSD(backbone, backbone.channels, (256, 128, 128, 128), levels, num_classes, Preprocessing((300, 300)))


BACKBONES: dict[str, Callable[..., nn.Module]] = {
    **{name: partial(VoVNet, variant) for name, variant in TABLE_1.items()},
    "dsod_densenet67": partial(DSODDenseNet, 64, 64, 16),
}
DETECTORS: dict[str, Callable[..., DetectionModel]] = {
    "dsod300_vovnet27_slim": _dsod300_vovnet27_slim,
    "dsod300_vovnet27_slim_bottleneck": partial(_dsod300_vovnet27_slim, bottleneck=True),
    "dsod300_densenet67": _dsod300_densenet67,
}


def _choose(table: dict[str, Any], name: str, what: str) -> Any:
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=1)
    hint = f", did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"no {what} is called {name!r}{hint} (there are: {', '.join(table)})")


def create_backbone(name: str, **options: Any) -> nn.Module:
    """A backbone by name, for example "vovnet39"; options are those of its class (`VoVNet`)."""
    return _choose(BACKBONES, name, "backbone")(**options)


def create_model(name: str, num_classes: int, **options: Any) -> DetectionModel:
    """A detector by name with the paper's settings, for example "dsod300_vovnet27_slim".

    num_classes: foreground classes. Options of DSOD300: `anchors` "voc" or "coco", and the backbone's.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes counts foreground classes and must be at least 1, got {num_classes}")
    return _choose(DETECTORS, name, "detector")(num_classes, **options)
