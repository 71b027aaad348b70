"""Mask R-CNN and Faster R-CNN as one ONNX model."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch.export import Dim

from vovnet.export.graph import make_graph
from vovnet.export.two_stage import Padding, TwoStages, translations
from vovnet.models.detectors.mask_rcnn import PADDED_MULTIPLE, MaskRCNN
from vovnet.runtime.export_info import ExportInfo

if TYPE_CHECKING:
    from onnx import ModelProto

_EXAMPLE = (100, 150)  # height and width of the image with which the network is traced
_INPUTS = ["padded", "limit"]


def make_two_stages(model: MaskRCNN, info: ExportInfo) -> ModelProto:
    """ "images" uint8 (1, 3, H, W) of any size and "score_threshold" (1,) → what `make_onnx` says.

    There are two graphs, joined at the end, because PyTorch's exporter can follow a size through the network only as a
    multiple of 32.
    """
    from onnx import compose

    twin = copy.deepcopy(model).cpu().float().to(memory_format=torch.contiguous_format)
    images = torch.zeros(1, 3, *_EXAMPLE, dtype=torch.uint8)
    padding = Padding(twin.preprocessing).eval()
    stages = TwoStages(twin, nms_threshold=info.nms_threshold, top_k=info.top_k)
    first = make_graph(
        padding,
        [images],
        dynamic_shapes=({2: Dim.DYNAMIC, 3: Dim.DYNAMIC},),
        input_names=["images"],
        output_names=_INPUTS,
        name=info.detector,
    )
    second = make_graph(
        stages,
        [*padding(images), torch.tensor([info.score_threshold])],
        dynamic_shapes=({2: PADDED_MULTIPLE * Dim("rows"), 3: PADDED_MULTIPLE * Dim("columns")}, None, None),
        input_names=[*_INPUTS, "score_threshold"],
        output_names=["image", "boxes", "labels", "scores", *(["masks"] if model.masks else [])],
        name=info.detector,
        translations=translations(),
    )
    first = compose.add_prefix(first, "padding_", rename_inputs=False, rename_outputs=False)
    joined: ModelProto = compose.merge_models(
        first,
        second,
        io_map=[(name, name) for name in _INPUTS],
        producer_name=first.producer_name,
        producer_version=first.producer_version,
        name=second.graph.name,
    )
    for value in joined.graph.input:
        if value.name == "images":
            value.type.tensor_type.shape.dim[2].dim_param = "height"
            value.type.tensor_type.shape.dim[3].dim_param = "width"
    for value in joined.graph.output:
        value.type.tensor_type.shape.dim[0].dim_param = "detections"
    return joined
