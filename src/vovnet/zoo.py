"""Every backbone and detector by name: a table of each, and the functions that look a name up and build it.

A row of `SPECS` says everything about a detector that is not in the network itself: loss, masks, and which parameters
the optimizer treats differently. Training, evaluation and prediction ask the row, never the class.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import nn

from vovnet.errors import UsageError, choose, unknown_name
from vovnet.losses.mask_rcnn import MaskRCNNLoss
from vovnet.losses.multibox import MultiBoxLoss
from vovnet.losses.refinedet import RefineDetLoss
from vovnet.models.backbones.densenet import VARIANTS, DenseNet, DSODDenseNet
from vovnet.models.backbones.mobilenet import MobileNet
from vovnet.models.backbones.peleenet import PeleeNet
from vovnet.models.backbones.resnet import BLOCKS, ResNet
from vovnet.models.backbones.timm import TimmBackbone
from vovnet.models.backbones.vgg import VGG16
from vovnet.models.backbones.vovnet import NARROW, TABLE_1, VOVNET_V2, VoVNet
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.detectors.light_ssd import ANCHORS_LIGHT, ssdfpn320_vovnet19_tiny
from vovnet.models.detectors.mask_rcnn import biases_outside_norms, mask_rcnn
from vovnet.models.detectors.refinedet import ANCHORS as ANCHORS_REFINEDET
from vovnet.models.detectors.refinedet import predictor_biases, refinedet
from vovnet.models.detectors.ssd import (
    ANCHORS_DSOD,
    ANCHORS_MOBILENET,
    ANCHORS_PELEE,
    dsod300_densenet67,
    dsod300_vovnet27_slim,
    pelee304,
    ssd300_mobilenet,
)
from vovnet.names import DETECTORS, MASK_RCNN_BACKBONES, REFINEDET_BACKBONES
from vovnet.printing import line, quoted

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    **{name: partial(VoVNet, variant) for name, variant in TABLE_1.items()},
    **{name: partial(VoVNet, variant, stem="stride") for name, variant in NARROW.items()},
    **{name: partial(VoVNet, variant, stem="stride", identity=True, ese="all") for name, variant in VOVNET_V2.items()},
    **{name: partial(ResNet, blocks) for name, blocks in BLOCKS.items()},
    **{name: partial(DenseNet, variant) for name, variant in VARIANTS.items()},
    "dsod_densenet67": DSODDenseNet,
    "mobilenet": MobileNet,
    "peleenet": PeleeNet,
    "vgg16": VGG16,
}


@dataclass(frozen=True)
class DetectorSpec:
    """A detector, or a family of detectors that work on any backbone.

    build: the builder and its fixed arguments, the default boxes among them; its other keyword arguments are the
        options of `create_model`. A family's builder also takes `make_backbone`.
    loss: class of the training loss, see `make_loss`.
    masks: whether `decode` returns masks, and training needs them.
    fast_biases: model → parameters that learn at twice the rate and are never decayed.
    never_decayed: prefixes of parameter names; norms and biases under them are never decayed, even with `decay_norms`.
    backbones: the paper's backbones, for a family only. `vovnet list` shows them; all others work too.
    backbone_options: backbone name → options that it has in this family, unless `create_model` gets others.
    gn_suffix: whether the family also exists with group norm instead of frozen batch norm, as FAMILY_BACKBONE_gn.
    backbone: name of the backbone that can start from weights; of a family's detector, `find_detector` sets it.
    group_norm: whether a family's detector has group norm; set by `find_detector`.
    """

    build: partial[Any]
    loss: Callable[..., nn.Module]
    masks: bool = False
    fast_biases: Callable[[nn.Module], list[nn.Parameter]] = lambda model: []
    never_decayed: tuple[str, ...] = ()
    backbones: tuple[str, ...] = ()
    backbone_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gn_suffix: bool = False
    backbone: str | None = None
    group_norm: bool = False

    def make_loss(self, settings: Mapping[str, Any]) -> nn.Module:
        """(outputs, targets) → scalar losses by name.

        settings: arguments of `loss`. Those that this loss lacks are ignored; None stands for its own default.
        """
        arguments = inspect.signature(self.loss).parameters
        return self.loss(**{key: value for key, value in settings.items() if key in arguments and value is not None})


def _ssd(
    builder: Callable[..., Any],
    *,
    loss: Callable[..., nn.Module] = MultiBoxLoss,
    backbone: str | None = None,
    **fixed: Any,
) -> DetectorSpec:
    # Caffe's scripts decay neither norms nor biases of the heads. DSOD is made to start from random weights.
    return DetectorSpec(partial(builder, **fixed), loss, never_decayed=("heads.",), backbone=backbone)


def _refinedet(side: int) -> DetectorSpec:
    build = partial(refinedet, image_size=(side, side), default_boxes=ANCHORS_REFINEDET)
    return DetectorSpec(build, RefineDetLoss, fast_biases=predictor_biases, backbones=REFINEDET_BACKBONES)


def _mask_rcnn(*, masks: bool) -> DetectorSpec:
    # In Table 5's networks the stride is in the 3×3 convolutions; the authors' VoVNet code also adds the identity.
    vovnets = {name: {"stem": "stride", "identity": True} for name in TABLE_1}
    resnets = {name: {"style": "torchvision"} for name in BLOCKS}
    return DetectorSpec(
        partial(mask_rcnn, masks=masks),
        MaskRCNNLoss,
        masks=masks,
        fast_biases=biases_outside_norms,
        backbones=MASK_RCNN_BACKBONES,
        backbone_options={**vovnets, **resnets},
        gn_suffix=True,
    )


SPECS = {
    "dsod300_vovnet27_slim": _ssd(dsod300_vovnet27_slim, default_boxes=ANCHORS_DSOD, bottleneck=False),
    "dsod300_vovnet27_slim_bottleneck": _ssd(dsod300_vovnet27_slim, default_boxes=ANCHORS_DSOD, bottleneck=True),
    "dsod300_densenet67": _ssd(dsod300_densenet67, default_boxes=ANCHORS_DSOD),
    "ssd300_mobilenet": _ssd(ssd300_mobilenet, backbone="mobilenet", default_boxes=ANCHORS_MOBILENET),
    "pelee304": _ssd(pelee304, backbone="peleenet", default_boxes=ANCHORS_PELEE),
    "ssdfpn320_vovnet19_tiny": _ssd(
        ssdfpn320_vovnet19_tiny, loss=partial(MultiBoxLoss, iou_targets=True), default_boxes=ANCHORS_LIGHT
    ),
    "refinedet320": _refinedet(320),
    "refinedet512": _refinedet(512),
    "maskrcnn": _mask_rcnn(masks=True),
    "fasterrcnn": _mask_rcnn(masks=False),
}


def create_backbone(name: str, **options: Any) -> nn.Module:
    """A backbone by name with random weights, for example "vovnet39" or "timm/convnext_tiny".

    With features_only=True it returns its feature maps, finest first; its attributes `feature_names`, `strides` and
    `channels` describe them. The other options are the keyword arguments of its class (`VoVNet`).

    The options may come from a stranger's file: none of them reads or fetches anything.
    """
    if name.startswith("timm/"):
        return _build(partial(TimmBackbone, name.removeprefix("timm/")), name, options)
    return _build(choose(BACKBONES, name, "backbone"), name, options)


def create_model(name: str, num_classes: int, **options: Any) -> DetectionModel:
    """A detector by name with the paper's settings, for example "dsod300_vovnet27_slim".

    RefineDet and Mask R-CNN work on any backbone, also on timm's networks with feature maps of strides 8, 16 and 32
    (Mask R-CNN: 4 too): "refinedet320_timm/convnext_tiny", "maskrcnn_timm/resnet50".

    num_classes: foreground classes.
    options: of the detector's builder, which explains them:
        DSOD300 (`ssd.dsod300_vovnet27_slim`): anchors ("voc", or "coco" with smaller boxes), init, pixels (a
            dictionary, as in `refinedet.refinedet`); on VoVNet norm, pool
        SSD300-MobileNet, Pelee304: anchors, init, pixels
        SSD-FPN320 (`light_ssd.ssdfpn320_vovnet19_tiny`): anchors, pixels
        RefineDet (`refinedet.refinedet`): anchors, backbone (a dictionary of its options), pixels, width
        Mask R-CNN, Faster R-CNN (`mask_rcnn.mask_rcnn`): backbone, pixels, image_size, rois, anchors

    Raises UsageError for an unknown name or option, with the nearest one.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes counts foreground classes and must be at least 1, got {num_classes}")
    build = find_detector(name).build
    return _build(build, name, options, num_classes, fixed=build.keywords)


def find_detector(name: str) -> DetectorSpec:
    """The row of a detector; for a member of a family, completed with its backbone.

    Raises UsageError with the nearest name.
    """
    if name in SPECS and not SPECS[name].backbones:
        return SPECS[name]
    family, _, backbone = name.partition("_")
    spec = SPECS.get(family)
    if spec is None or not spec.backbones:
        raise unknown_name("detector", name, DETECTORS)
    # Some of timm's own names end in "_gn".
    group_norm = spec.gn_suffix and backbone.endswith("_gn") and not backbone.startswith("timm/")
    backbone = backbone.removesuffix("_gn") if group_norm else backbone
    if backbone not in BACKBONES and not backbone.startswith("timm/"):
        raise unknown_name("detector", name, DETECTORS)
    arguments: dict[str, Any] = {"group_norm": group_norm} if spec.gn_suffix else {}
    arguments["make_backbone"] = partial(create_backbone, backbone, **spec.backbone_options.get(backbone, {}))
    return replace(spec, build=partial(spec.build, **arguments), backbone=backbone, group_norm=group_norm)


def is_detector(name: str) -> bool:
    """Whether `create_model` knows the name."""
    try:
        find_detector(name)
    except UsageError:
        return False
    return True


def _build(
    builder: Callable[..., Any], name: str, options: Mapping[str, Any], *arguments: Any, fixed: Collection[str] = ()
) -> Any:
    """Call a builder with the user's options; UsageError with the nearest one if it has no such keyword argument.

    fixed: keyword arguments that the user may not set.
    """
    parameters = inspect.signature(builder).parameters
    keywords = {key: p for key, p in parameters.items() if p.kind is p.KEYWORD_ONLY and key not in fixed}
    for option, value in options.items():
        hint = str(choose(keywords, option, f"option of {name}").annotation)
        expected, right = _OPTION_TYPES.get(hint, ("", lambda value: True))
        if not right(value):
            raise UsageError(f"{option} must be {expected}, got {quoted(value)} (an option of {line(name)})")
    return builder(*arguments, **options)


# By the annotations of the builders; what else they take, the builders check.
_OPTION_TYPES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "int": ("a whole number from 1 to 65,536", lambda value: type(value) is int and 1 <= value <= 2**16),
    "Mapping[str, Any] | None": (
        "a section with keys and values",
        lambda value: isinstance(value, Mapping | None) and all(isinstance(key, str) for key in value or ()),
    ),
}
