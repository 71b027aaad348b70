"""A detector as one ONNX file: pixels to boxes, with NMS inside, for a batch of any size."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vovnet.errors import UsageError
from vovnet.export.graph import make_graph
from vovnet.export.source import PixelsToBoxes
from vovnet.export.two_stage_graph import make_two_stages
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.detectors.decoding import OneStageDetector
from vovnet.models.detectors.mask_rcnn import MaskRCNN
from vovnet.runtime.export_info import ExportInfo

if TYPE_CHECKING:
    from onnx import ModelProto


def make_onnx(model: DetectionModel, info: ExportInfo) -> ModelProto:
    """The detector as an ONNX model with float32 weights.

    Inputs: "images", uint8 RGB (batch, 3, H, W) at network size; "score_threshold", float32 (1,).
    Outputs, of the S detections after NMS: "image" int64 (S,), index in the batch; "boxes" float32 (S, 4) in pixels of
    the input; "labels" int64 (S,); "scores" float32 (S,).

    Mask R-CNN takes one image of any size at a time. Its boxes are clipped, only the `top_k` best are there, and
    "masks" float32 (S, 28, 28) are the probabilities in each box.

    Raises as `make_network`.
    """
    if isinstance(model, MaskRCNN):
        network = make_two_stages(model, info)
    else:
        network = make_network(model, info.detector)
        add_nms(network, info)
    set_info(network, info)
    return network


def make_network(model: DetectionModel, name: str = "the detector") -> ModelProto:
    """Without NMS: "images" uint8 (batch, 3, H, W) → "boxes" float32 (batch, A, 4), "scores" float32 (batch, A, K).

    The model stays as it is: what is exported is a copy on the CPU.

    model: a one-stage detector.
    name: of the detector, for messages.

    Raises ValueError if PyTorch cannot export it, ModuleNotFoundError without the packages that this takes.
    """
    if not isinstance(model, OneStageDetector):
        raise UsageError(f"{name} has no list of boxes and scores that any runtime could be given: export it to onnx")
    height, width = model.preprocessing.image_size
    images = torch.zeros(2, 3, height, width, dtype=torch.uint8)
    twin = copy.deepcopy(model).cpu().float().to(memory_format=torch.contiguous_format)
    network = PixelsToBoxes(twin)
    with torch.no_grad():
        network(images[:1])  # makes the anchors, so that they are constants of the graph
    return make_graph(
        network,
        [images],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=["images"],
        output_names=["boxes", "scores"],
        name=name,
    )


def add_nms(network: ModelProto, info: ExportInfo) -> None:
    """Replace the outputs of `make_network` by those of `make_onnx`.

    NMS sees the `candidates` highest scores of each image and class, as in `select_detections`, and boxes that are
    limited in the same way. Each image and class is an entry of the batch of ONNX's NonMaxSuppression.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = network.graph
    anchors = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    classes, kept = len(info.class_names), min(info.candidates, anchors)
    nodes, constants = [], []

    def constant(name: str, value: object, dtype: type) -> str:
        constants.append(numpy_helper.from_array(np.array(value, dtype), f"nms_{name}"))
        return f"nms_{name}"

    def node(kind: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, list(outputs), name=f"nms_{outputs[0]}", **attributes))
        return outputs[0]

    renamed = {"boxes": "all_boxes", "scores": "all_scores"}
    for existing in graph.node:
        for names in (existing.input, existing.output):
            for index, name in enumerate(names):
                names[index] = renamed.get(name, name)

    by_class = node("Transpose", ["all_scores"], "scores_by_class", perm=[0, 2, 1])  # (N, K, A)
    node("TopK", [by_class, constant("kept", [kept], np.int64)], "top_scores", "top_anchors", axis=2)  # (N, K, C)
    anchors_of_image = node("Reshape", ["top_anchors", constant("per_image", [0, -1, 1], np.int64)], "anchors_of_image")
    gathered = node("GatherND", ["all_boxes", anchors_of_image], "gathered_boxes", batch_dims=1)  # (N, K·C, 4)
    side = max(info.image_size)
    limits = [constant("least", -side, np.float32), constant("most", 2 * side, np.float32)]
    near = node("Clip", [gathered, *limits], "near_boxes")
    boxes = node("Reshape", [near, constant("per_class", [-1, kept, 4], np.int64)], "boxes_of_class")  # (N·K, C, 4)
    scores = node("Reshape", ["top_scores", constant("scores", [-1, 1, kept], np.int64)], "scores_of_class")
    limit = constant("limit", [kept], np.int64)
    overlap = constant("iou", [info.nms_threshold], np.float32)
    selected = node("NonMaxSuppression", [boxes, scores, limit, overlap, "score_threshold"], "selected")  # (S, 3)
    group = node("Gather", [selected, constant("zero", 0, np.int64)], "group", axis=1)  # (S,), image · K + label
    box = node("Gather", [selected, constant("columns", [0, 2], np.int64)], "class_and_box", axis=1)
    number = constant("classes", classes, np.int64)
    node("Div", [group, number], "image")
    node("GatherND", [boxes, box], "boxes")
    node("Mod", [group, number], "labels")
    node("GatherND", [scores, selected], "scores")

    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    graph.input.append(helper.make_tensor_value_info("score_threshold", TensorProto.FLOAT, [1]))
    del graph.output[:]
    outputs: tuple[tuple[str, int, list[str | int]], ...] = (
        ("image", TensorProto.INT64, ["detections"]),
        ("boxes", TensorProto.FLOAT, ["detections", 4]),
        ("labels", TensorProto.INT64, ["detections"]),
        ("scores", TensorProto.FLOAT, ["detections"]),
    )
    for name, kind, shape in outputs:
        graph.output.append(helper.make_tensor_value_info(name, kind, shape))


def set_info(network: ModelProto, info: ExportInfo) -> None:
    """Store the description in the file."""
    for entry in [entry for entry in network.metadata_props if entry.key == "vovnet"]:
        network.metadata_props.remove(entry)
    network.metadata_props.add(key="vovnet", value=info.to_json())
