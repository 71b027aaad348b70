"""The names of a VoVNet's parts in the checkpoints of other sources, and what they say about the network."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vovnet.models.backbones.vovnet import LAYERS_PER_MODULE, TABLE_1, VOVNET_V2
from vovnet.weights.scheme import IMAGENET_RGB, Rules, Scheme, letter, renamed

# Rules turn one of our names into one of the source's, see `Rules`. Ours count from 0.


def _osa(stage: int, module: int) -> str:
    return f"OSA{stage + 2}_{module + 1}"


# VoVNet.pytorch, VoVNet-Detectron, vovnet-detectron2: "stage4.OSA4_1.layers.0.OSA4_1_0/conv.weight"
_OSA: Rules = (
    (r"^head\.", "classifier."),
    (r"\.depthwise\.", ".dw_conv3x3."),
    (r"\.pointwise\.conv\.", ".pw_conv1x1."),
    (r"\.pointwise\.norm\.", ".pw_norm."),
    (r"^stem\.(\d)\.", lambda i: f"stem.stem_{i + 1}/"),
    (r"^stages\.(\d)\.(\d)\.layers\.(\d)\.", lambda s, m, i: f"stage{s + 2}.{_osa(s, m)}.layers.{i}.{_osa(s, m)}_{i}/"),
    (r"^stages\.(\d)\.(\d)\.concat\.", lambda s, m: f"stage{s + 2}.{_osa(s, m)}.concat.{_osa(s, m)}_concat/"),
    (
        r"^stages\.(\d)\.(\d)\.reduction\.",
        lambda s, m: f"stage{s + 2}.{_osa(s, m)}.conv_reduction.{_osa(s, m)}_reduction_0/",
    ),
    (r"^stages\.(\d)\.(\d)\.ese\.", lambda s, m: f"stage{s + 2}.{_osa(s, m)}.ese."),
)

# timm: "stages.2.blocks.0.conv_mid.0.conv.weight"
_TIMM: Rules = (
    (r"^head\.", "head.fc."),
    (r"\.depthwise\.", ".conv_dw."),
    (r"\.pointwise\.conv\.", ".conv_pw."),
    (r"\.pointwise\.norm\.", ".bn."),
    (r"\.norm\.", ".bn."),
    (r"^(stages\.\d)\.", r"\1.blocks."),
    (r"\.layers\.", ".conv_mid."),
    (r"\.concat\.", ".conv_concat."),
    (r"\.reduction\.", ".conv_reduction."),
    (r"\.ese\.", ".attn."),
)


# pytorchcv: "features.stage3.unit1.branches.branch5.bn.weight"
_PYTORCHCV: Rules = (
    (r"^head\.", "output."),
    (r"\.norm\.", ".bn."),
    (r"^stem\.(\d)\.", lambda i: f"features.init_block.conv{i + 1}."),
    (
        r"^stages\.(\d)\.(\d)\.layers\.(\d)\.",
        lambda s, m, i: f"features.stage{s + 1}.unit{m + 1}.branches.branch{i + 1}.",
    ),
    (r"^stages\.(\d)\.(\d)\.concat\.", lambda s, m: f"features.stage{s + 1}.unit{m + 1}.concat_conv."),
)

# Caffe: "DiverseBlock4a/conv.0", the name of a layer and the number of one of its blobs. The third blob of a BatchNorm
# is a factor by which mean and variance must be divided; it stands where we have the step counter.
_CAFFE: Rules = (
    (r"^head\.weight", "fc1000.0"),
    (r"^head\.bias", "fc1000.1"),
    (r"\.conv\.weight", "/conv.0"),
    (r"\.norm\.running_mean", "/bn.0"),
    (r"\.norm\.running_var", "/bn.1"),
    (r"\.norm\.num_batches_tracked", "/bn.2"),
    (r"\.norm\.weight", "/scale.0"),
    (r"\.norm\.bias", "/scale.1"),
    (r"^stem\.(\d)", lambda i: f"stem{i + 1}"),
    (
        r"^stages\.(\d)\.(\d)\.layers\.(\d)",
        lambda s, m, i: f"DiverseBlock{s + 2}{letter(LAYERS_PER_MODULE * m + i)}",
    ),
    (r"^stages\.([01])\.0\.concat", lambda s: f"Transition{s + 2}"),
    (r"^stages\.(\d)\.(\d)\.concat", lambda s, m: f"Transition{s + 2}{letter(m).upper()}"),
)

# maskrcnn-benchmark's names of the parts after the backbone (ours are torchvision's), for a model with group norm:
# "roi_heads.mask.feature_extractor.mask_fcn1.0.weight".
_HEADS: Rules = (
    (r"^fpn\.inner_blocks\.(\d)\.", lambda i: f"backbone.fpn.fpn_inner{i + 1}."),
    (r"^fpn\.layer_blocks\.(\d)\.", lambda i: f"backbone.fpn.fpn_layer{i + 1}."),
    (r"^rpn\.head\.conv\.0\.0\.", "rpn.head.conv."),
    (
        r"^roi_heads\.box_head\.(\d)\.([01])\.",
        lambda i, part: f"roi_heads.box.feature_extractor.xconvs.{3 * i + part}.",  # convolution, norm, ReLU
    ),
    (r"^roi_heads\.box_head\.5\.", "roi_heads.box.feature_extractor.fc6."),
    (r"^roi_heads\.box_head\.", "roi_heads.box.feature_extractor."),
    (r"^roi_heads\.box_predictor\.", "roi_heads.box.predictor."),
    (r"^roi_heads\.mask_head\.(\d)\.", lambda i: f"roi_heads.mask.feature_extractor.mask_fcn{i + 1}."),
    (r"^roi_heads\.mask_predictor\.", "roi_heads.mask.predictor."),
)
# In a model without norms in its heads a convolution has no number: "roi_heads.mask.feature_extractor.mask_fcn1.weight"
_PLAIN_HEADS: Rules = ((r"^(fpn\.\w+_blocks\.\d|roi_heads\.mask_head\.\d)\.0\.", r"\1."), *_HEADS)

_HALF_RGB = {"mean": (127.5, 127.5, 127.5), "std": (127.5, 127.5, 127.5), "channel_order": "RGB"}
_BENCHMARK_BGR = {"mean": (102.9801, 115.9465, 122.7717), "std": (1.0, 1.0, 1.0), "channel_order": "BGR"}
_DETECTRON2_BGR = {"mean": (103.53, 116.28, 123.675), "std": (1.0, 1.0, 1.0), "channel_order": "BGR"}
_CAFFE_BGR = {"mean": (104.0, 117.0, 123.0), "std": (1.0, 1.0, 1.0), "channel_order": "BGR"}


SOURCES = ("VoVNet.pytorch", "VoVNet-Detectron", "vovnet-detectron2", "timm", "pytorchcv", "Caffe")
_PYTORCH, _BENCHMARK, _DETECTRON2, _FROM_TIMM, _FROM_PYTORCHCV, _FROM_CAFFE = SOURCES
_V1 = {"stem": "stride", "identity": True, "ese": "none", "norm": "batch"}


def recognise(names: Iterable[str]) -> Scheme | None:
    """The naming scheme of a file, None if it is unknown."""
    names = list(names)
    for name in names:
        if match := re.match(r"((?:module\.)?(?:backbone\.(body|bottom_up)\.)?)(?:stem\.stem_\d/|stage\d\.OSA)", name):
            return _osa_scheme(match[1], match[2], names)
        if re.match(r"stages\.\d\.blocks\.\d+\.conv_", name):
            return _timm_scheme(names)
        if re.match(r"features\.stage\d\.unit\d\.branches\.branch\d\.conv\.weight$", name):
            return Scheme(_FROM_PYTORCHCV, tuple(TABLE_1), _PYTORCHCV, _V1, IMAGENET_RGB, frozen_eps=1e-5)
        if re.match(r"(stem\d/|DiverseBlock\d|Transition\d)", name):
            options = {**_V1, "stem": "pool", "identity": False}
            return Scheme(_FROM_CAFFE, tuple(TABLE_1), _CAFFE, options, _CAFFE_BGR, counter_divides=True)
    return None


def _osa_scheme(prefix: str, detector_part: str | None, names: list[str]) -> Scheme:
    if detector_part == "bottom_up" or (detector_part is None and any(".ese." in name for name in names)):
        options = {**_V1, "ese": "all"}
        return Scheme(_DETECTRON2, tuple(VOVNET_V2), _OSA, options, _DETECTRON2_BGR, prefix, frozen_eps=1e-5)
    # Only files of the classification code have a classifier or step counters in their norms.
    if detector_part is None and any(re.search(r"(num_batches_tracked|classifier\.\w+)$", name) for name in names):
        return Scheme(_PYTORCH, tuple(TABLE_1), _OSA, _V1, IMAGENET_RGB, prefix, frozen_eps=1e-5)
    options = {**_V1, "norm": "batch" if any(name.endswith("running_mean") for name in names) else "group"}
    return Scheme(_BENCHMARK, tuple(TABLE_1), _OSA, options, _BENCHMARK_BGR, prefix, frozen_eps=0.0)


def _timm_scheme(names: list[str]) -> Scheme:
    if not any(".attn." in name for name in names):
        return Scheme(_FROM_TIMM, tuple(TABLE_1), _TIMM, {**_V1, "identity": False}, IMAGENET_RGB, frozen_eps=1e-5)
    pixels_of = {"vovnet57_ese": _HALF_RGB}
    options = {**_V1, "ese": "last"}
    return Scheme(_FROM_TIMM, tuple(VOVNET_V2), _TIMM, options, IMAGENET_RGB, pixels_of=pixels_of, frozen_eps=1e-5)


def holds_detector(names: Iterable[str]) -> bool:
    """Whether the names are those of a whole Faster R-CNN or Mask R-CNN of VoVNet-Detectron."""
    names = list(names)
    scheme = recognise(names)
    return scheme is not None and scheme.title == _BENCHMARK and any("roi_heads.box." in name for name in names)


def head_name_in_file(ours: str, group_norm: bool) -> str:
    """VoVNet-Detectron's name of one of our parameters after the backbone."""
    return renamed(ours, _HEADS if group_norm else _PLAIN_HEADS)
