"""Checkpoints of other sources, whole detectors too, as files of ours.

A Faster R-CNN or Mask R-CNN of VoVNet-Detectron, which is maskrcnn-benchmark with VoVNets, has the same layers as ours,
so that its weights are renamed and nothing else: both have the background first among the classes, the same order of
deltas (dx, dy, dw, dh, each class's four together) and of anchors (height to width 0.5, 1, 2), weights 10, 10, 5, 5 of
the box code, and RoIAlign without an offset of half a pixel. These things differ:

- There a box ends with its last pixel (x2 = x1 + width − 1, `TO_REMOVE = 1`), here after it. The box code, areas and
  IoU count that pixel, so the same weights give the same boxes, one larger in x2 and y2 as numbers. Only RoIAlign takes
  the corners as they are, and so looks there at a region that is one pixel of the input shorter.
- Its anchors, see `detectron_anchors`; the imported detector has the same.
- Its frozen norms add nothing to the variance; ours do, and their weights make up for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vovnet.models.anchors import detectron_anchors
from vovnet.models.detectors.mask_rcnn import ANCHOR_RATIOS, ANCHOR_SIZES, STRIDES
from vovnet.weights.backbone import ForeignFile, ImportReport, import_backbone, read_foreign, safetensors_path
from vovnet.weights.checkpoint import ModelInfo, save_weights
from vovnet.weights.names import holds_detector
from vovnet.weights.translate import classes_in, plain_values, translate, translate_heads
from vovnet.zoo import create_model

_CONSTANTS = "rpn.anchor_generator."
_CLASSIFIER = tuple(f"roi_heads.box.predictor.cls_score.{part}" for part in ("weight", "bias"))


def import_weights(source: str | Path, output: str | Path) -> ImportReport:
    """Read a checkpoint of another source and write it as our safetensors file.

    A whole Faster R-CNN or Mask R-CNN of VoVNet-Detectron becomes a detector that `vovnet.load` takes. Its classes are
    COCO's where it has 80, else "class 1", "class 2" …, since the file does not name them. Of all else the backbone is
    imported, see `vovnet.weights.backbone.import_weights`.

    Raises as that does, and ValueError when a tensor of a detector is missing, left over or misshapen, or when it has
    other anchors.
    """
    output = safetensors_path(output)
    file = read_foreign(source)
    return _import_detector(file, output) if holds_detector(file.tensors) else import_backbone(file, output)


def _import_detector(file: ForeignFile, output: Path) -> ImportReport:
    source = file.source
    tensors = _without_wrapper(file.tensors)
    backbone = translate(tensors, source)
    group_norm = backbone.norm == "group"
    masks = any(name.startswith("roi_heads.mask.") for name in tensors)
    name = f"{'maskrcnn' if masks else 'fasterrcnn'}_{backbone.model}{'_gn' if group_norm else ''}"
    logits = classes_in(tensors[part] for part in _CLASSIFIER if part in tensors)
    if logits is None or logits < 2:
        raise ValueError(f"{source} is no whole {name}: {_CLASSIFIER[0]} must have a row a class and the background's")

    settings = {option: value for option, value in backbone.options.items() if option != "norm"}
    options: dict[str, Any] = {"backbone": settings, "pixels": dict(backbone.pixels), "anchors": "detectron"}
    with torch.device("meta"):
        model = create_model(name, logits - 1, **options)
    own = {ours: tuple(tensor.shape) for ours, tensor in model.state_dict().items()}
    heads = {ours: shape for ours, shape in own.items() if not ours.startswith("backbone.")}
    others = {theirs: tensor for theirs, tensor in tensors.items() if not theirs.startswith("backbone.body.")}
    constants = {theirs: others.pop(theirs) for theirs in tensors if theirs.startswith(_CONSTANTS)}
    _check_anchors(constants, source)
    state = translate_heads(others, heads, group_norm, source, f"{name} of {backbone.scheme}")
    state |= {f"backbone.{ours}": tensor for ours, tensor in backbone.state.items() if f"backbone.{ours}" in own}

    info = ModelInfo(name, options, *_classes(logits - 1))
    save_weights(output, state, info, {"imported": {**file.origin, "source_scheme": backbone.scheme}})
    return ImportReport(
        kind="detector",
        source=source,
        source_sha256=file.origin["source_sha256"],
        scheme=backbone.scheme,
        model=name,
        options=backbone.options,
        norm=backbone.norm,
        pixels=backbone.pixels,
        tensors=len(state),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        num_classes=logits - 1,
        set_aside={_CONSTANTS.rstrip("."): len(constants)} if constants else {},
        output=str(output),
    )


def _without_wrapper(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names without the "module." of training on several GPUs, which all of them have or none."""
    wrapped = all(name.startswith("module.") for name in tensors)
    return {name.removeprefix("module.") if wrapped else name: tensor for name, tensor in tensors.items()}


def _check_anchors(found: Mapping[str, Tensor], source: str) -> None:
    """ValueError unless the anchors that a file states, which it need not, are those of the published models."""
    for level, (size, stride) in enumerate(zip(ANCHOR_SIZES, STRIDES, strict=True)):
        name = f"{_CONSTANTS}cell_anchors.{level}"
        expected = detectron_anchors(size, stride, ANCHOR_RATIOS) - torch.tensor([0, 0, 1, 1])
        if name in found and not torch.equal(plain_values(found[name], f"{name} in {source}"), expected):
            raise ValueError(
                f"{source} must have anchors of sizes {ANCHOR_SIZES} on strides {STRIDES}, "
                f"with ratios {ANCHOR_RATIOS}, but level {level} has others"
            )
    unknown = found.keys() - {f"{_CONSTANTS}cell_anchors.{level}" for level in range(len(STRIDES))}
    if unknown:
        raise ValueError(f"{source} must have anchors on {len(STRIDES)} levels, but also has {min(unknown)}")


def _classes(count: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and category ids in label order."""
    from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

    stated = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]  # by category id, with gaps
    coco = {number: name for number, name in enumerate(stated) if name not in ("__background__", "N/A")}
    if count == len(coco):
        return tuple(coco.values()), tuple(coco)
    return tuple(f"class {number}" for number in range(1, count + 1)), tuple(range(1, count + 1))
