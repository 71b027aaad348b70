"""Weights of backbones, and the backbones and detectors that start from them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vovnet.errors import UsageError
from vovnet.models.backbones.timm import import_timm
from vovnet.models.detectors.contract import DetectionModel
from vovnet.printing import line
from vovnet.urls import is_hub_name
from vovnet.weights.detector import ModelInfo
from vovnet.weights.file import (
    BACKBONE_FORMAT,
    DETECTOR_FORMAT,
    SUFFIXES,
    check_shapes,
    first_three,
    has_values,
    problem,
    shapes_of,
    suffix_of,
    write_safetensors,
)
from vovnet.weights.find import read_source
from vovnet.weights.metadata import BackboneFile, damaged_metadata, refused_options, validated
from vovnet.weights.translate import ADAPTABLE, BackboneWeights, classes_in, head_names, shapes_of_variant, translate
from vovnet.zoo import create_backbone as build_backbone
from vovnet.zoo import find_detector

_LOG = logging.getLogger("vovnet")


def create_backbone(name: str, *, weights: str | Path | None = None, **options: Any) -> nn.Module:
    """A backbone by name, for example "vovnet39" or "timm/convnext_tiny".

    With features_only=True it returns its feature maps, finest first; `feature_names`, `strides` and `channels`
    describe them.

    weights: see `read_weights`; None for random ones. They set the options that they require (such as stem, identity,
        ese, style, num_classes) and the attribute `pixels`, which says how to normalise the images.
    options: those of the backbone's class, for example `VoVNet`.
    """
    if weights is None:
        return build_backbone(name, **options)
    backbone_weights = read_weights(weights)
    backbone = build_backbone(name, **backbone_weights.options_for(name, options))
    backbone_weights.load_into(backbone)
    return backbone


def read_weights(source: str | Path) -> BackboneWeights:
    """The weights of a VoVNet, ResNet, DenseNet, PeleeNet or MobileNet from a file, a URL or by name.

    A name is "hf:owner/name" on the hub, or one of `BACKBONES_TO_DOWNLOAD`, such as "timm/ese_vovnet39b.ra_in1k",
    "torchvision/resnet50" and "pytorchcv/vovnet39". A file is one that `import_weights` wrote or one that it can read.
    Raises FileNotFoundError, OSError if a download fails, or ValueError if the file is damaged or holds none of these
    networks.
    """
    _, tensors, metadata = read_source(source)
    if metadata.get("format") == BACKBONE_FORMAT:
        return _from_own_file(tensors, metadata, str(source))
    if metadata.get("format") == DETECTOR_FORMAT:
        raise problem(
            source,
            f"holds a whole detector ({line(str(metadata.get('model')))}), expected weights of a backbone; training "
            f"starts from a whole detector with weights={line(str(source))} backbone_weights=null",
        )
    return translate(tensors, str(source))


def save_backbone(path: Path, weights: BackboneWeights, origin: Mapping[str, str]) -> None:
    """Write weights as a safetensors file for `read_weights`. origin: further entries of its metadata."""
    metadata = {
        "format": BACKBONE_FORMAT,
        "model": weights.model,
        "model_options": json.dumps(dict(weights.options)),
        "pixels": json.dumps(dict(weights.pixels)),
        **origin,
    }
    write_safetensors(path, weights.state, metadata)


def _from_own_file(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], source: str) -> BackboneWeights:
    stated = validated(BackboneFile, metadata, lambda reason: damaged_metadata(source, reason))
    head = [tensors[name] for name in head_names(stated.name) if name in tensors]
    with refused_options(source):
        expected = shapes_of_variant(stated.name, stated.options, classes_in(head))
    check_shapes(shapes_of(tensors), expected, f"{line(source, 200)} is not a complete {stated.name}")
    if incomplete := [name for name, tensor in tensors.items() if not has_values(tensor)]:
        raise problem(source, f"must hold a dense tensor of real numbers under {first_three(incomplete)}")
    return BackboneWeights(source, stated.name, stated.options, stated.pixels.model_dump(), tensors)


def build_pretrained(info: ModelInfo, source: str) -> tuple[ModelInfo, DetectionModel]:
    """The detector whose backbone has the weights of `source`, and `info` with the options that they require.

    With this `info`, the detector's own files need `source` no more. A normalisation of the images in `info` takes
    precedence over that of the weights, and so do the options `ADAPTABLE` of the backbone: a warning then says what the
    weights were trained with. All parameters are trainable, except frozen norms (Mask R-CNN and Faster R-CNN without
    the option backbone={"norm": "batch"}).

    source: see `read_weights`, or `read_timm_weights` for a network of timm.

    Raises as these do, and ValueError if the weights are of another backbone or contradict its options.
    """
    spec = find_detector(info.name)
    if spec.backbone is None or spec.group_norm:
        raise UsageError(
            "backbone_weights is for RefineDet, Mask R-CNN and Faster R-CNN on a VoVNet, ResNet, DenseNet or a network "
            "of timm, such as refinedet320_vovnet39 and maskrcnn_timm/resnet50, and for pelee304 and ssd300_mobilenet, "
            f"got {info.name}; backbone_weights=null starts it from random weights, as it is meant to be"
        )
    try:
        if spec.backbone.startswith("timm/"):
            return _build_on_timm(info, spec.backbone.removeprefix("timm/"), source)
        return _build_on_ours(info, spec.backbone, read_weights(source))
    except OSError as error:  # not there, or not to be downloaded
        is_file = suffix_of(source) in SUFFIXES and not is_hub_name(source)
        absent = isinstance(error, FileNotFoundError) and is_file
        problem = f"{source} is neither a weights file nor the name of weights" if absent else str(error)
        raise type(error)(
            f"{problem}; the config's header or docs/weights.md says where to get weights, and backbone_weights=null "
            "starts from random ones"
        ) from error


def _build_on_timm(info: ModelInfo, backbone: str, source: str) -> tuple[ModelInfo, DetectionModel]:
    state, pixels = read_timm_weights(backbone, source)
    info = replace(info, options={**info.options, "pixels": {**pixels, **info.options.get("pixels", {})}})
    model: Any = info.build()
    model.backbone.net.load_state_dict(state)
    return info, model


def _build_on_ours(info: ModelInfo, backbone: str, weights: BackboneWeights) -> tuple[ModelInfo, DetectionModel]:
    wanted = {**info.options.get("backbone", {}), "features_only": True}
    options = weights.options_for(backbone, wanted, adapt=True)
    del options["features_only"]
    pixels = {**weights.pixels, **info.options.get("pixels", {})}
    info = replace(info, options={**info.options, **({"backbone": options} if options else {}), "pixels": pixels})
    model: Any = info.build()
    random, unused = weights.load_into(model.backbone)
    adapted = sorted(option for option in ADAPTABLE if options.get(option) != weights.options.get(option))
    if adapted:
        _LOG.warning(
            "%s was trained with %s, and this backbone has %s: its features differ until training has adapted them; "
            "tensors that stay random: %s; tensors of the file that are not used: %s",
            weights.source,
            _assignments(adapted, weights.options),
            _assignments(adapted, options),
            first_three(random),
            first_three(unused),
        )
    return info, model


def _assignments(names: Sequence[str], options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={options[name]!r}" for name in names)


def read_timm_weights(name: str, source: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights for `TimmBackbone(name).net`, and the mean, std (0–255 scale) and channel order of their images.

    source: a file or URL of weights under timm's names, or a name on the hub such as "timm/resnet50.a1_in1k". A file
        does not say how its images were normalised: the default of the network is assumed.

    Raises ValueError if tensors are missing, unexpected or of wrong shape, else as `read_weights`.
    """
    timm = import_timm(name)
    on_hub = tuple(f"timm/{tagged}" for tagged in timm.list_pretrained(f"{name}.*"))
    _, tensors, _ = read_source(source, on_hub)
    tagged = str(source).removeprefix("timm/") if source in on_hub else name
    try:
        # For a network without its classifier timm ignores missing and unexpected tensors, so build it with one first.
        for features_only in (False, True):
            overlay = {"state_dict": dict(tensors)}  # a copy, because timm takes the classifier out
            net = timm.create_model(
                tagged, pretrained=True, features_only=features_only, pretrained_cfg_overlay=overlay
            )
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{source} does not hold the weights of timm/{name}: {reason}") from error
    pixels = {key: tuple(255 * value for value in net.pretrained_cfg[key]) for key in ("mean", "std")}
    return net.state_dict(), {**pixels, "channel_order": "RGB"}
