"""Reading the graph of an ONNX file, with the shapes of its inputs. Weights are not read."""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vovnet.libraries import needs_extra
from vovnet.printing import line, quoted
from vovnet.profiling.cost_types import Shape
from vovnet.profiling.onnx.fused import to_standard
from vovnet.profiling.onnx.inputs import OnnxInput, check_file, image_input, takes_shape, times
from vovnet.profiling.onnx.scope import unfit

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorShapeProto, TypeProto, ValueInfoProto

MAX_NODES = 500_000  # with those of functions, which a small file can call very often
# ONNX does not return from inferring the shape of some other texts.
_TERM = rb"[A-Za-z]*(\.\.\.[A-Za-z]*)?"
_EQUATION = re.compile(rb"%b(,%b)*(->%b)?" % (_TERM, _TERM, _TERM))
MAX_INFERENCES = 2 * MAX_NODES
SHARED = "\0function"  # begins the names of arrays in functions, which calls share


@dataclass(frozen=True)
class OnnxGraph:
    """A graph with its functions inlined and its nodes in order.

    inputs: its inputs with what is known of their shapes, the one whose shape was given first.
    opsets: domain → version of its operators.
    """

    graph: GraphProto
    inputs: tuple[ValueInfoProto, ...]
    opsets: dict[str, int]


def read_graph(path: Path, input_shape: Shape | None) -> OnnxGraph:
    """The graph of the file, with the shapes that ONNX infers from it as a whole.

    input_shape: shape of the images, see `image_input`; without such an input, of the first one. None is the shape
        declared in the file, which must not leave a size open. Other inputs get the sizes that follow from it.

    Raises FileNotFoundError; ValueError for a file that is not a valid ONNX model with a tensor as input, or that
    cannot take this shape; and ModuleNotFoundError without the package onnx.
    """
    model = _load(path)
    for graph in all_graphs(model.graph):
        _check_texts(graph, path)
    inputs = _inputs(model.graph, path)
    _set_shapes(model.graph, inputs, input_shape, path)
    model = _inlined(model, path)
    for graph in all_graphs(model.graph):
        _check_texts(graph, path)
        _sort(graph, path)
        for node in graph.node:
            node.domain = "" if node.domain == "ai.onnx" else node.domain
            to_standard(node)
    opsets = {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in model.opset_import}
    inferred = _infer_shapes(model)
    for graph in all_graphs(inferred):
        _check_values(graph, path)
    return OnnxGraph(inferred, inputs, opsets)


def _load(path: Path) -> ModelProto:
    with needs_extra("onnx", f"{path} needs the package onnx"):
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    check_file(path)
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except DecodeError as error:
        raise ValueError(f"{path} is not an ONNX model: {line(str(error), 200)}") from None
    if not model.graph.node:
        raise ValueError(f"{path} is not an ONNX model, or has no nodes")
    return model


# Inputs -------------------------------------------------------------------------------------------------------------


def _inputs(graph: GraphProto, path: Path) -> tuple[ValueInfoProto, ...]:
    """The inputs, first the one that takes the images."""
    constants = {name for name, _, _ in arrays(graph)}  # old files list these as inputs too
    inputs = [value for value in graph.input if value.name not in constants]
    tensors = {value.name: value for value in inputs if value.type.HasField("tensor_type")}
    if not tensors:
        names = line(", ".join(value.name for value in inputs)) or "none"
        raise ValueError(f"{path} must have one input, a tensor of images, but has {names}")
    image = image_input(map(_declared, tensors.values()))
    first = tensors[image.name] if image else next(iter(tensors.values()))
    return (first, *(value for value in inputs if value is not first))


def _declared(value: ValueInfoProto) -> OnnxInput:
    from onnx import TensorProto

    tensor = value.type.tensor_type
    kinds = TensorProto.DataType
    format_name = kinds.Name(tensor.elem_type) if tensor.elem_type in kinds.values() else "UNDEFINED"
    shape = tuple(dim.dim_param or None if (size := _size(dim)) is None else size for dim in tensor.shape.dim)
    return OnnxInput(value.name, dtype_name(format_name), shape)


def dtype_name(format_name: str) -> str:
    """PyTorch's name of a number format of ONNX."""
    return {"FLOAT": "float32", "DOUBLE": "float64"}.get(format_name, format_name.lower())


def _set_shapes(graph: GraphProto, inputs: tuple[ValueInfoProto, ...], input_shape: Shape | None, path: Path) -> None:
    """Set the shapes of the inputs, and the same size for every other dimension with the same symbolic name."""
    first, *others = inputs
    image = _declared(first)
    shape = _resolve_shape(first, image, input_shape, path)
    sizes = {name: size for name, size in zip(image.shape, shape, strict=False) if isinstance(name, str)}
    for value in others:
        if value.type.tensor_type.HasField("shape"):
            beside = _declared(value).sizes_beside(image, shape)
            for dim, size in zip(value.type.tensor_type.shape.dim, beside, strict=True):
                if size is not None:
                    dim.dim_value = size
    declared = first.type.tensor_type.shape
    del declared.dim[:]
    for size in shape:
        declared.dim.add().dim_value = size
    declared.SetInParent()  # a shape without dimensions is a shape too
    for info in (*graph.value_info, *graph.output):
        if info.type.HasField("tensor_type"):
            for dim in info.type.tensor_type.shape.dim:
                if dim.dim_param in sizes:
                    dim.dim_value = sizes[dim.dim_param]


def _resolve_shape(value: ValueInfoProto, image: OnnxInput, input_shape: Shape | None, path: Path) -> Shape:
    """The shape to count for. Raises ValueError if the file cannot take it or leaves it open."""
    declared = image.sizes if value.type.tensor_type.HasField("shape") else None
    if input_shape is None:
        if declared is None or None in declared:
            raise ValueError(f"{path} leaves the shape of its input {line(image.name)} open: give input_shape")
        return tuple(size for size in declared if size is not None)
    shape = image.own_shape(input_shape)
    fits = declared is None or takes_shape(declared, shape)
    if not fits or min(shape, default=1) < 1:
        expected = "positive sizes" if declared is None else times(declared)
        raise ValueError(f"{path} takes {line(expected)}, got an input of {times(input_shape)}")
    return shape


# The whole file -----------------------------------------------------------------------------------------------------


def _inlined(model: ModelProto, path: Path) -> ModelProto:
    """Raises ValueError for functions that call themselves, or each other too often."""
    from onnx import checker, inliner

    if not model.functions:
        return model
    bodies = {(function.domain, function.name, function.overload): function.node for function in model.functions}
    sizes: dict[tuple[str, ...], int] = {}

    def size(nodes: Iterator[NodeProto], callers: tuple[tuple[str, ...], ...]) -> int:
        total = 0
        for node in nodes:
            called = node.domain, node.op_type, node.overload
            if called in callers:
                raise ValueError(f"{path} has a function that calls itself: {line(node.op_type)}")
            if called in bodies and called not in sizes:
                sizes[called] = size(_all_nodes(bodies[called]), (*callers, called))
            total += 1 + sizes.get(called, 0)
        if total > MAX_NODES:
            raise ValueError(f"{path} has more than {MAX_NODES} nodes with those of the functions that it calls")
        return total

    try:
        size(_all_nodes(model.graph.node), ())
    except RecursionError:
        raise ValueError(f"{path} has functions that call each other too deeply") from None
    for function in model.functions:
        for index, node in enumerate(_all_nodes(function.node)):
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.HasField("t"):
                    attribute.t.name = f"{SHARED}:{function.domain}:{function.name}:{index}"
    try:
        return inliner.inline_local_functions(model)
    except (checker.ValidationError, RuntimeError, ValueError) as error:
        raise unfit(path, error) from None


def _infer_shapes(model: ModelProto) -> GraphProto:
    """The graph as it is if ONNX finds a contradiction in it: in a branch that never runs, or in what it declares.

    Also if it has loops deep inside each other, whose bodies ONNX infers several times, each time with those inside.
    """
    from onnx import checker, shape_inference

    if _inferences(model.graph) > MAX_INFERENCES:
        return model.graph
    try:
        return shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except (shape_inference.InferenceError, checker.ValidationError, RuntimeError, ValueError):
        return model.graph


def _inferences(graph: GraphProto) -> int:
    """At most so many nodes ONNX infers, with those of loops as often as it infers them."""
    inside = sum(_inferences(inner) for node in graph.node for _, inner in subgraphs(node))
    return len(graph.node) + 3 * inside


def all_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for _, inner in subgraphs(node):
            yield from all_graphs(inner)


def _all_nodes(nodes: Sequence[NodeProto]) -> Iterator[NodeProto]:
    for node in nodes:
        yield node
        for _, graph in subgraphs(node):
            yield from _all_nodes(graph.node)


def subgraphs(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """Name of the attribute and graph, of all graphs of the node itself."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.name, attribute.g
        for index, graph in enumerate(attribute.graphs):
            yield f"{attribute.name}{index}", graph


def _sort(graph: GraphProto, path: Path) -> None:
    """Put each node after those whose outputs it takes, else in the order of the file; ONNX Runtime does so too."""
    made_by = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    before = [{made_by[name] for name in _taken(node) if name in made_by} for node in graph.node]
    if all(max(needed, default=-1) < index for index, needed in enumerate(before)):
        return
    after: dict[int, list[int]] = {}
    for index, needed in enumerate(before):
        for earlier in needed:
            after.setdefault(earlier, []).append(index)
    waiting = [len(needed) for needed in before]
    ready = [index for index, count in enumerate(waiting) if not count]
    order = []
    while ready:
        order.append(heapq.heappop(ready))
        for index in after.get(order[-1], ()):
            waiting[index] -= 1
            if not waiting[index]:
                heapq.heappush(ready, index)
    if len(order) < len(graph.node):
        stuck = next(node for node, count in zip(graph.node, waiting, strict=True) if count)
        raise ValueError(f"{path} has a cycle: {line(stuck.name or stuck.op_type)} needs its own output")
    nodes = [graph.node[index] for index in order]
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _taken(node: NodeProto) -> set[str]:
    """The names that the node takes, and the graphs inside it take from around them."""
    names = set(node.input)
    for _, graph in subgraphs(node):
        own = {value.name for value in graph.input} | {name for name, _, _ in arrays(graph)}
        taken = {value.name for value in graph.output}
        for inner in graph.node:
            taken |= _taken(inner)
            own.update(inner.output)
        names |= taken - own
    return names


# Checks -------------------------------------------------------------------------------------------------------------


def _check_texts(graph: GraphProto, path: Path) -> None:
    """Raises ValueError for texts that are none, and for equations of which shape inference would not return."""
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        if not isinstance(value.name, str):
            raise ValueError(f"{path} has a tensor {quoted(value.name)} with a name that is not UTF-8")
    for node in graph.node:
        name = node.name or node.op_type
        if not all(isinstance(text, str) for text in (name, node.op_type, node.domain, *node.input, *node.output)):
            raise ValueError(f"{path} has a node {quoted(name)} with a name that is not UTF-8")
        for attribute in node.attribute:
            if attribute.name == "equation" and not _EQUATION.fullmatch(attribute.s.replace(b" ", b"")):
                raise ValueError(
                    f"{path} has a node {line(name)} with an equation that is not one: {quoted(attribute.s)}"
                )


def _check_values(graph: GraphProto, path: Path) -> None:
    """Raises ValueError for what shape inference accepts in damaged or malicious files."""
    from onnx import TensorProto

    formats = set(TensorProto.DataType.values())
    declared = ((name, value.tensor_type.elem_type, full_shape(value)) for name, value in types(graph).items())
    for name, elem_type, shape in (*declared, *((name, kind, shape) for name, kind, shape in arrays(graph))):
        if elem_type not in formats:
            raise ValueError(f"{path} gives {line(name)} a number format that does not exist: {elem_type}")
        if shape and (min(shape) < 0 or math.prod(shape) >= 2**63):
            raise ValueError(f"{path} gives {line(name)} an impossible size: {line(times(shape))}")


def is_standard(node: NodeProto) -> bool:
    """Whether the operator is ONNX's own."""
    return node.domain == ""


def types(graph: GraphProto) -> dict[str, TypeProto]:
    """The types that the graph states for its tensors, without those of its arrays."""
    return {info.name: info.type for info in (*graph.input, *graph.value_info, *graph.output)}


def full_shape(value: TypeProto) -> Shape | None:
    """The shape of a tensor; None unless every size is known."""
    if not value.tensor_type.HasField("shape"):
        return None
    sizes = [_size(dim) for dim in value.tensor_type.shape.dim]
    known = tuple(size for size in sizes if size is not None)
    return known if len(known) == len(sizes) else None


def arrays(graph: GraphProto) -> Iterator[tuple[str, int, Shape]]:
    """Name, number format and shape of every array of the graph."""
    for dense in graph.initializer:
        yield dense.name, dense.data_type, tuple(dense.dims)
    for sparse in graph.sparse_initializer:
        yield sparse.values.name, sparse.values.data_type, tuple(sparse.dims)


def _size(dim: TensorShapeProto.Dimension) -> int | None:
    return dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None
