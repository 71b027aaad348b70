"""A small Mask R-CNN that finds much with random weights, for tests of its network and of its export."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from vovnet.data.images import read_image
from vovnet.export.source import describe_export
from vovnet.export.writing import write_export
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.detectors.mask_rcnn import Anchors, MaskRCNN
from vovnet.models.preprocessing import Preprocessing
from vovnet.weights.detector import LoadedModel, ModelInfo

PHOTOS = sorted((Path(__file__).parents[1] / "samples/photos").glob("*.[jp][pn]g"))
CLASSES = ("person", "dog", "kite")
SIZE = (160, 260)


class SmallBackbone(nn.Module):
    """Feature maps of strides 4, 8, 16 and 32, so that an export takes seconds. Fit for `vovnet.zoo.BACKBONES`."""

    feature_names = ("c2", "c3", "c4", "c5")
    strides = (4, 8, 16, 32)
    channels = (8, 12, 16, 20)

    def __init__(self, *, features_only: bool = True, norm: str = "batch") -> None:
        super().__init__()
        stem = nn.Conv2d(3, 8, 4, stride=4)
        self.stages = nn.ModuleList([stem, *(nn.Conv2d(a, b, 2, stride=2) for a, b in ((8, 12), (12, 16), (16, 20)))])

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x).relu()
            maps.append(x)
        return maps


def make_small(anchors: Anchors = "torchvision", *, group_norm: bool = True) -> LoadedModel:
    torch.manual_seed(0)
    pixels = Preprocessing(SIZE, mean=(100.0, 110.0, 120.0), std=(50.0, 50.0, 50.0), keep_ratio=True)
    model = MaskRCNN(SmallBackbone(), SmallBackbone.channels, 3, pixels, anchors=anchors, group_norm=group_norm)
    model.rpn._post_nms_top_n["testing"] = 100
    return with_detections(model, ModelInfo("maskrcnn_small", {}, CLASSES, (1, 18, 38)))


def make_loaded(name: str, **options: Any) -> LoadedModel:
    torch.manual_seed(0)
    info = ModelInfo(name, {"image_size": SIZE, **options}, CLASSES, (1, 18, 38))
    return with_detections(info.build(), info)


def with_detections(model: DetectionModel, info: ModelInfo) -> LoadedModel:
    """The detector with random weights that find a hundred objects in every image."""
    assert isinstance(model, MaskRCNN)
    model.eval()
    example = model.preprocessing.resize(photos()[0])[:, :96, :96].contiguous()
    layers = {model.rpn.head.bbox_pred: 0.3, model.roi_heads.box_predictor.bbox_pred: 1.0}
    layers |= {model.rpn.head.cls_logits: 3.0, model.roi_heads.box_predictor.cls_score: 2.0}
    for layer, spread in layers.items():  # whatever the scale of the random features
        scale_output(model, layer, example, spread)
    if model.masks:
        scale_output(model, model.roi_heads.mask_predictor.mask_fcn_logits, example, 2.0)
    return LoadedModel(model, info, {})


@torch.no_grad()
def scale_output(model: MaskRCNN, layer: nn.Module, image: Tensor, spread: float) -> None:
    """Scale a layer's weights so that its outputs have this standard deviation."""
    seen: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    detect(model, image)
    handle.remove()
    layer.weight.mul_(spread / torch.cat([output.flatten() for output in seen]).std())


@cache
def photos() -> tuple[Tensor, ...]:
    images = [read_image(path) for path in PHOTOS]
    return (*images, images[0].rot90(1, (1, 2)).contiguous(), images[1][:, :40].contiguous())


@torch.no_grad()
def detect(model: MaskRCNN, image: Tensor, size: tuple[int, int] | None = None, threshold: float = 0.05) -> Any:
    """What PyTorch finds in an image at network size; size: of the original."""
    own = (image.shape[1], image.shape[2])
    outputs = model(model.preprocessing.normalize(image[None].clone()))
    return model.decode(outputs, [size or own], input_size=own, score_threshold=threshold)[0]


@cache
def small_onnx() -> bytes:
    """What `make_small` makes, as an ONNX file."""
    with TemporaryDirectory() as folder:
        return export(make_small(), Path(folder)).read_bytes()


def export(loaded: LoadedModel, folder: Path) -> Path:
    path = folder / "detector.onnx"
    write_export(loaded, describe_export(loaded, "float32"), "onnx", path)
    return path
