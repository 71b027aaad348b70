"""Counting the cost of a forward pass of an ONNX file, node by node, with the definitions of operation_cost.py.

Every node of the file counts as it is; a runtime may fuse some of them. Export merges a batch norm into the convolution
before it: its scale, shift and elements are gone then, and the convolution has a bias instead. The bias of a linear
layer on more than two dimensions becomes an Add, which reads and writes.

*Products* are Conv, ConvTranspose, Gemm and MatMul, their quantised forms, and those in the steps of GRU, LSTM and RNN.
The arithmetic of the gates is not counted. In each direction, one product takes the input of all steps, and each step
has one product with its hidden state. Operations that are views in PyTorch (Reshape, Transpose, Slice, Split, Expand …)
are free. So is everything that does not depend on the values of the input, such as the sizes of feature maps, and
weights on their way through Cast, Transpose or DequantizeLinear: it is computed once, when the file is loaded.

*Parameters* are the constants that nodes work with: floating-point ones, those of at most 8 bits, and biases of
products in any format. Not counted are the statistics of a batch norm, scales and zero points of a quantisation,
arguments such as the sizes of a Resize, and single numbers outside products and norms. A file does not distinguish
trained weights from other arrays, such as the mean of a normalisation that is part of the model.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from vovnet.profiling.cost_types import Cost, LayerCost, ModelCost, Shape
from vovnet.profiling.onnx_graph import initializers, is_standard, read_graph, tensors

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

# Positions of input and weight among the inputs of a product.
_PRODUCTS: dict[str, tuple[int, ...]] = dict.fromkeys(
    ("Conv", "ConvTranspose", "ConvInteger", "Gemm", "MatMul", "MatMulInteger"), (0, 1)
)
_PRODUCTS |= dict.fromkeys(("QLinearConv", "QLinearMatMul"), (0, 3))
_RECURRENT = ("GRU", "LSTM", "RNN")
_PRODUCTS |= dict.fromkeys(_RECURRENT, (0, 1, 2))  # the second weight is for the hidden state

_NORMS = {f"{kind}Normalization" for kind in ("Batch", "Instance", "Group", "Layer", "RMS")}
_MEMORY_ONLY = re.compile(
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
_SELECTS = {"Compress", "Gather", "GatherElements", "GatherND"}  # read as many elements as they write
_SIZES = {"Shape", "Size"}
_NEVER_KNOWN = {"Bernoulli", "If", "Loop", "Multinomial", "Scan"}  # and operators whose names begin with Random

# Positions of inputs that are not weights even if they are floating-point or of 8 bits.
_ARGUMENTS = {
    "BatchNormalization": (3, 4),
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    **dict.fromkeys(_RECURRENT, (4, 5, 6)),  # lengths and initial states
    "ConvInteger": (2, 3),
    "MatMulInteger": (2, 3),
    "Clip": (1, 2),
    "Pad": (1, 2, 3),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
}
_NOT_WEIGHTS = {"BOOL", "STRING", "INT16", "INT32", "INT64", "UINT16", "UINT32", "UINT64"}


def count_onnx_cost(path: str | Path, input_shape: Shape | None = None) -> ModelCost:
    """The cost of the ONNX file, with a row for each node.

    The path of a row is the name of the node or of its first output, its kind is the operator. Only shapes are
    computed; files beside it that hold the weights may be missing. Nodes whose shapes depend on values, or follow from
    an operator that is not ONNX's own, count only their parameters; they are in `uncounted`, and `note` names them.
    The bodies of If, Loop and Scan are not counted. The number format is that of the input of the first product.

    Takes an `input_shape` and raises errors as `read_graph` does.
    """
    path = Path(path)
    graph, image, shape = read_graph(path, input_shape)
    _check_nodes(graph, path)
    return _Count(graph).result(path.name, image.name, shape)


def _check_nodes(graph: GraphProto, path: Path) -> None:
    """Raises ValueError for a node without the inputs that counting needs; shape inference accepts such files."""
    for node in graph.node:
        needed = 1 + max(_PRODUCTS.get(node.op_type, (-1,))) or int(node.op_type in _SIZES)
        if not node.output or (is_standard(node) and len(node.input) < needed):
            raise ValueError(f"{path} has a node {node.name or node.op_type} without the inputs or outputs it needs")


class _Count:
    """Goes through the nodes of a graph with inferred shapes."""

    def __init__(self, graph: GraphProto) -> None:
        from onnx import TensorProto

        self.graph = graph
        self.types = {name: TensorProto.DataType.Name(elem_type) for name, elem_type, _ in tensors(graph)}
        self.shapes = {name: shape for name, _, shape in tensors(graph) if shape is not None}
        # Tensor that does not depend on the values of the input → arrays of the file that it is computed from.
        self.constants = {"": frozenset[str]()} | {name: frozenset({name}) for name, _, _ in initializers(graph)}
        self.counted: set[str] = set()  # arrays already counted as parameters of an earlier node

    def result(self, kind: str, image: str, shape: Shape) -> ModelCost:
        rows, uncounted, unsized = [], Counter[str](), []
        multiplied: list[str] = []
        for node in self.graph.node:
            if is_standard(node) and (self._add_constant(node) or _FREE.fullmatch(node.op_type)):
                continue
            inputs = [name for name in node.input if name not in self.constants]
            outputs = [name for name in node.output if name]
            path, cost = node.name or node.output[0], Cost(parameters=self._parameters(node))
            counted = True
            if _is_product(node):
                traffic = self._product_cost(node)
                multiplied += [] if traffic is None else node.input[:1]
            elif is_standard(node) and _MEMORY_ONLY.fullmatch(node.op_type):
                traffic = self._memory_cost(node, inputs, outputs)
            else:
                traffic, counted = self._memory_cost(node, list(filter(None, node.input)), outputs), False
            if traffic is None:
                unsized.append(path)
            else:
                cost += traffic
            if traffic is None or not counted:
                uncounted[node.op_type if is_standard(node) else f"{node.domain}::{node.op_type}"] += 1
                cost += Cost(uncounted_calls=1, unsized_calls=int(traffic is None))
            if cost != Cost():
                shapes = {"input_shapes": self._known_shapes(inputs), "output_shapes": self._known_shapes(outputs)}
                rows.append(LayerCost(path=path, kind=node.op_type, **vars(cost) | shapes))
        elem_type = self.types[next(iter(multiplied), image)]
        dtype = {"FLOAT": "float32", "DOUBLE": "float64"}.get(elem_type, elem_type.lower())
        return ModelCost(kind, (shape,), dtype, tuple(rows), dict(uncounted), _note(unsized))

    def _add_constant(self, node: NodeProto) -> bool:
        """Add the outputs to `constants` unless they depend on the values of the input; True if they were added."""
        if node.op_type in _SIZES:
            if node.input[0] not in self.shapes:
                return False
            origins = frozenset[str]()
        elif node.op_type == "Constant":
            origins = frozenset(node.output)
        elif node.op_type in _NEVER_KNOWN or node.op_type.startswith("Random"):
            return False
        elif all(name in self.constants for name in node.input):
            origins = frozenset().union(*(self.constants[name] for name in _without_arguments(node)))
        else:
            return False
        self.constants |= dict.fromkeys(node.output, origins)
        return True

    def _parameters(self, node: NodeProto) -> int:
        """The number of parameters of this node that no earlier node has."""
        takes_weights = _is_product(node) or node.op_type in _NORMS
        weights = {}
        for name in frozenset[str]().union(*(self.constants.get(name, ()) for name in _without_arguments(node))):
            size, elem_type = math.prod(self.shapes.get(name, (0,))), self.types[name]
            trained = elem_type not in _NOT_WEIGHTS or (elem_type == "INT32" and _is_product(node))
            if trained and (size != 1 or takes_weights) and name not in self.counted:
                weights[name] = size
        self.counted |= weights.keys()
        return sum(weights.values())

    def _product_cost(self, node: NodeProto) -> Cost | None:
        """None if a shape is not known."""
        names = [node.input[position] for position in _PRODUCTS[node.op_type]]
        names += [] if node.op_type in _RECURRENT else node.output[:1]  # a recurrent node may omit its output
        if not all(name in self.shapes for name in names):
            return None
        x, weight, output = (self.shapes[name] for name in names)  # for recurrent nodes the second weight comes last
        if node.op_type in _RECURRENT:
            return _recurrent_cost(x, weight, output, steps_at=int(_flag(node, "layout")))
        if node.op_type == "Gemm":
            multiply_adds = math.prod(output) * x[0 if _flag(node, "transA") else 1]
        elif "MatMul" in node.op_type:
            multiply_adds = math.prod(output) * x[-1]
            x, weight = (weight, x) if len(weight) == 1 else (x, weight)  # a vector is never the weight
        else:  # the first dimension of the weight is that of the output, or of the input if transposed
            positions = x if node.op_type == "ConvTranspose" else output
            multiply_adds = math.prod(positions) * math.prod(weight[1:])
        read, written, weights = map(math.prod, (x, output, weight))
        return Cost.of_product(multiply_adds=multiply_adds, read=read, written=written, weight=weights)

    def _memory_cost(self, node: NodeProto, inputs: list[str], outputs: list[str]) -> Cost | None:
        if not all(name in self.shapes for name in (*inputs, *outputs)):
            return None
        read, written = (sum(map(math.prod, self._known_shapes(names))) for names in (inputs, outputs))
        norm = math.prod(self.shapes[outputs[0]]) if node.op_type == "BatchNormalization" and outputs else 0
        return Cost(other_elements=written + (written if node.op_type in _SELECTS else read), batch_norm_elements=norm)

    def _known_shapes(self, names: list[str]) -> tuple[Shape, ...]:
        return tuple(self.shapes[name] for name in names if name in self.shapes)


def _recurrent_cost(x: Shape, of_input: Shape, of_state: Shape, steps_at: int) -> Cost | None:
    """Weights are (directions, gates · H, I) and (directions, gates · H, H)."""
    if not len(x) == len(of_input) == len(of_state) == 3:
        return None
    (directions, gates, c_in), hidden = of_input, of_state[2]
    steps, images = x[steps_at], x[1 - steps_at]

    def product(rows: int, c: int, times: int) -> Cost:
        return Cost.of_product(
            multiply_adds=rows * c * gates, read=rows * c, written=rows * gates, weight=c * gates, times=times
        )

    return product(steps * images, c_in, directions) + product(images, hidden, directions * steps)


def _is_product(node: NodeProto) -> bool:
    return is_standard(node) and node.op_type in _PRODUCTS


def _flag(node: NodeProto, name: str) -> bool:
    return any(attribute.name == name and attribute.i for attribute in node.attribute)


def _without_arguments(node: NodeProto) -> list[str]:
    return [name for i, name in enumerate(node.input) if i not in _ARGUMENTS.get(node.op_type, ())]


def _note(unsized: list[str]) -> str | None:
    if not unsized:
        return None
    names = ", ".join(unsized[:5]) + (f" and {len(unsized) - 5} more" if len(unsized) > 5 else "")
    return f"the sizes of these nodes do not follow from the shape of the input, so they are not counted: {names}"
