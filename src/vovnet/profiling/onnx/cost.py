"""Counting the cost of a forward pass of an ONNX file, node by node, with the definitions of operation_cost.py.

Every node of the file counts as it is; a runtime may fuse some of them. Export merges a batch norm into the convolution
before it: its scale, shift and elements are gone then, and the convolution has a bias instead. The bias of a linear
layer on more than two dimensions becomes an Add, which reads and writes. Nodes that ONNX Runtime has fused count as the
ONNX operators that they stand for.

*Products* are Conv, ConvTranspose, DeformConv, Gemm, MatMul, Einsum, Attention, their quantised forms, and those in the
steps of GRU, LSTM and RNN. The arithmetic of the gates is not counted. In each direction, one product takes the input
of all steps, and each step has one product with its hidden state. Operations that are views in PyTorch (Reshape,
Transpose, Slice, Split, Expand …) are free. So is everything that does not depend on the values of the input, such as
the sizes of feature maps, and weights on their way through Cast, Transpose or DequantizeLinear: it is computed once,
when the file is loaded. Graphs inside nodes count as onnx_control.py says.

*Parameters* are the constants that nodes work with: floating-point ones, those of at most 8 bits, and biases of
products in any format. Not counted are the statistics of a batch norm, scales and zero points of a quantisation,
arguments such as the sizes of a Resize, and single numbers outside products and norms. A file does not distinguish
trained weights from other arrays, such as the mean of a normalisation that is part of the model.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vovnet.profiling.cost_types import Cost, ModelCost, Shape
from vovnet.profiling.onnx.control import CONTROL, Outcome, Steps, count_inside
from vovnet.profiling.onnx.graph import (
    SHARED,
    OnnxGraph,
    all_graphs,
    dtype_name,
    full_shape,
    is_standard,
    read_graph,
    subgraphs,
    types,
)
from vovnet.profiling.onnx.products import RECURRENT, product_cost, product_inputs, runtime_shape
from vovnet.profiling.onnx.scope import Inference, Known, Scope, tensor_type
from vovnet.profiling.onnx.tally import Place, Row, Tally

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto, TypeProto

MAX_EXTRA_VISITS = 30_000  # of nodes of loops inside each other, whose bodies are visited several times

_NORMS = {f"{kind}Normalization" for kind in ("Batch", "Instance", "Group", "Layer", "RMS")}
_MEMORY_ONLY = re.compile(
    r"""(Batch|Instance|Group|Layer|RMS|Lp|MeanVariance)Normalization | LRN | (Global)?(Average|Max|Lp)Pool | MaxUnpool
    | Relu | (Leaky|P|Thresholded)Relu | [CGS]?elu | Elu | Hard(Sigmoid|Swish|max) | Mish | Shrink | Sigmoid | Swish
    | Soft(plus|sign) | (Log)?Softmax | A(cos|sin|tan)h? | (Cos|Sin|Tan)h? | Abs | Add | And | Bit(Shift|wise\w+)
    | Cast(Like)? | Ceil | Clip | Div | Equal | Erf | Exp | Floor | (Greater|Less)(OrEqual)? | Is(Inf|NaN) | Log | Max
    | Mean | Min | Mod | Mul | Neg | Not | Or | Pow | Reciprocal | Round | Sign | Sqrt | Sub | Sum | Where | Xor
    | (Dynamic)?QuantizeLinear | DequantizeLinear | Reduce\w+ | Arg(Max|Min) | CumSum | NonZero | TopK | Unique | Concat
    | Pad | Tile | Resize | Upsample | DepthToSpace | SpaceToDepth | Col2Im | Compress | Gather(Elements|ND)?
    | NonMaxSuppression
    | Scatter(Elements|ND)? | OneHot | Trilu | EyeLike | Range | ConstantOfShape | Bernoulli | Random\w+""",
    re.VERBOSE,
)
_FREE = re.compile("Constant|Dropout|Expand|Flatten|Identity|Reshape|Shape|Size|Slice|Split|(Uns|S)queeze|Transpose")
_SELECTS = {"Compress", "Gather", "GatherElements", "GatherND"}  # read as many elements as they write
_TAKE_ONE = {"If", "Shape", "Size"}
_NMS, _INT64 = "NonMaxSuppression", 7  # of TensorProto
_RANDOM = {"Bernoulli", "Multinomial"}  # and operators whose names begin with Random

# Positions of inputs that are not weights even if they are floating-point or of 8 bits.
_ARGUMENTS = {
    "BatchNormalization": (3, 4),
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    **dict.fromkeys(RECURRENT, (4, 5, 6)),  # lengths and initial states
    "ConvInteger": (2, 3),
    "MatMulInteger": (2, 3),
    "QAttention": (3, 4, 5, 6, 7),
    "Clip": (1, 2),
    "Pad": (1, 2, 3),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
}
_NOT_WEIGHTS = {"BOOL", "STRING", "INT16", "INT32", "INT64", "UINT16", "UINT32", "UINT64"}


def count_onnx_cost(path: str | Path, input_shape: Shape | None = None) -> ModelCost:
    """The cost of the ONNX file, with a row for each node.

    The path of a row is the name of the node or of its first output, after those of the nodes around it; its kind is
    the operator. Values are computed only for sizes; files beside it that hold the weights may be missing. Nodes whose
    shapes depend on values, or follow from an operator that is not known, count only their parameters; they are in
    `uncounted`, and `note` names them. So are loops whose number of passes depends on values; one pass is counted. The
    number format is that of the input of the first product.

    Takes an `input_shape` and raises errors as `read_graph` does. Raises ValueError also for graphs inside each other
    that would take hours to count.
    """
    path = Path(path)
    return _Count(path, read_graph(path, input_shape)).result()


class _Count:
    """Goes through the nodes of a graph, and through the graphs inside them."""

    def __init__(self, path: Path, model: OnnxGraph) -> None:
        self.path = path
        self.model = model
        self.infer = Inference(path, model.opsets)
        self.arrays: dict[Place, tuple[Known, str]] = {}  # array of the file → also the name of its number format
        self.visits = 0
        self.most_visits = MAX_EXTRA_VISITS + 2 * sum(len(graph.node) for graph in all_graphs(model.graph))
        self.steps = Steps()

    def result(self) -> ModelCost:
        shapes = [full_shape(value.type) for value in self.model.inputs]
        tally, _ = self.count(self.model.graph, Scope({"": Known(origins=frozenset())}), (), "", ())
        formats = (row.format for row in tally.rows if row.format is not None)
        dtype = dtype_name(next(formats, _format_name(Known(self.model.inputs[0].type))))
        known = tuple(shape for shape in shapes if shape is not None)
        return ModelCost(self.path.name, known, dtype, tally.layers(), dict(tally.uncounted), tally.note())

    def count(
        self, graph: GraphProto, scope: Scope, place: Place, prefix: str, inputs: Sequence[Known]
    ) -> tuple[Tally, list[Known]]:
        """The tally of the graph and what is known of its outputs; `scope` gets all its tensors.

        place, prefix: of the nodes around it, as positions and as the beginning of paths.
        inputs: what is known of its first inputs beyond what the graph states.
        """
        stated = types(graph)
        for index, value in enumerate(graph.input):
            known = inputs[index] if index < len(inputs) else Known()
            scope[value.name] = known if known.type is not None else replace(known, type=value.type)
        for array in graph.initializer:
            scope[array.name] = self._array(array, (*place, array.name))
        for sparse in graph.sparse_initializer:
            name = sparse.values.name
            scope[name] = self._array(sparse.values, (*place, name), tuple(sparse.dims))
        tally = Tally()
        for index, node in enumerate(graph.node):
            self.visits += 1
            if self.visits > self.most_visits:
                raise ValueError(f"{self.path} has loops inside each other with too many nodes to count")
            self._check(node)
            path = prefix + (node.name or node.output[0])
            inside = self._inside(node, scope, (*place, index), path)
            outputs = self._outputs(node, scope, (*place, index)) if inside is None else inside.outputs
            self._define(node, outputs, scope, stated)
            if inside is None:
                tally.add(self._tally(node, path, scope))
            else:
                tally.add(inside.tally)
                if not inside.complete:
                    tally.add(self._uncounted(node, path, scope))
        return tally, [scope.get(value.name, Known()) for value in graph.output]

    def _check(self, node: NodeProto) -> None:
        """Raises ValueError for a node without the inputs that counting needs; shape inference accepts such files."""
        needed = 1 + max(product_inputs(node) or (-1,)) or int(node.op_type in _TAKE_ONE)
        if not node.output or (is_standard(node) and len(node.input) < needed):
            name = node.name or node.op_type
            raise ValueError(f"{self.path} has a node {name} without the inputs or outputs it needs")

    # What is known of tensors ---------------------------------------------------------------------------------------

    def _array(self, array: TensorProto, place: Place, shape: Shape | None = None) -> Known:
        if place not in self.arrays:
            known = self.infer.array(array, place, shape)
            self.arrays[place] = known, _format_name(known)
        return self.arrays[place][0]

    def _constant(self, node: NodeProto, place: Place) -> Known:
        import numpy as np
        from onnx import helper, numpy_helper

        attribute = node.attribute[0]
        if attribute.HasField("t"):
            shared = attribute.t.name.startswith(SHARED)
            return self._array(attribute.t, (attribute.t.name,) if shared else place)
        if attribute.HasField("sparse_tensor"):
            return self._array(attribute.sparse_tensor.values, place, tuple(attribute.sparse_tensor.dims))
        return self._array(numpy_helper.from_array(np.asarray(helper.get_attribute_value(attribute))), place)

    def _inside(self, node: NodeProto, scope: Scope, place: Place, path: str) -> Outcome | None:
        """None for a node without graphs inside it."""
        graphs = dict(subgraphs(node))
        if not graphs:
            return None

        def body(name: str, inputs: Sequence[Known]) -> tuple[Tally, list[Known]]:
            prefix = f"{path}/{name}/" if len(graphs) > 1 else f"{path}/"
            return self.count(graphs[name], scope.new_child(), (*place, name), prefix, inputs)

        given = [scope.get(name, Known()) for name in node.input]
        return count_inside(node, path, given, body, self.steps)

    def _outputs(self, node: NodeProto, scope: Scope, place: Place) -> list[Known]:
        """What is known of the outputs of a node without graphs inside it."""
        if is_standard(node) and node.op_type == "Constant":
            return [self._constant(node, place)]
        given = [scope.get(name, Known()) for name in node.input]
        if not is_standard(node) and product_inputs(node) is not None:
            shape = runtime_shape(node, lambda name: scope.get(name, Known()).shape)
            return [Known(tensor_type(given[0].format, shape))]
        outputs = _most_selected(node, given) or self.infer.outputs(node, given)
        random = node.op_type in _RANDOM or node.op_type.startswith("Random")
        if not is_standard(node) or random or any(known.origins is None for known in given):
            return outputs
        origins = frozenset[Place]().union(*(scope[name].origins or () for name in _without_arguments(node)))
        return [replace(known, origins=origins) for known in outputs]

    def _define(self, node: NodeProto, outputs: list[Known], scope: Scope, stated: dict[str, TypeProto]) -> None:
        """Put the outputs into the scope, with what the graph states where nothing is known."""
        for index, name in enumerate(node.output):
            known = outputs[index] if index < len(outputs) else Known()
            if known.shape is None and name in stated and (known.type is None or full_shape(stated[name])):
                known = replace(known, type=stated[name])
            if name:
                scope[name] = known

    # Cost -----------------------------------------------------------------------------------------------------------

    def _tally(self, node: NodeProto, path: str, scope: Scope) -> Tally:
        """Of a node without graphs inside it."""
        outputs = [scope[name] for name in node.output if name]
        constant = bool(outputs) and all(known.origins is not None for known in outputs)
        if is_standard(node) and (constant or _FREE.fullmatch(node.op_type)):
            return Tally()
        if product_inputs(node) is not None:
            return self._row(node, path, scope, product_cost(node, lambda name: scope.get(name, Known()).shape))
        if is_standard(node) and _MEMORY_ONLY.fullmatch(node.op_type):
            tally = self._row(node, path, scope, _memory_cost(node, _changing(node, scope), outputs))
            return replace(tally, most={path: None}) if node.op_type == _NMS else tally
        return self._uncounted(node, path, scope)

    def _uncounted(self, node: NodeProto, path: str, scope: Scope) -> Tally:
        if is_standard(node) and node.op_type in CONTROL:
            return Tally(uncounted=Counter([node.op_type]))
        inputs = [scope.get(name, Known()) for name in node.input if name]
        traffic = _memory_cost(node, inputs, [scope[name] for name in node.output if name])
        return self._row(node, path, scope, traffic, arithmetic_known=False)

    def _row(
        self, node: NodeProto, path: str, scope: Scope, traffic: Cost | None, *, arithmetic_known: bool = True
    ) -> Tally:
        shapes = [
            tuple(known.shape for known in tensors if known.shape is not None)
            for tensors in (_changing(node, scope), [scope[name] for name in node.output if name])
        ]
        multiplied = product_inputs(node) is not None and traffic is not None
        uncounted = traffic is None or not arithmetic_known
        missing = Cost(uncounted_calls=int(uncounted), unsized_calls=int(traffic is None))
        row = Row(
            path=path,
            kind=node.op_type,
            cost=(traffic or Cost()) + missing,
            weights=self._weights(node, scope),
            format=_format_name(scope.get(node.input[0], Known())) if multiplied else None,
            input_shapes=shapes[0],
            output_shapes=shapes[1],
        )
        tally = Tally([row])
        if traffic is None:
            tally.unsized[path] = None
        if uncounted:
            tally.uncounted[node.op_type if is_standard(node) else f"{node.domain}::{node.op_type}"] = 1
        return tally

    def _weights(self, node: NodeProto, scope: Scope) -> dict[Place, int]:
        """The arrays among the inputs that are parameters, and their elements."""
        product = product_inputs(node) is not None
        weights = {}
        names = _without_arguments(node)
        for place in frozenset[Place]().union(*(scope.get(name, Known()).origins or () for name in names)):
            array, format_name = self.arrays[place]
            size = math.prod(array.shape or (0,)) if array.shape != () else 1
            trained = format_name not in _NOT_WEIGHTS or (format_name == "INT32" and product)
            if trained and (size != 1 or product or node.op_type in _NORMS):
                weights[place] = size
        return weights


def _most_selected(node: NodeProto, given: Sequence[Known]) -> list[Known] | None:
    """The output of an NMS that selects as many boxes as it may: how many it does depends on values."""
    if not is_standard(node) or node.op_type != _NMS or len(given) < 2:
        return None
    shape = given[1].shape  # of the scores: batch, classes, boxes
    limit = given[2].value if len(given) > 2 else None
    if shape is None or len(shape) != 3 or limit is None or limit.size != 1:
        return None
    batch, classes, boxes = shape
    return [Known(tensor_type(_INT64, (batch * classes * min(boxes, max(0, int(limit.item()))), 3)))]


def _memory_cost(node: NodeProto, inputs: list[Known], outputs: list[Known]) -> Cost | None:
    """None if a shape is not known."""
    read, written = ([known.shape for known in tensors if known.shape is not None] for tensors in (inputs, outputs))
    if len(read) < len(inputs) or len(written) < len(outputs):
        return None
    elements_read, elements_written = sum(map(math.prod, read)), sum(map(math.prod, written))
    norm = math.prod(written[0]) if node.op_type == "BatchNormalization" and written else 0
    other = elements_written + (elements_written if node.op_type in _SELECTS else elements_read)
    return Cost(other_elements=other, batch_norm_elements=norm)


def _changing(node: NodeProto, scope: Scope) -> list[Known]:
    """The inputs that depend on the values of the input of the model."""
    return [known for name in node.input if (known := scope.get(name, Known())).origins is None]


def _without_arguments(node: NodeProto) -> list[str]:
    return [name for i, name in enumerate(node.input) if i not in _ARGUMENTS.get(node.op_type, ())]


def _format_name(known: Known) -> str:
    from onnx import TensorProto

    return TensorProto.DataType.Name(known.format)
