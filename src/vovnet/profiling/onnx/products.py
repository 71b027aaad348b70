"""The cost of convolutions, matrix products, recurrent layers and attention of an ONNX file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from vovnet.profiling.cost_types import Cost, Shape

if TYPE_CHECKING:
    from onnx import NodeProto

RECURRENT = ("GRU", "LSTM", "RNN")
# Positions of input and weight among the inputs of a product.
_PRODUCTS: dict[str, tuple[int, ...]] = dict.fromkeys(
    ("Conv", "ConvTranspose", "ConvInteger", "DeformConv", "Gemm", "MatMul", "MatMulInteger"), (0, 1)
)
_PRODUCTS |= dict.fromkeys(("QLinearConv", "QLinearMatMul"), (0, 3))
_PRODUCTS |= dict.fromkeys(RECURRENT, (0, 1, 2))  # the second weight is for the hidden state
_PRODUCTS |= {"Einsum": (0,), "Attention": (0, 1, 2)}
# Those of ONNX Runtime that have no equal in ONNX. Where keys may be missing, they are packed with the queries.
_OF_RUNTIME: dict[str, tuple[int, ...]] = {"Attention": (0, 1), "QAttention": (0, 1), "MultiHeadAttention": (0,)}
_OF_RUNTIME |= dict.fromkeys(("FusedMatMul", "FusedMatMulActivation", "TransposeMatMul"), (0, 1))

ShapeOf = Callable[[str], Shape | None]
_MISFIT = (KeyError, IndexError, ValueError, ZeroDivisionError, TypeError, StopIteration)


def product_inputs(node: NodeProto) -> tuple[int, ...] | None:
    """The positions of the inputs that a product must have; None if the node is no product."""
    if node.domain == "com.microsoft":
        return _OF_RUNTIME.get(node.op_type)
    return _PRODUCTS.get(node.op_type) if node.domain == "" else None


def product_cost(node: NodeProto, shape_of: ShapeOf) -> Cost | None:
    """The cost of a product; None if the shapes are not known, or are not those of such a node."""
    try:
        if node.domain or node.op_type == "Attention":
            return _cost_and_shape(node, shape_of)[0]
        return _einsum_cost(node, shape_of) if node.op_type == "Einsum" else _layer_cost(node, shape_of)
    except _MISFIT:
        return None


def runtime_shape(node: NodeProto, shape_of: ShapeOf) -> Shape | None:
    """The shape of the first output of a product of ONNX Runtime."""
    try:
        return _cost_and_shape(node, shape_of)[1]
    except _MISFIT:
        return None


def _cost_and_shape(node: NodeProto, shape_of: ShapeOf) -> tuple[Cost, Shape]:
    return _matmul_cost(node, shape_of) if "MatMul" in node.op_type else _attention_cost(node, shape_of)


def flag(node: NodeProto, name: str) -> bool:
    return any(attribute.name == name and attribute.i for attribute in node.attribute)


def _layer_cost(node: NodeProto, shape_of: ShapeOf) -> Cost | None:
    names = [node.input[position] for position in _PRODUCTS[node.op_type]]
    names += [] if node.op_type in RECURRENT else node.output[:1]  # a recurrent node may omit its output
    x, weight, output = (_known(shape_of, name) for name in names)  # of recurrent nodes the second weight comes last
    if node.op_type in RECURRENT:
        return _recurrent_cost(x, weight, output, steps_at=int(flag(node, "layout")))
    if node.op_type == "Gemm":
        multiply_adds = math.prod(output) * x[0 if flag(node, "transA") else 1]
    elif "MatMul" in node.op_type:
        multiply_adds = math.prod(output) * x[-1]
        x, weight = (weight, x) if len(weight) == 1 else (x, weight)  # a vector is never the weight
    else:  # the first dimension of the weight is that of the output, or of the input if transposed
        positions = x if node.op_type == "ConvTranspose" else output
        multiply_adds = math.prod(positions) * math.prod(weight[1:])
    read, written, weights = map(math.prod, (x, output, weight))
    return Cost.of_product(multiply_adds=multiply_adds, read=read, written=written, weight=weights)


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


def _matmul_cost(node: NodeProto, shape_of: ShapeOf) -> tuple[Cost, Shape]:
    """Of ONNX Runtime's MatMul, which can turn its factors."""
    if flag(node, "transBatchA") or flag(node, "transBatchB"):
        raise ValueError("factors with their batch turned have no rule")
    a, b = (
        (*shape[:-2], shape[-1], shape[-2]) if flag(node, f"trans{factor}") else shape
        for factor, shape in zip("AB", (_known(shape_of, name) for name in node.input), strict=False)
    )
    (rows, inner), (inner_too, columns) = a[-2:], b[-2:]
    if inner != inner_too:
        raise ValueError("factors do not fit each other")
    output = (*np.broadcast_shapes(a[:-2], b[:-2]), rows, columns)
    elements = math.prod(output)
    cost = Cost.of_product(multiply_adds=elements * inner, read=math.prod(a), written=elements, weight=math.prod(b))
    return cost, output


# Einsum -------------------------------------------------------------------------------------------------------------


def _einsum_cost(node: NodeProto, shape_of: ShapeOf) -> Cost:
    """Operands are multiplied from left to right. An index that only one of them has is summed before."""
    shapes = [_known(shape_of, name) for name in node.input]
    equation = next(attribute.s.decode() for attribute in node.attribute if attribute.name == "equation")
    terms, result = _indices(equation.replace(" ", ""), shapes)
    sizes: dict[Any, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for index, size in zip(term, shape, strict=True):
            sizes[index] = size if sizes.get(index, 1) == 1 else sizes[index]  # 1 is broadcast

    def elements(*of: Any) -> int:
        return math.prod(sizes[index] for index in set().union(*of))

    left, cost = list(terms[0]), Cost()
    for position, right in enumerate(terms[1:], 1):
        later = set(result).union(*terms[position + 1 :])
        a, b = (
            {index for index in term if index in later | set(other)} for term, other in ((left, right), (right, left))
        )
        kept = [index for index in dict.fromkeys((*left, *right)) if index in later]
        if (a & b) - set(kept):
            cost += Cost.of_product(
                multiply_adds=elements(a, b), read=elements(a), written=elements(kept), weight=elements(b)
            )
        else:  # nothing is summed
            cost += Cost(other_elements=elements(a) + elements(b) + elements(kept))
        left = kept
    if len(terms) == 1 and set(left) != set(result):  # a sum; without one, it is a view
        cost += Cost(other_elements=elements(left) + elements(result))
    return cost


def _indices(equation: str, shapes: list[Shape]) -> tuple[list[list[Any]], list[Any]]:
    """The indices of each operand and of the result: letters, and numbers for what "..." stands for."""
    inputs, arrow, output = equation.partition("->")
    terms: list[list[Any]] = []
    for text, shape in zip(inputs.split(","), shapes, strict=True):
        before, dots, after = text.partition("...")
        hidden = range(len(shape) - len(before) - len(after)) if dots else range(0)
        terms.append([*before, *reversed(hidden), *after])  # numbered from the last, as broadcasting aligns them
    if arrow:
        before, dots, after = output.partition("...")
        hidden_sizes = max((index for term in terms for index in term if isinstance(index, int)), default=-1) + 1
        return terms, [*before, *(reversed(range(hidden_sizes)) if dots else ()), *after]
    counts = Counter(index for term in terms for index in term)
    letters = sorted(index for index, count in counts.items() if isinstance(index, str) and count == 1)
    return terms, [*sorted((index for index in counts if isinstance(index, int)), reverse=True), *letters]


# Attention ----------------------------------------------------------------------------------------------------------


def _attention_cost(node: NodeProto, shape_of: ShapeOf) -> tuple[Cost, Shape]:
    """Also the shape of the first output. Counted as its matrix products and the softmax between them."""
    ints = {attribute.name: attribute.i for attribute in node.attribute}

    def given(position: int) -> Shape | None:
        named = position < len(node.input) and node.input[position]
        return _known(shape_of, node.input[position]) if named else None

    if node.domain == "":
        return _attention_of_onnx(given, ints)
    if node.op_type == "MultiHeadAttention":
        return _multi_head_attention(given, ints["num_heads"])
    return _self_attention(node, given, past=given(8 if node.op_type == "QAttention" else 4))


def _attention_of_onnx(given: Callable[[int], Shape | None], ints: dict[str, int]) -> tuple[Cost, Shape]:
    """Queries, keys and values are (N, heads, positions, size) or (N, positions, heads · size)."""
    q, k, v = (_needed(given(position)) for position in range(3))
    past = given(4)
    if len(q) == 3:
        heads, of_keys = ints["q_num_heads"], ints["kv_num_heads"]
        (n, rows, size), columns, of_values = q, k[1], v[2] // of_keys
        size //= heads
        output: Shape = (n, rows, heads * of_values)
    else:
        (n, heads, rows, size), (_, of_keys, columns, _), of_values = q, k, v[3]
        output = (n, heads, rows, of_values)
    columns += past[2] if past else 0
    return _scaled_products(n, (heads, of_keys), (rows, columns), (size, of_values)), output


def _multi_head_attention(given: Callable[[int], Shape | None], heads: int) -> tuple[Cost, Shape]:
    """ONNX Runtime's, without the projections.

    Queries may be packed with keys and values as (N, positions, heads, 3, size), keys with values as (N, positions,
    heads, 2, size). Keys and values may be (N, heads, positions, size).
    """
    q, k, v, past = _needed(given(0)), given(1), given(2), given(6)
    n, rows = q[:2]
    size = q[4] if len(q) == 5 else q[2] // heads
    if k is None:
        columns, of_values = rows, size
    elif v is None:
        columns, of_values = k[1], k[4]
    elif len(k) == 4:
        columns, of_values = k[2], v[3]
    else:
        columns, of_values = k[1], v[2] // heads
    columns += past[2] if past else 0
    cost = _scaled_products(n, (heads, heads), (rows, columns), (size, of_values))
    return cost, (n, rows, heads * of_values)


def _self_attention(node: NodeProto, given: Callable[[int], Shape | None], past: Shape | None) -> tuple[Cost, Shape]:
    """ONNX Runtime's, with the projection of the input (N, positions, channels) to queries, keys and values."""
    (n, rows, c_in), (_, c_out) = _needed(given(0)), _needed(given(1))
    heads = next(attribute.i for attribute in node.attribute if attribute.name == "num_heads")
    hidden = [list(attribute.ints) for attribute in node.attribute if attribute.name == "qkv_hidden_sizes"]
    of_queries, _, of_values = hidden[0] if hidden and hidden[0] else [c_out // 3] * 3
    projection = Cost.of_product(
        multiply_adds=n * rows * c_in * c_out, read=n * rows * c_in, written=n * rows * c_out, weight=c_in * c_out
    )
    columns = rows + (past[3] if past else 0)
    sizes = of_queries // heads, of_values // heads
    return projection + _scaled_products(n, (heads, heads), (rows, columns), sizes), (n, rows, of_values)


def _scaled_products(n: int, heads: tuple[int, int], scores: tuple[int, int], sizes: tuple[int, int]) -> Cost:
    """heads: of queries, and of keys and values. scores: rows, columns. sizes: of queries and keys, and of values."""
    (of_queries, of_keys), (rows, columns), (size, of_values) = heads, scores, sizes
    weights = n * of_queries * rows * columns
    return (
        Cost.of_product(
            multiply_adds=weights * size,
            read=n * of_queries * rows * size,
            written=weights,
            weight=n * of_keys * columns * size,
        )
        + Cost(other_elements=2 * weights)
        + Cost.of_product(
            multiply_adds=weights * of_values,
            read=weights,
            written=n * of_queries * rows * of_values,
            weight=n * of_keys * columns * of_values,
        )
    )


def _known(shape_of: ShapeOf, name: str) -> Shape:
    return _needed(shape_of(name))


def _needed(shape: Shape | None) -> Shape:
    """Raises ValueError if it is not known."""
    if shape is None:
        raise ValueError("a shape is not known")
    return shape
