"""Every backbone and detector by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from vovnet.errors import UsageError, did_you_mean
from vovnet.models.backbones.densenet import DSODDenseNet
from vovnet.models.backbones.vovnet import TABLE_1, Pool, VoVNet
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.detectors.ssd import ANCHORS, SSD
from vovnet.models.layers import Init, Norm
from vovnet.models.preprocessing import Preprocessing


def _dsod300_vovnet27_slim(
    num_classes: int,
    *,
    anchors: str = "voc",
    norm: Norm = "batch",
    pool: Pool = "k3",
    init: Init = "xavier",
    _bottleneck: bool = False,
) -> SSD:
    backbone = VoVNet(
        TABLE_1["vovnet27_slim"], features_only=True, norm=norm, pool=pool, init=init, bottleneck=_bottleneck
    )
    levels = _choose(ANCHORS, anchors, "anchors")
    return SSD(backbone, backbone.channels[1:], (128, 128, 128), levels, num_classes, Preprocessing((300, 300)), init)


def _dsod300_densenet67(num_classes: int, *, anchors: str = "voc", init: Init = "xavier") -> SSD:
    backbone = DSODDenseNet(stem=64, bottleneck=64, growth=16, init=init)
    levels = _choose(ANCHORS, anchors, "anchors")
    return SSD(backbone, backbone.channels, (256, 128, 128, 128), levels, num_classes, Preprocessing((300, 300)), init)


BACKBONES: dict[str, Callable[..., nn.Module]] = {
    **{name: partial(VoVNet, variant) for name, variant in TABLE_1.items()},
    "dsod_densenet67": partial(DSODDenseNet, 64, 64, 16),
}
DETECTORS: dict[str, Callable[..., DetectionModel]] = {
    "dsod300_vovnet27_slim": _dsod300_vovnet27_slim,
    "dsod300_vovnet27_slim_bottleneck": partial(_dsod300_vovnet27_slim, _bottleneck=True),
    "dsod300_densenet67": _dsod300_densenet67,
}


def _choose(table: Mapping[str, Any], name: str, what: str) -> Any:
    if name in table:
        return table[name]
    raise UsageError(f"no {what} is called {name!r}{did_you_mean(name, table)} (there are: {', '.join(table)})")


def _build(builder: Callable[..., Any], name: str, *arguments: Any, **options: Any) -> Any:
    """Call a builder; an option that it lacks is a ValueError with the nearest one."""
    parameters = inspect.signature(builder).parameters
    known = {key: None for key, p in parameters.items() if p.kind is p.KEYWORD_ONLY and not key.startswith("_")}
    for option in options:
        _choose(known, option, f"option of {name}")
    return builder(*arguments, **options)


def create_backbone(name: str, **options: Any) -> nn.Module:
    """A backbone by name, for example "vovnet39"; options are those of its class (`VoVNet`)."""
    return _build(_choose(BACKBONES, name, "backbone"), name, **options)


def create_model(name: str, num_classes: int, **options: Any) -> DetectionModel:
    """A detector by name with the paper's settings, for example "dsod300_vovnet27_slim".

    num_classes: foreground classes. Options of DSOD300: `anchors` "voc" or "coco" (smaller boxes), `init`; with VoVNet
    also `norm` and `pool`, see `VoVNet`.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes counts foreground classes and must be at least 1, got {num_classes}")
    return _build(_choose(DETECTORS, name, "detector"), name, num_classes, **options)
