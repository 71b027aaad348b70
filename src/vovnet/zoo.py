"""Every backbone and detector by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from torch import nn

from vovnet.errors import UsageError, did_you_mean
from vovnet.models.backbones.densenet import VARIANTS, DenseNet, DSODDenseNet
from vovnet.models.backbones.mobilenet import MobileNet
from vovnet.models.backbones.peleenet import PeleeNet
from vovnet.models.backbones.resnet import BLOCKS, ResNet
from vovnet.models.backbones.timm import TimmBackbone
from vovnet.models.backbones.vgg import VGG16
from vovnet.models.backbones.vovnet import TABLE_1, VOVNET_V2, Pool, VoVNet
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.detectors.mask_rcnn import Anchors, MaskRCNN
from vovnet.models.detectors.refinedet import RefineDet, SixthOfVGG
from vovnet.models.detectors.ssd import ANCHORS, SSD, dsod300, pelee304, ssd300_mobilenet
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
    return dsod300(backbone, backbone.channels[1:], (128, 128, 128), levels, num_classes, init)


def _dsod300_densenet67(num_classes: int, *, anchors: str = "voc", init: Init = "xavier") -> SSD:
    backbone = DSODDenseNet(stem=64, bottleneck=64, growth=16, init=init)
    levels = _choose(ANCHORS, anchors, "anchors")
    return dsod300(backbone, backbone.channels, (256, 128, 128, 128), levels, num_classes, init)


def _ssd300_mobilenet(num_classes: int, *, init: Init = "kaiming") -> SSD:
    backbone = MobileNet(features_only=True, init=init)
    return ssd300_mobilenet(backbone, backbone.channels[-2:], num_classes, init)


def _pelee304(num_classes: int, *, init: Init = "xavier") -> SSD:
    backbone = PeleeNet(features_only=True, init=init)
    return pelee304(backbone, backbone.channels[-2:], num_classes, init)


def _refinedet(
    image_size: int,
    name: str,
    num_classes: int,
    *,
    backbone: Mapping[str, Any] | None = None,
    pixels: Mapping[str, Any] | None = None,
    width: int = 256,
) -> RefineDet:
    net: Any = create_backbone(name, **{**(backbone or {}), "features_only": True})
    sources = net.channels[-3:]
    plain = isinstance(net, VGG16)
    return RefineDet(
        net,
        sources,
        num_classes,
        Preprocessing((image_size, image_size), **(pixels or {})),
        sixth=SixthOfVGG(sources[-1]) if plain else None,
        residual=not plain,
        width=width,
    )


# Of maskrcnn-benchmark and Detectron.
CAFFE2_PIXELS: dict[str, Any] = {"mean": (102.9801, 115.9465, 122.7717)}


# In Table 5's networks the strides stand in 3×3 convolutions.
RCNN_OPTIONS: dict[str, dict[str, Any]] = {
    **{name: {"stem": "stride", "identity": True} for name in TABLE_1},
    **{name: {"style": "torchvision"} for name in BLOCKS},
}


def _mask_rcnn(
    name: str,
    masks: bool,
    group_norm: bool,
    num_classes: int,
    *,
    backbone: Mapping[str, Any] | None = None,
    pixels: Mapping[str, Any] | None = None,
    image_size: tuple[int, int] = (800, 1333),
    rois: int = 512,
    anchors: Anchors = "torchvision",
) -> MaskRCNN:
    defaults = {"norm": "group" if group_norm else "frozen", **RCNN_OPTIONS.get(name, {})}
    net: Any = create_backbone(name, **{**defaults, **(backbone or {}), "features_only": True})
    short, long = image_size
    preprocessing = Preprocessing((short, long), **{**CAFFE2_PIXELS, **(pixels or {})}, keep_ratio=True)
    return MaskRCNN(
        net, net.channels, num_classes, preprocessing, group_norm=group_norm, masks=masks, rois=rois, anchors=anchors
    )


BACKBONES: dict[str, Callable[..., nn.Module]] = {
    **{name: partial(VoVNet, variant) for name, variant in TABLE_1.items()},
    **{name: partial(VoVNet, variant, stem="stride", identity=True, ese="all") for name, variant in VOVNET_V2.items()},
    **{name: partial(ResNet, blocks) for name, blocks in BLOCKS.items()},
    **{name: partial(DenseNet, variant) for name, variant in VARIANTS.items()},
    "dsod_densenet67": partial(DSODDenseNet, 64, 64, 16),
    "mobilenet": MobileNet,
    "peleenet": PeleeNet,
    "vgg16": VGG16,
}
SSDS: dict[str, Callable[..., DetectionModel]] = {
    "dsod300_vovnet27_slim": _dsod300_vovnet27_slim,
    "dsod300_vovnet27_slim_bottleneck": partial(_dsod300_vovnet27_slim, _bottleneck=True),
    "dsod300_densenet67": _dsod300_densenet67,
    "ssd300_mobilenet": _ssd300_mobilenet,
    "pelee304": _pelee304,
}
REFINEDET = {"refinedet320": 320, "refinedet512": 512}
REFINEDET_BACKBONES = (
    "vovnet27_slim",
    "vovnet39",
    "vovnet57",
    "resnet50",
    "resnet101",
    "densenet201",
    "densenet161",
    "vgg16",
)
MASK_RCNN = {"maskrcnn": True, "fasterrcnn": False}  # whether it draws masks
MASK_RCNN_BACKBONES = ("vovnet27_slim", "vovnet39", "vovnet57", "resnet50", "resnet101")


def _on_a_backbone(name: str) -> Callable[..., DetectionModel] | None:
    """The builder of "refinedet320_BACKBONE" or "maskrcnn_BACKBONE_gn", with any backbone, also timm's; else None."""
    detector, _, backbone = name.partition("_")
    # Some of timm's networks are called so themselves, and have such norms.
    plain = backbone if backbone.startswith("timm/") else backbone.removesuffix("_gn")
    if detector in REFINEDET and _is_backbone(backbone):
        return partial(_refinedet, REFINEDET[detector], backbone)
    if detector in MASK_RCNN and _is_backbone(plain):
        return partial(_mask_rcnn, plain, MASK_RCNN[detector], plain != backbone)
    return None


def _is_backbone(name: str) -> bool:
    return name in BACKBONES or name.startswith("timm/")


# Of the paper, and those with frozen norms; RefineDet and Mask R-CNN go on every other backbone too.
DETECTORS = (
    *SSDS,
    *(f"{size}_{name}" for size in REFINEDET for name in REFINEDET_BACKBONES),
    *(f"{kind}_{name}{gn}" for kind in MASK_RCNN for name in MASK_RCNN_BACKBONES for gn in ("_gn", "")),
)


def is_detector(name: str) -> bool:
    """Whether `create_model` knows the name."""
    return name in SSDS or _on_a_backbone(name) is not None


def gives_masks(name: str) -> bool:
    """Whether the detector of this name gives masks, and learns from them."""
    return MASK_RCNN.get(name.partition("_")[0], False)


def _choose(table: Mapping[str, Any], name: str, what: str) -> Any:
    if name in table:
        return table[name]
    raise _unknown(what, name, table)


def _unknown(what: str, name: str, known: Iterable[str]) -> UsageError:
    near = did_you_mean(name, known)
    return UsageError(f"no {what} is called {name!r}" + (near or f" (there are: {', '.join(known)})"))


def _build(builder: Callable[..., Any], name: str, *arguments: Any, **options: Any) -> Any:
    """Call a builder; an option that it lacks is a ValueError with the nearest one."""
    parameters = inspect.signature(builder).parameters
    known = {key: None for key, p in parameters.items() if p.kind is p.KEYWORD_ONLY and not key.startswith("_")}
    for option in options:
        _choose(known, option, f"option of {name}")
    return builder(*arguments, **options)


def create_backbone(name: str, **options: Any) -> nn.Module:
    """A backbone with random weights. A detector's options, which a file may state, go no further than this: none of
    them fetches or reads anything."""
    if name.startswith("timm/"):
        return _build(partial(TimmBackbone, name.removeprefix("timm/")), name, **options)
    return _build(_choose(BACKBONES, name, "backbone"), name, **options)


def create_model(name: str, num_classes: int, **options: Any) -> DetectionModel:
    """A detector by name with the paper's settings, for example "dsod300_vovnet27_slim".

    RefineDet and Mask R-CNN go on any backbone, and on timm's networks with maps of strides 8, 16 and 32 (Mask R-CNN: 4
    too): "refinedet320_timm/convnext_tiny", "maskrcnn_timm/resnet50".

    num_classes: foreground classes. Options of DSOD300: `anchors` "voc" or "coco" (smaller boxes), `init`; with VoVNet
    also `norm` and `pool`, see `VoVNet`. Of RefineDet: `backbone`, a dictionary of the backbone's options; `pixels`, a
    dictionary of `Preprocessing`'s mean, std and channel_order, where the backbone's weights need others; `width`. Of
    Mask R-CNN and Faster R-CNN: `backbone`, `pixels`, `rois`, see `MaskRCNN`, and `image_size`, the shorter side and
    the most of the longer one.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes counts foreground classes and must be at least 1, got {num_classes}")
    builder = _on_a_backbone(name) or SSDS.get(name)
    if builder is None:
        raise _unknown("detector", name, DETECTORS)
    return _build(builder, name, num_classes, **options)
