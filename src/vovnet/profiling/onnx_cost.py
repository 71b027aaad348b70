"""What one pass of an exported ONNX file costs on paper, node by node, by the definitions of `vovnet.profiling.cost`.

The nodes are counted as they stand in the file; a runtime may fuse some of them. Export folds a batch norm into the
convolution before it: its scale, shift and elements are gone then, and the convolution has a bias instead. The bias of
a linear layer on more than two dimensions becomes an Add, which reads and writes.

*Products* are Conv, ConvTranspose, Gemm and MatMul and their quantised forms, and those of the steps of GRU, LSTM and
RNN, whose gates are not looked at: in each direction one product takes the input of all steps, and each step has one of
its hidden state. What PyTorch has as a view (Reshape,
Transpose, Slice, Split, Expand …) is free, and so is what does not depend on the values of the input: it is computed
once, when the file is loaded. Such are the sizes of maps, and weights on their way through Cast, Transpose or
DequantizeLinear.

*Parameters* are the constants of the file that nodes work with: floating-point or of 8 bits and fewer, biases of
products of any format. Statistics of a batch norm, scales and zero points of a quantisation, arguments such as the
sizes of a Resize, and single numbers that no product or norm takes are none. A file does not tell trained weights from
other arrays, such as the mean of a normalisation inside it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vovnet.profiling.cost import Cost, LayerCost, ModelCost, Shape

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorShapeProto, ValueInfoProto

# Where input and weight stand among the inputs of a product.
_PRODUCTS: dict[str, tuple[int, ...]] = dict.fromkeys(
    ("Conv", "ConvTranspose", "ConvInteger", "Gemm", "MatMul", "MatMulInteger"), (0, 1)
)
_PRODUCTS |= dict.fromkeys(("QLinearConv", "QLinearMatMul"), (0, 3))
_RECURRENT = ("GRU", "LSTM", "RNN")
_PRODUCTS |= dict.fromkeys(_RECURRENT, (0, 1, 2))  # with a second weight, of the hidden state

_NORMS = {f"{kind}Normalization" for kind in ("Batch", "Instance", "Group", "Layer", "RMS")}
_NO_PRODUCT = re.compile(
    r"""(Batch|Instance|Group|Layer|RMS|Lp|MeanVariance)Normalization | LRN | (Global)?(Average|Max|Lp)Pool | MaxUnpool
    | Relu | (Leaky|P|Thresholded)Relu | [CGS]?elu | Elu | Hard(Sigmoid|Swish|max) | Mish | Shrink | Sigmoid | Swish
    | Soft(plus|sign) | (Log)?Softmax | A(cos|sin|tan)h? | (Cos|Sin|Tan)h? | Abs | Add | And | Bit(Shift|wise\w+)
    | Cast(Like)? | Ceil | Clip | Div | Equal | Erf | Exp | Floor | (Greater|Less)(OrEqual)? | Is(Inf|NaN) | Log | Max
    | Mean | Min | Mod | Mul | Neg | Not | Or | Pow | Reciprocal | Round | Sign | Sqrt | Sub | Sum | Where | Xor
    | (Dynamic)?QuantizeLinear | DequantizeLinear | Reduce\w+ | Arg(Max|Min) | CumSum | NonZero | TopK | Unique | Concat
    | Pad | Tile | Resize | Upsample | DepthToSpace | SpaceToDepth | Col2Im | Compress | Gather(Elements|ND)?
    | Scatter(Elements|ND)? | OneHot | Trilu | EyeLike | Range | ConstantOfShape | Bernoulli | Random\w+""",
    re.VERBOSE,
)
_FREE = re.compile("Constant|Dropout|Expand|Flatten|Identity|Reshape|Shape|Size|Slice|Split|(Uns|S)queeze|Transpose")
_SELECTS = {"Compress", "Gather", "GatherElements", "GatherND"}  # read only what they write
_SIZES = {"Shape", "Size"}
_NEVER_KNOWN = {"Bernoulli", "If", "Loop", "Multinomial", "Scan"}  # and what begins with Random

# Positions of inputs that are no weights even where they are floating-point or of 8 bits.
_ARGUMENTS = {
    "BatchNormalization": (3, 4),
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    **dict.fromkeys(_RECURRENT, (4, 5, 6)),  # lengths and the states to begin with
    "ConvInteger": (2, 3),
    "MatMulInteger": (2, 3),
    "Clip": (1, 2),
    "Pad": (1, 2, 3),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
}
_NO_WEIGHTS = {"BOOL", "STRING", "INT16", "INT32", "INT64", "UINT16", "UINT32", "UINT64"}


def count_onnx_cost(path: str | Path, input_shape: Shape | None = None) -> ModelCost:
    """The cost of the ONNX file for an input of `input_shape`; None is the file's own, where that leaves nothing open.

    A row is a node: its path is the node's name, or its first output's, its kind the operator. Only shapes are
    computed, no weights are read, so the files beside it that hold them may be missing. Nodes whose shapes depend on
    values, or follow from an operator that is not ONNX's own, are in `uncounted` and `note` names them; they count
    nothing but their parameters. Of If, Loop and Scan, uncounted too, the inside is not looked at. The number format is
    that of the first product's input.

    Raises FileNotFoundError, ValueError for a file that is no sound ONNX model with one input or cannot take this
    shape, and ModuleNotFoundError without the package onnx.
    """
    path = Path(path)
    model = _load(path)
    image = _image_input(model.graph, path)
    shape = _fix_input(image, input_shape, path)
    _bind_symbols(model.graph, image, shape)
    graph = _infer_shapes(model, path)
    _check(graph, path)
    return _Count(graph).result(path.name, image.name, shape)


def _load(path: Path) -> ModelProto:
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{path} needs an extra: pip install 'vovnet[onnx]'", name=error.name) from error
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except DecodeError as error:
        raise ValueError(f"{path} is no ONNX model: {error}") from None
    if not model.graph.node:
        raise ValueError(f"{path} is no ONNX model, or one without a node")
    return model


def _image_input(graph: GraphProto, path: Path) -> ValueInfoProto:
    constants = {name for name, _, _ in _initializers(graph)}  # old files have these among the inputs
    images = [one for one in graph.input if one.name not in constants]
    if len(images) != 1 or not images[0].type.HasField("tensor_type"):
        names = ", ".join(one.name for one in images) or "none"
        raise ValueError(f"{path} must have one input, a tensor of images, and has {names}")
    return images[0]


def _fix_input(image: ValueInfoProto, wanted: Shape | None, path: Path) -> Shape:
    """The shape to count for; raises ValueError where the file cannot take it or leaves it open."""
    declared = image.type.tensor_type
    own = [_size(dim) for dim in declared.shape.dim] if declared.HasField("shape") else None
    if wanted is None:
        if own is None or None in own:
            raise ValueError(f"{path} leaves the shape of its input {image.name} open: give input_shape")
        return tuple(size for size in own if size is not None)
    fits = own is None or (len(own) == len(wanted) and all(a in (None, b) for a, b in zip(own, wanted, strict=True)))
    if not fits or min(wanted, default=1) < 1:
        expected = "positive sizes" if own is None else " × ".join("any" if a is None else str(a) for a in own)
        raise ValueError(f"{path} takes {expected}, got an input of {' × '.join(map(str, wanted))}")
    return tuple(wanted)


def _bind_symbols(graph: GraphProto, image: ValueInfoProto, shape: Shape) -> None:
    """Give the input its shape, and the same sizes to every dimension that goes by the same name."""
    declared = image.type.tensor_type.shape
    sizes = {dim.dim_param: size for dim, size in zip(declared.dim, shape, strict=False) if dim.dim_param}
    del declared.dim[:]
    for size in shape:
        declared.dim.add().dim_value = size
    declared.SetInParent()  # also a shape without dimensions is one
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


def _check(graph: GraphProto, path: Path) -> None:
    """What shape inference passes over, as it stands in files that are damaged or made to harm."""
    from onnx import TensorProto

    for node in graph.node:
        name = node.name or node.op_type
        if not all(isinstance(text, str) for text in (name, node.op_type, node.domain, *node.input, *node.output)):
            raise ValueError(f"{path} has a node {name!r} with a name that is not UTF-8")
        needed = 1 + max(_PRODUCTS.get(node.op_type, (-1,))) or int(node.op_type in _SIZES)
        if not node.output or (_is_standard(node) and len(node.input) < needed):
            raise ValueError(f"{path} has a node {name} without the inputs or outputs that it needs")
    for value, elem_type, shape in _values(graph):
        if elem_type not in TensorProto.DataType.values():
            raise ValueError(f"{path} gives {value} a number format that does not exist: {elem_type}")
        if shape and (min(shape) < 0 or math.prod(shape) >= 2**63):
            raise ValueError(f"{path} gives {value} an impossible size: {' × '.join(map(str, shape))}")


class _Count:
    """Walks over the nodes of a graph whose shapes were inferred."""

    def __init__(self, graph: GraphProto) -> None:
        from onnx import TensorProto

        self.graph = graph
        self.types = {name: TensorProto.DataType.Name(elem_type) for name, elem_type, _ in _values(graph)}
        self.shapes = {name: shape for name, _, shape in _values(graph) if shape is not None}
        # What does not depend on the values of the input → the arrays of the file that it is made from.
        self.known = {"": frozenset[str]()} | {name: frozenset({name}) for name, _, _ in _initializers(graph)}
        self.counted: set[str] = set()  # arrays that are parameters of an earlier node

    def result(self, kind: str, image: str, shape: Shape) -> ModelCost:
        rows, uncounted, unsized = [], Counter[str](), []
        multiplied: list[str] = []
        for node in self.graph.node:
            if _is_standard(node) and (self._becomes_known(node) or _FREE.fullmatch(node.op_type)):
                continue
            inputs = [name for name in node.input if name not in self.known]
            outputs = [name for name in node.output if name]
            path, cost = node.name or node.output[0], Cost(parameters=self._parameters(node))
            counted = _is_product(node) or (_is_standard(node) and _NO_PRODUCT.fullmatch(node.op_type))
            moving = (
                self._product(node)
                if _is_product(node)
                else self._other(node, inputs if counted else list(filter(None, node.input)), outputs)
            )
            if moving is None:
                unsized.append(path)
            else:
                cost += moving
                multiplied += node.input[:1] if _is_product(node) else []
            if moving is None or not counted:
                uncounted[node.op_type if _is_standard(node) else f"{node.domain}::{node.op_type}"] += 1
            if cost != Cost():
                ends = {"input_shapes": self._sized(inputs), "output_shapes": self._sized(outputs)}
                rows.append(LayerCost(path=path, kind=node.op_type, **vars(cost) | ends))
        dtype = self.types[next(iter(multiplied), image)]
        return ModelCost(kind, (shape,), _torch_name(dtype), tuple(rows), dict(uncounted), _note(unsized))

    def _becomes_known(self, node: NodeProto) -> bool:
        if node.op_type in _SIZES:
            if node.input[0] not in self.shapes:
                return False
            origins = frozenset[str]()
        elif node.op_type == "Constant":
            origins = frozenset(node.output)
        elif node.op_type in _NEVER_KNOWN or node.op_type.startswith("Random"):
            return False
        elif all(name in self.known for name in node.input):
            origins = frozenset().union(*(self.known[name] for name in _without_arguments(node)))
        else:
            return False
        self.known |= dict.fromkeys(node.output, origins)
        return True

    def _parameters(self, node: NodeProto) -> int:
        """Of this node and of none before it."""
        sure = _is_product(node) or node.op_type in _NORMS
        weights = {}
        for name in frozenset[str]().union(*(self.known.get(name, ()) for name in _without_arguments(node))):
            size, elem_type = math.prod(self.shapes.get(name, (0,))), self.types[name]
            trained = elem_type not in _NO_WEIGHTS or (elem_type == "INT32" and _is_product(node))
            if trained and (size != 1 or sure) and name not in self.counted:
                weights[name] = size
        self.counted |= weights.keys()
        return sum(weights.values())

    def _product(self, node: NodeProto) -> Cost | None:
        """None where a shape is not known, as of the other nodes."""
        names = [node.input[position] for position in _PRODUCTS[node.op_type]]
        names += [] if node.op_type in _RECURRENT else node.output[:1]  # theirs may be left out
        if not all(name in self.shapes for name in names):
            return None
        x, weight, output = (self.shapes[name] for name in names)  # of the recurrent, a second weight comes last
        if node.op_type in _RECURRENT:
            return _recurrent(x, weight, output, steps_at=int(_flag(node, "layout")))
        if node.op_type == "Gemm":
            multiply_adds = math.prod(output) * x[0 if _flag(node, "transA") else 1]
        elif "MatMul" in node.op_type:
            multiply_adds = math.prod(output) * x[-1]
            x, weight = (weight, x) if len(weight) == 1 else (x, weight)  # of the two, a vector is not the weight
        else:  # the weight's first dimension is that of the output, or of the input if transposed
            positions = x if node.op_type == "ConvTranspose" else output
            multiply_adds = math.prod(positions) * math.prod(weight[1:])
        return _cost(multiply_adds, *map(math.prod, (x, output, weight)))

    def _other(self, node: NodeProto, inputs: list[str], outputs: list[str]) -> Cost | None:
        if not all(name in self.shapes for name in (*inputs, *outputs)):
            return None
        read, written = (sum(map(math.prod, self._sized(names))) for names in (inputs, outputs))
        norm = math.prod(self.shapes[outputs[0]]) if node.op_type == "BatchNormalization" and outputs else 0
        return Cost(other_elements=written + (written if node.op_type in _SELECTS else read), batch_norm_elements=norm)

    def _sized(self, names: list[str]) -> tuple[Shape, ...]:
        return tuple(self.shapes[name] for name in names if name in self.shapes)


def _recurrent(x: Shape, of_input: Shape, of_state: Shape, steps_at: int) -> Cost | None:
    """Weights are (directions, gates · H, I) and (directions, gates · H, H)."""
    if not len(x) == len(of_input) == len(of_state) == 3:
        return None
    (directions, gates, c_in), hidden = of_input, of_state[2]
    steps, images = x[steps_at], x[1 - steps_at]

    def product(rows: int, c: int, times: int) -> Cost:
        return _cost(rows * c * gates, rows * c, rows * gates, c * gates, times)

    return product(steps * images, c_in, directions) + product(images, hidden, directions * steps)


def _cost(multiply_adds: int, read: int, written: int, weight: int, times: int = 1) -> Cost:
    bound = 2 * math.sqrt(read * written) + weight
    return Cost(
        multiply_adds=times * multiply_adds,
        memory_access_cost=times * (read + written + weight),
        memory_access_bound=times * bound,
    )


def _is_standard(node: NodeProto) -> bool:
    return node.domain in ("", "ai.onnx")


def _is_product(node: NodeProto) -> bool:
    return _is_standard(node) and node.op_type in _PRODUCTS


def _flag(node: NodeProto, name: str) -> bool:
    return any(attribute.name == name and attribute.i for attribute in node.attribute)


def _without_arguments(node: NodeProto) -> list[str]:
    return [name for i, name in enumerate(node.input) if i not in _ARGUMENTS.get(node.op_type, ())]


def _values(graph: GraphProto) -> Iterator[tuple[str, int, Shape | None]]:
    """Name, number format, and shape where it is known, of all tensors that the file tells of."""
    for info in (*graph.input, *graph.value_info, *graph.output):
        if info.type.HasField("tensor_type"):
            declared = info.type.tensor_type
            sizes = [_size(dim) for dim in declared.shape.dim]
            known = tuple(size for size in sizes if size is not None)
            whole = declared.HasField("shape") and len(known) == len(sizes)
            yield info.name, declared.elem_type, known if whole else None
    yield from _initializers(graph)


def _initializers(graph: GraphProto) -> Iterator[tuple[str, int, Shape]]:
    for dense in graph.initializer:
        yield dense.name, dense.data_type, tuple(dense.dims)
    for sparse in graph.sparse_initializer:
        yield sparse.values.name, sparse.values.data_type, tuple(sparse.dims)


def _size(dim: TensorShapeProto.Dimension) -> int | None:
    return dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None


def _torch_name(elem_type: str) -> str:
    return {"FLOAT": "float32", "DOUBLE": "float64"}.get(elem_type, elem_type.lower())


def _note(unsized: list[str]) -> str | None:
    if not unsized:
        return None
    names = ", ".join(unsized[:5]) + (f" and {len(unsized) - 5} more" if len(unsized) > 5 else "")
    return f"the sizes of these nodes do not follow from the input's shape, so they are not in the counts: {names}"
