"""ONNX Runtime's own operators as those of ONNX that they stand for: fused ones, and quantised elementwise ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import NodeProto

# Operator → the ONNX operator with the same products and shapes, and the positions of its inputs among those of ours.
_STANDARD: dict[str, tuple[str, tuple[int, ...]]] = {
    "FusedConv": ("Conv", (0, 1, 2)),
    "FusedGemm": ("Gemm", (0, 1, 2)),
    "QGemm": ("Gemm", (0, 3, 6)),
    **dict.fromkeys(("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "GemmFastGelu"), ("MatMul", (0, 1))),
    "QLinearAdd": ("Add", (0, 3)),
    "QLinearMul": ("Mul", (0, 3)),
    "QLinearAveragePool": ("AveragePool", (0,)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,)),
    "QLinearLeakyRelu": ("LeakyRelu", (0,)),
    "QLinearSigmoid": ("Sigmoid", (0,)),
    "QLinearSoftmax": ("Softmax", (0,)),
    "BiasGelu": ("Add", (0, 1)),
    **dict.fromkeys(("Gelu", "FastGelu", "QuickGelu"), ("Sigmoid", (0,))),
    "SkipLayerNormalization": ("LayerNormalization", (0, 2, 3)),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), ("", (0, 1, 2))),
    "QLinearConv": ("QLinearConv", tuple(range(9))),
}


def to_standard(node: NodeProto) -> None:
    """Replace the node by the one of ONNX, if there is one with the same products, outputs and shapes.

    What it does besides, such as an activation, costs nothing: a fused operator does it before it writes its output.
    """
    if node.domain != "com.microsoft":
        return
    flags = {attribute.name: attribute.i for attribute in node.attribute}
    if node.op_type == "QLinearConcat":
        name, inputs = "Concat", list(node.input[2::3])
    elif node.op_type in _STANDARD and not flags.get("channels_last"):
        name, positions = _STANDARD[node.op_type]
        inputs = [node.input[position] for position in positions if position < len(node.input)]
    else:
        return
    if any(node.output[1:]):
        return
    node.domain, node.op_type = "", name or node.op_type
    del node.input[:], node.output[1:]
    node.input.extend(inputs)
    _keep_known_attributes(node)


def _keep_known_attributes(node: NodeProto) -> None:
    from onnx import defs

    known = defs.get_schema(node.op_type, "").attributes
    kept = [attribute for attribute in node.attribute if attribute.name in known]
    del node.attribute[:]
    node.attribute.extend(kept)
