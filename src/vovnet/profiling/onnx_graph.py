"""Reading the graph of an ONNX file, with the shapes that follow from a given input shape. No weights are read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vovnet.errors import install_extra
from vovnet.profiling.cost_types import Shape

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorShapeProto, ValueInfoProto


def read_graph(path: Path, input_shape: Shape | None) -> tuple[GraphProto, ValueInfoProto, Shape]:
    """The graph of the file with inferred shapes, its input, and the shape of the input.

    input_shape: None is the shape declared in the file, which must not leave a size open.

    Raises FileNotFoundError; ValueError for a file that is not a valid ONNX model with one input, or that cannot take
    this shape; and ModuleNotFoundError without the package onnx.
    """
    model = _load(path)
    image = _image_input(model.graph, path)
    shape = _resolve_shape(image, input_shape, path)
    _set_shape(model.graph, image, shape)
    graph = _infer_shapes(model, path)
    _check_values(graph, path)
    return graph, image, shape


def _load(path: Path) -> ModelProto:
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        text = f"{path} needs the package onnx: {install_extra('onnx')}"
        raise ModuleNotFoundError(text, name=error.name) from error
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except DecodeError as error:
        raise ValueError(f"{path} is not an ONNX model: {error}") from None
    if not model.graph.node:
        raise ValueError(f"{path} is not an ONNX model, or has no nodes")
    return model


def _image_input(graph: GraphProto, path: Path) -> ValueInfoProto:
    constants = {name for name, _, _ in initializers(graph)}  # old files list these as inputs too
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or not inputs[0].type.HasField("tensor_type"):
        names = ", ".join(value.name for value in inputs) or "none"
        raise ValueError(f"{path} must have one input, a tensor of images, but has {names}")
    return inputs[0]


def _resolve_shape(image: ValueInfoProto, input_shape: Shape | None, path: Path) -> Shape:
    """The shape to count for. Raises ValueError if the file cannot take it or leaves it open."""
    image_type = image.type.tensor_type
    declared = [_size(dim) for dim in image_type.shape.dim] if image_type.HasField("shape") else None
    if input_shape is None:
        if declared is None or None in declared:
            raise ValueError(f"{path} leaves the shape of its input {image.name} open: give input_shape")
        return tuple(size for size in declared if size is not None)
    fits = declared is None or takes_shape(declared, input_shape)
    if not fits or min(input_shape, default=1) < 1:
        expected = "positive sizes" if declared is None else times(declared)
        raise ValueError(f"{path} takes {expected}, got an input of {times(input_shape)}")
    return tuple(input_shape)


def _set_shape(graph: GraphProto, image: ValueInfoProto, shape: Shape) -> None:
    """Set the shape of the input, and the same size for every other dimension with the same symbolic name."""
    declared = image.type.tensor_type.shape
    sizes = {dim.dim_param: size for dim, size in zip(declared.dim, shape, strict=False) if dim.dim_param}
    del declared.dim[:]
    for size in shape:
        declared.dim.add().dim_value = size
    declared.SetInParent()  # a shape without dimensions is a shape too
    for info in (*graph.value_info, *graph.output):
        if info.type.HasField("tensor_type"):
            for dim in info.type.tensor_type.shape.dim:
                if dim.dim_param in sizes:
                    dim.dim_value = sizes[dim.dim_param]


def _infer_shapes(model: ModelProto, path: Path) -> GraphProto:
    from onnx import checker, inliner, shape_inference

    try:
        if model.functions:
            model = inliner.inline_local_functions(model)
        return shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except (shape_inference.InferenceError, checker.ValidationError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path} has a node that does not fit its inputs: {' '.join(str(error).split())}") from None


def _check_values(graph: GraphProto, path: Path) -> None:
    """Raises ValueError for what shape inference accepts in damaged or malicious files."""
    from onnx import TensorProto

    for node in graph.node:
        name = node.name or node.op_type
        if not all(isinstance(text, str) for text in (name, node.op_type, node.domain, *node.input, *node.output)):
            raise ValueError(f"{path} has a node {name!r} with a name that is not UTF-8")
    for name, elem_type, shape in tensors(graph):
        if elem_type not in TensorProto.DataType.values():
            raise ValueError(f"{path} gives {name} a number format that does not exist: {elem_type}")
        if shape and (min(shape) < 0 or math.prod(shape) >= 2**63):
            raise ValueError(f"{path} gives {name} an impossible size: {times(shape)}")


def is_standard(node: NodeProto) -> bool:
    """Whether the operator is ONNX's own."""
    return node.domain in ("", "ai.onnx")


def tensors(graph: GraphProto) -> Iterator[tuple[str, int, Shape | None]]:
    """Name, number format and shape of every tensor that the file describes; the shape is None if it is not known."""
    for info in (*graph.input, *graph.value_info, *graph.output):
        if info.type.HasField("tensor_type"):
            declared = info.type.tensor_type
            sizes = [_size(dim) for dim in declared.shape.dim]
            shape = tuple(size for size in sizes if size is not None)
            complete = declared.HasField("shape") and len(shape) == len(sizes)
            yield info.name, declared.elem_type, shape if complete else None
    yield from initializers(graph)


def initializers(graph: GraphProto) -> Iterator[tuple[str, int, Shape]]:
    """Name, number format and shape of every array in the file."""
    for dense in graph.initializer:
        yield dense.name, dense.data_type, tuple(dense.dims)
    for sparse in graph.sparse_initializer:
        yield sparse.values.name, sparse.values.data_type, tuple(sparse.dims)


def _size(dim: TensorShapeProto.Dimension) -> int | None:
    return dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None


def takes_shape(declared: Sequence[int | None], shape: Sequence[int]) -> bool:
    """Whether the sizes are the declared ones; None stands for any size."""
    return len(declared) == len(shape) and all(own in (None, size) for own, size in zip(declared, shape, strict=True))


def times(sizes: Iterable[int | None]) -> str:
    """ "1 × 3 × 224 × 224", with "any" for None."""
    return " × ".join("any" if size is None else str(size) for size in sizes)
