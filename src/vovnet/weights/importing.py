"""Convert checkpoints of other sources, backbones and whole detectors, to files of our own.

A Faster R-CNN or Mask R-CNN of VoVNet-Detectron (maskrcnn-benchmark with VoVNets) has the same layers as ours, so its
weights are only renamed. Both have the background as first class, the same order of deltas (dx, dy, dw, dh, the four of
a class together) and of anchors (height / width 0.5, 1, 2), weights 10, 10, 5, 5 of the box deltas, and RoIAlign
without an offset of half a pixel. They differ in this:

- Its boxes include their last pixel (x2 = x1 + width − 1, `TO_REMOVE = 1`), ours exclude it. Its box deltas, areas and
  IoU count that pixel, so the same weights give the same boxes, with x2 and y2 larger by one here. Only RoIAlign uses
  the corners as they are, so its regions are one pixel of the input smaller.
- Its anchors, see `detectron_anchors`. The imported detector has the same.
- Its frozen norms add nothing to the variance and ours do. The imported weights make up for it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vovnet.models.anchors import detectron_anchors
from vovnet.models.detectors.mask_rcnn import ANCHOR_RATIOS, ANCHOR_SIZES, STRIDES
from vovnet.printing import line
from vovnet.weights.backbone import save_backbone
from vovnet.weights.detector import ModelInfo, save_weights
from vovnet.weights.file import SUFFIXES, shapes_of, suffix_of
from vovnet.weights.find import read_source
from vovnet.weights.names import holds_detector
from vovnet.weights.translate import Translation, classes_in, plain_values, translate, translate_heads

_CONSTANTS = "rpn.anchor_generator."
_CLASSIFIER = tuple(f"roi_heads.box.predictor.cls_score.{part}" for part in ("weight", "bias"))
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class ImportReport:
    """What `import_weights` read and wrote.

    kind: what was written.
    scheme: the source whose names the file uses.
    model: a name of `create_backbone` or `create_model`.
    options, pixels: of the backbone, see `BackboneWeights`.
    norm: the backbone's "batch", "group" or "frozen batch", see `Translation`.
    tensors, parameters: numbers of tensors and of trainable values written, a backbone's classifier included.
    num_classes: None without a classifier.
    set_aside: numbers of tensors that were not imported, by the first two parts of their names.
    """

    kind: Literal["backbone", "detector"]
    source: str
    source_sha256: str
    scheme: str
    model: str
    options: Mapping[str, Any]
    norm: str
    pixels: Mapping[str, Any]
    tensors: int
    parameters: int
    num_classes: int | None
    set_aside: Mapping[str, int]
    output: str


def import_weights(
    source: str | Path, output: str | Path, *, backbone_only: bool = False, overwrite: bool = False
) -> ImportReport:
    """Convert a backbone's checkpoint of another source to a safetensors file that says how to use it.

    A whole Faster R-CNN or Mask R-CNN of VoVNet-Detectron becomes a detector for `vovnet.load`. The file does not name
    its classes: they are COCO's if there are 80, else "class 1", "class 2" and so on. From all other files the backbone
    is imported, for `create_backbone` and `backbone_weights`. Variant, norm and classifier follow from names and
    shapes; stem, identity, eSE and preprocessing are known for each source.

    source: as for `read_weights`. A VoVNet has the names of VoVNet.pytorch, VoVNet-Detectron, vovnet-detectron2, timm,
        pytorchcv or the authors' Caffe code.
    backbone_only: import only the backbone of a detector.
    overwrite: replace a file `output` that exists.

    Raises as `read_weights` does, FileExistsError unless `overwrite`, and ValueError if a tensor is missing, unexpected
    or of wrong shape, if the anchors are other ones, or if the file is already ours.
    """
    output = Path(output)
    if output.suffix != ".safetensors":
        raise ValueError(f"imported weights are written to a file that ends in .safetensors, got {output}")
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists already; choose another output, or overwrite it with --overwrite")
    tensors, origin = read_foreign(source)
    whole = holds_detector(tensors) and not backbone_only
    backbone = translate(tensors, str(source))
    origin = {**origin, "source_scheme": backbone.scheme}
    report = ImportReport(
        kind="backbone",
        source=str(source),
        source_sha256=origin["source_sha256"],
        scheme=backbone.scheme,
        model=backbone.model,
        options=backbone.options,
        norm=backbone.norm,
        pixels=backbone.pixels,
        tensors=len(backbone.state),
        parameters=sum(tensor.numel() for name, tensor in backbone.state.items() if not name.endswith(_BUFFERS)),
        num_classes=backbone.num_classes,
        set_aside=backbone.set_aside,
        output=str(output),
    )
    if not whole:
        save_backbone(output, backbone, origin)
        return report
    info, state = _translate_detector(tensors, backbone)
    save_weights(output, state, info, {"imported": origin})
    return replace(
        report,
        kind="detector",
        model=info.name,
        tensors=len(state),
        parameters=sum(parameter.numel() for parameter in info.build_on_meta().parameters()),
        num_classes=len(info.class_names),
        set_aside={part: count for part, count in backbone.set_aside.items() if f"{part}." == _CONSTANTS},
    )


def default_output(source: str | Path) -> Path:
    """Where imported weights go if nobody says where: a file with the name of the source in the folder weights."""
    name = Path(str(source).partition("?")[0].partition("#")[0].rstrip("/")).name
    known = suffix_of(name) in SUFFIXES
    stem = name.removesuffix(suffix_of(name)) if known else name
    stem = re.sub(r"[^\w.-]", "_", stem)[:100] or "imported"
    return Path("weights") / f"{stem}.safetensors"


def read_foreign(source: str | Path) -> tuple[Mapping[str, Tensor], dict[str, str]]:
    """The tensors of a file to import, and its "source" (file name or URL) and "source_sha256" for metadata.

    Raises as `read_weights` does, and ValueError for a file of our own.
    """
    path, tensors, metadata = read_source(source)
    if metadata.get("format", "").startswith("vovnet-"):
        raise ValueError(f"{source} is imported already: it holds weights of {line(str(metadata.get('model')), 80)}")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return tensors, {"source": path.name if path == Path(source) else str(source), "source_sha256": sha256}


def _translate_detector(tensors: Mapping[str, Tensor], backbone: Translation) -> tuple[ModelInfo, dict[str, Tensor]]:
    """A whole detector under our names, and what it needs besides its weights."""
    source, group_norm = backbone.source, backbone.norm == "group"
    masks = any(name.startswith("roi_heads.mask.") for name in tensors)
    name = f"{'maskrcnn' if masks else 'fasterrcnn'}_{backbone.model}{'_gn' if group_norm else ''}"
    logits = classes_in(tensors[part] for part in _CLASSIFIER if part in tensors)
    if logits is None or logits < 2:
        raise ValueError(
            f"{source} is not a complete {name}: {_CLASSIFIER[0]} must have a row for each class and the background"
        )
    backbone_options = {option: value for option, value in backbone.options.items() if option != "norm"}
    options = {"backbone": backbone_options, "pixels": dict(backbone.pixels), "anchors": "detectron"}
    info = ModelInfo(name, options, *_classes(logits - 1))
    shapes = shapes_of(info.build_on_meta().state_dict())
    head_shapes = {ours: shape for ours, shape in shapes.items() if not ours.startswith("backbone.")}
    rest = {theirs: tensor for theirs, tensor in tensors.items() if not theirs.startswith("backbone.body.")}
    _check_anchors({theirs: rest.pop(theirs) for theirs in tensors if theirs.startswith(_CONSTANTS)}, source)
    state = translate_heads(rest, head_shapes, group_norm, source, f"{name} of {backbone.scheme}")
    state |= {f"backbone.{ours}": tensor for ours, tensor in backbone.state.items() if f"backbone.{ours}" in shapes}
    return info, state


def _check_anchors(anchors: Mapping[str, Tensor], source: str) -> None:
    """Raise ValueError unless the anchors are those of the published models. A file need not state any."""
    for level, (size, stride) in enumerate(zip(ANCHOR_SIZES, STRIDES, strict=True)):
        name = f"{_CONSTANTS}cell_anchors.{level}"
        expected = detectron_anchors(size, stride, ANCHOR_RATIOS) - torch.tensor([0, 0, 1, 1])
        if name in anchors and not torch.equal(plain_values(anchors[name], f"{name} in {source}"), expected):
            raise ValueError(
                f"{source} must have anchors of sizes {ANCHOR_SIZES} on strides {STRIDES}, "
                f"with ratios {ANCHOR_RATIOS}, but level {level} has others"
            )
    unknown = anchors.keys() - {f"{_CONSTANTS}cell_anchors.{level}" for level in range(len(STRIDES))}
    if unknown:
        raise ValueError(f"{source} must have anchors on {len(STRIDES)} levels, but also has {min(unknown)}")


def _classes(count: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Class names and category ids in the order of the labels."""
    from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

    categories = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]  # indexed by category id, with gaps
    coco = {number: name for number, name in enumerate(categories) if name not in ("__background__", "N/A")}
    if count == len(coco):
        return tuple(coco.values()), tuple(coco)
    return tuple(f"class {number}" for number in range(1, count + 1)), tuple(range(1, count + 1))
