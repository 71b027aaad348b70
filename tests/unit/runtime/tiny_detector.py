"""A detector as small as can be, as an exported ONNX file: it finds the brightness of an image."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from onnx import ModelProto, StringStringEntryProto, TensorProto, helper, save

from vovnet.runtime.export_info import ExportInfo

from .described import INFO

SIDE = 8
TINY = replace(INFO, detector="tiny", image_size=(SIDE, SIDE), class_names=("dark", "light"), category_ids=(3, 7))


def tiny_model(info: ExportInfo = TINY) -> ModelProto:
    """Two boxes: "light", the left half, with the mean of the red pixels as score, and "dark" with the rest."""
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["pixels", "zero"], ["red"], axis=1),
        helper.make_node("ReduceMean", ["red", "axes"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "white"], ["light"]),
        helper.make_node("Sub", ["one", "light"], ["dark"]),
        helper.make_node("Unsqueeze", ["light", "last"], ["light_column"]),
        helper.make_node("Unsqueeze", ["dark", "last"], ["dark_column"]),
        helper.make_node("Concat", ["dark_column", "light_column"], ["both"], axis=1),
        helper.make_node("Greater", ["both", "score_threshold"], ["kept"]),
        helper.make_node("NonZero", ["kept"], ["where"]),
        helper.make_node("Transpose", ["where"], ["pairs"], perm=[1, 0]),
        helper.make_node("GatherND", ["both", "pairs"], ["scores"]),
        helper.make_node("Gather", ["where", "zero"], ["image"], axis=0),
        helper.make_node("Gather", ["where", "one_index"], ["labels"], axis=0),
        helper.make_node("Gather", ["halves", "labels"], ["boxes"], axis=0),
    ]
    half = SIDE / 2
    constants = [
        helper.make_tensor("zero", TensorProto.INT64, [], [0]),
        helper.make_tensor("one_index", TensorProto.INT64, [], [1]),
        helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("last", TensorProto.INT64, [1], [1]),
        helper.make_tensor("white", TensorProto.FLOAT, [], [255]),
        helper.make_tensor("one", TensorProto.FLOAT, [], [1]),
        helper.make_tensor("halves", TensorProto.FLOAT, [2, 4], [half, 0, SIDE, SIDE, 0, 0, half, SIDE]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            value("images", TensorProto.UINT8, ["N", 3, *info.image_size]),
            value("score_threshold", TensorProto.FLOAT, [1]),
        ],
        [
            value("image", TensorProto.INT64, ["S"]),
            value("boxes", TensorProto.FLOAT, ["S", 4]),
            value("labels", TensorProto.INT64, ["S"]),
            value("scores", TensorProto.FLOAT, ["S"]),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    model.metadata_props.append(StringStringEntryProto(key="vovnet", value=info.to_json()))
    return model


def write_tiny(path: Path, **described: object) -> Path:
    """The tiny detector in a file; `described` are entries of the description that differ."""
    model = tiny_model()
    stated = {**json.loads(model.metadata_props[0].value), **described}
    model.metadata_props[0].value = json.dumps(stated)
    save(model, path)
    return path
