"""Changes to an exported network that leave it a protocol buffer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from .mutators import NUMBERS, WORDS, any_bytes

_SIZES = (0, -1, 1, 2**31, 2**40, 2**62, -(2**63), 7)
_OPERATORS = (
    "Expand",
    "Tile",
    "ConstantOfShape",
    "Range",
    "Einsum",
    "Resize",
    "Loop",
    "If",
    "Scan",
    "Gemm",
    "Reshape",
    "Nope",
    "",
)


def any_onnx(data: bytes, chance: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Names, operators, sizes and attributes of the graph are exchanged; or any bytes."""
    if chance.random() < 0.4:
        return any_bytes(data, chance, others)
    import onnx

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception:
        return any_bytes(data, chance, others)
    for _ in range(chance.choice((1, 1, 2, 4))):
        _change(model.graph, chance)
    return model.SerializeToString()


def _change(graph: Any, chance: random.Random) -> None:
    name = chance.choice((*WORDS, *NUMBERS)).encode("utf-8", errors="replace").decode()
    match chance.randrange(8):
        case 0 if graph.node:
            chance.choice(graph.node).op_type = chance.choice((*_OPERATORS, name))
        case 1 if graph.node:
            node = chance.choice(graph.node)
            target = chance.choice((node.input, node.output))
            if target:
                target[chance.randrange(len(target))] = chance.choice((name, graph.node[0].output[0], ""))
        case 2:
            for value in (*graph.input, *graph.output):
                for dim in value.type.tensor_type.shape.dim:
                    if chance.random() < 0.5:
                        dim.dim_value = chance.choice(_SIZES)
        case 3 if graph.initializer:
            array = chance.choice(graph.initializer)
            if array.dims:
                array.dims[chance.randrange(len(array.dims))] = chance.choice(_SIZES)
        case 4 if graph.initializer:
            array = chance.choice(graph.initializer)
            array.data_type = chance.randrange(-1, 25)
            if chance.random() < 0.5:
                array.external_data.add(
                    key="location", value=chance.choice(("../../neighbour/secret.txt", "/etc/passwd", name))
                )
                array.data_location = 1
        case 5 if graph.node:
            node = chance.choice(graph.node)
            attribute = chance.choice(node.attribute) if node.attribute else node.attribute.add(name="axis", type=2)
            attribute.i = chance.choice(_SIZES)
            if attribute.ints:
                attribute.ints[chance.randrange(len(attribute.ints))] = chance.choice(_SIZES)
        case 6 if graph.node:
            graph.node.extend([chance.choice(graph.node)] * chance.choice((1, 5, 3000)))
        case _:
            if graph.node:
                del graph.node[chance.randrange(len(graph.node))]
