from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from vovnet.profiling.cost import count_cost
from vovnet.profiling.onnx.cost import count_onnx_cost

from .onnx_files import (
    FLOAT,
    IMAGE,
    MODELS,
    PIXELS,
    Exported,
    TensorProto,
    array,
    helper,
    node,
    numbers,
    only,
    write,
)


@pytest.mark.parametrize("name", MODELS)
def test_an_exported_model_costs_what_the_module_costs(exported: Callable[[str], Exported], name: str) -> None:
    model = exported(name)
    cost = count_onnx_cost(model.path)
    expected, total = count_cost(model.module, model.shape).total, cost.total
    assert total.multiply_adds == expected.multiply_adds > 0
    assert total.memory_access_cost == expected.memory_access_cost
    assert total.memory_access_bound == pytest.approx(expected.memory_access_bound)
    assert cost.uncounted == {}
    assert cost.note is None
    assert cost.input_shapes == (model.shape,)
    assert cost.dtype == "float32"
    assert total.batch_norm_elements == 0  # all are folded
    # The bias of a linear layer on three dimensions becomes an addition.
    added = 2 * 16 * 36 if name == "attention" else 0
    assert total.other_elements == expected.other_elements - 2 * expected.batch_norm_elements + added


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_those_of_the_module_less_what_folding_merges(
    exported: Callable[[str], Exported], name: str
) -> None:
    model = exported(name)
    widths = [part.num_features for part in model.module.modules() if isinstance(part, nn.BatchNorm2d)]
    # The scale goes into the weight and the shift becomes the bias; where there was a bias, both go.
    merged = 2 * sum(widths) if name == "parts" else sum(widths)
    assert (
        count_onnx_cost(model.path).total.parameters == count_cost(model.module, model.shape).total.parameters - merged
    )


@pytest.mark.parametrize(
    ("kind", "shape", "weight", "attributes", "multiply_adds", "written"),
    [
        pytest.param("Conv", IMAGE, (8, 4, 3, 3), {"pads": [1] * 4}, 36 * 9 * 32, 36 * 8, id="convolution"),
        pytest.param(
            "Conv", IMAGE, (8, 4, 3, 3), {"pads": [1] * 4, "strides": [2, 2]}, 9 * 9 * 32, 9 * 8, id="strided"
        ),
        pytest.param("Conv", IMAGE, (8, 2, 1, 1), {"group": 2}, 36 * 16, 36 * 8, id="grouped"),
        pytest.param("Conv", (2, *IMAGE[1:]), (4, 1, 1, 1), {"group": 4}, 72 * 4, 72 * 4, id="depthwise, two images"),
        pytest.param("ConvTranspose", IMAGE, (4, 5, 2, 2), {"strides": [2, 2]}, 36 * 4 * 20, 144 * 5, id="transposed"),
        pytest.param(
            "ConvTranspose", IMAGE, (4, 3, 2, 2), {"strides": [2, 2], "group": 2}, 36 * 4 * 12, 144 * 6, id="both"
        ),
        pytest.param("Gemm", (3, 20), (20, 7), {}, 3 * 140, 21, id="linear"),
        pytest.param("Gemm", (3, 20), (7, 20), {"transB": 1}, 3 * 140, 21, id="linear, weight turned"),
        pytest.param("Gemm", (20, 3), (20, 7), {"transA": 1}, 3 * 140, 21, id="linear, input turned"),
        pytest.param("MatMul", (2, 5, 20), (20, 7), {}, 10 * 140, 70, id="rows times a matrix"),
    ],
)
def test_products(
    tmp_path: Path,
    kind: str,
    shape: tuple[int, ...],
    weight: tuple[int, ...],
    attributes: dict[str, Any],
    multiply_adds: int,
    written: int,
) -> None:
    path = write(tmp_path, node(kind, "x w", name="it", **attributes), constants=[array("w", *weight)], shape=shape)
    row = only(count_onnx_cost(path))
    read, kept = math.prod(shape), math.prod(weight)
    assert (row.path, row.kind, row.input_shapes) == ("it", kind, (shape,))
    assert math.prod(row.output_shapes[0]) == written
    assert row.multiply_adds == multiply_adds
    assert row.memory_access_cost == read + written + kept
    assert row.memory_access_bound == pytest.approx(2 * math.sqrt(read * written) + kept)
    assert row.parameters == kept
    assert row.other_elements == 0


def test_biases_are_parameters_but_no_memory_access(tmp_path: Path) -> None:
    path = write(tmp_path, node("Conv", "x w b"), constants=[array("w", 8, 4, 1, 1), array("b", 8)])
    row = only(count_onnx_cost(path))
    assert row.path == "y"  # a node without a name has the name of its output
    assert row.parameters == 40
    assert row.memory_access_cost == 144 + 288 + 32


def test_a_matrix_times_a_vector(tmp_path: Path) -> None:
    path = write(tmp_path, node("MatMul", "w x"), constants=[array("w", 7, 5)], shape=(5,))
    row = only(count_onnx_cost(path))
    assert row.multiply_adds == row.parameters == 35
    assert row.memory_access_bound == pytest.approx(2 * math.sqrt(5 * 7) + 35)


def test_the_second_of_two_activations_counts_as_the_weight(tmp_path: Path) -> None:
    path = write(tmp_path, node("Transpose", "x", "t", perm=[0, 2, 1]), node("MatMul", "x t"), shape=(2, 5, 3))
    row = only(count_onnx_cost(path))
    assert row.multiply_adds == 2 * 5 * 5 * 3
    assert row.memory_access_cost == 30 + 30 + 50
    assert row.memory_access_bound == pytest.approx(2 * math.sqrt(30 * 50) + 30)
    assert row.parameters == 0
    assert row.input_shapes == ((2, 5, 3), (2, 3, 5))


def test_quantised_products(tmp_path: Path) -> None:
    scales = [array(name, dtype=np.float32) for name in ("xs", "ws", "ys")]
    zeros = [array(name, dtype=np.uint8) for name in ("xz", "wz", "yz")]
    weights = [array("w", 8, 4, 1, 1, dtype=np.uint8), array("b", 8, dtype=np.int32)]
    path = write(
        tmp_path,
        node("QuantizeLinear", "x xs xz", "q"),
        node("QLinearConv", "q xs xz w ws wz ys yz b", "c"),
        node("DequantizeLinear", "c ys yz", "y"),
        constants=[*scales, *zeros, *weights],
    )
    cost = count_onnx_cost(path)
    before, product, after = cost.layers
    assert product.multiply_adds == PIXELS * 32
    assert product.memory_access_cost == 144 + 288 + 32
    assert product.parameters == cost.total.parameters == 40
    assert (before.other_elements, after.other_elements) == (2 * 144, 2 * 288)
    assert cost.dtype == "uint8"
    assert cost.uncounted == {}


def test_integer_products(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        node("ConvInteger", "x w xz wz"),
        constants=[array("w", 8, 4, 1, 1, dtype=np.int8), array("xz", dtype=np.uint8), array("wz", 8, dtype=np.int8)],
        elem_type=TensorProto.UINT8,
        outputs={"y": TensorProto.INT32},
    )
    row = only(count_onnx_cost(path))
    assert row.multiply_adds == PIXELS * 32
    assert row.parameters == 32


@pytest.mark.parametrize(
    "way",
    [
        pytest.param([node("Constant", "", "w", value=array("", 8, 4, 1, 1))], id="constant"),
        pytest.param([node("Cast", "h", "w", to=FLOAT)], id="cast"),
        pytest.param([node("DequantizeLinear", "q s z", "w", axis=0)], id="dequantised"),
        pytest.param([node("Transpose", "t", "k", perm=[3, 2, 0, 1]), node("Identity", "k", "w")], id="turned"),
    ],
)
def test_weights_on_their_way_to_a_product_are_free_and_count_once(tmp_path: Path, way: list[Any]) -> None:
    if way[0].op_type == "Constant":
        del way[0].input[:]
    constants = [
        array("h", 8, 4, 1, 1, dtype=np.float16),
        array("q", 8, 4, 1, 1, dtype=np.int8),
        array("s", 8),
        array("z", 8, dtype=np.int8),
        array("t", 1, 1, 4, 8),
        array("unused", 1000),
    ]
    path = write(
        tmp_path, *way, node("Conv", "x w", "a"), node("Conv", "x w", "b"), node("Add", "a b"), constants=constants
    )
    cost = count_onnx_cost(path)
    assert [(row.kind, row.parameters, row.multiply_adds) for row in cost.layers] == [
        ("Conv", 32, PIXELS * 32),
        ("Conv", 0, PIXELS * 32),
        ("Add", 0, 0),
    ]
    assert cost.layers[0].memory_access_cost == 144 + 288 + 32
    assert cost.uncounted == {}


@pytest.mark.parametrize(
    ("operation", "constants", "elements", "parameters"),
    [
        pytest.param(node("Concat", "x x", axis=1), [], 4 * 144, 0, id="concatenation"),
        pytest.param(node("Relu", "x"), [], 2 * 144, 0, id="activation"),
        pytest.param(node("Pad", "x p"), [numbers("p", 0, 0, 1, 1, 0, 0, 1, 1)], 144 + 4 * 64, 0, id="pad"),
        pytest.param(node("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2]), [], 144 + 36, 0, id="pool"),
        pytest.param(node("GlobalAveragePool", "x"), [], 144 + 4, 0, id="global pool"),
        pytest.param(node("Resize", "x  s"), [array("s", 4)], 2 * 144, 0, id="resize"),
        pytest.param(node("BatchNormalization", "x a b c d"), [array(n, 4) for n in "abcd"], 2 * 144, 8, id="norm"),
        pytest.param(node("Mul", "x a"), [array("a", 4, 1, 1)], 2 * 144, 4, id="a learned scale"),
        pytest.param(node("Mul", "x a"), [array("a")], 2 * 144, 0, id="a number of the formula"),
        pytest.param(node("PRelu", "x a"), [array("a", 4, 1, 1)], 2 * 144, 4, id="slopes"),
        pytest.param(node("Gather", "x i", axis=1), [numbers("i", 0, 2)], 2 * 72, 0, id="a choice"),
        pytest.param(node("ReduceMean", "x i"), [numbers("i", 2, 3)], 144 + 4, 0, id="mean"),
    ],
)
def test_other_operations_read_and_write(
    tmp_path: Path, operation: Any, constants: list[TensorProto], elements: int, parameters: int
) -> None:
    row = only(count_onnx_cost(write(tmp_path, operation, constants=constants)))
    assert row.other_elements == elements
    assert row.parameters == parameters
    assert row.multiply_adds == row.memory_access_cost == 0
    assert row.batch_norm_elements == (144 if operation.op_type == "BatchNormalization" else 0)


def test_views_are_free(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        node("Transpose", "x", "a"),
        node("Identity", "a", "b"),
        node("Flatten", "b", "c"),
        node("Unsqueeze", "c i", "d"),
        node("Split", "d", "e f", num_outputs=2),
        node("Reshape", "e j"),
        constants=[numbers("i", 0), numbers("j", -1)],
        outputs={"y": FLOAT, "f": FLOAT},
    )
    cost = count_onnx_cost(path)
    assert cost.layers == ()
    assert cost.uncounted == {}
    assert cost.note is None


def test_an_unknown_operator_is_named_and_its_elements_count(tmp_path: Path) -> None:
    declared = [helper.make_tensor_value_info("a", FLOAT, ("batch", 2, 6, 6))]
    nodes = node("Foo", "x", "a", domain="their", name="foo"), node("Relu", "a")
    path = write(tmp_path, *nodes, shape=("batch", *IMAGE[1:]), value_info=declared)
    cost = count_onnx_cost(path, (2, *IMAGE[1:]))
    assert cost.uncounted == {"their::Foo": 1}
    assert cost.note is None
    assert [row.other_elements for row in cost.layers] == [2 * (144 + 72), 2 * 2 * 72]

    # The shape of its output is not declared, so the shapes after it are not known either.
    cost = count_onnx_cost(write(tmp_path, *nodes))
    assert cost.uncounted == {"their::Foo": 1, "Relu": 1}
    assert cost.note is not None
    assert cost.note.endswith("so they are not counted: foo, y")
    assert [(layer.path, layer.uncounted_calls, layer.unsized_calls) for layer in cost.layers] == [
        ("foo", 1, 1),
        ("y", 1, 1),
    ]
    assert cost.total.elements == 0


def test_a_known_operator_without_a_rule_is_named_and_its_weights_are_read(tmp_path: Path) -> None:
    cost = count_onnx_cost(write(tmp_path, node("GridSample", "x w"), constants=[array("w", 1, 6, 6, 2)]))
    assert cost.uncounted == {"GridSample": 1}
    assert cost.total.parameters == 72
    assert cost.total.other_elements == 144 + 72 + 144


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize(("kind", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_recurrent_layers_cost_what_the_module_costs(tmp_path: Path, kind: str, gates: int, layout: int) -> None:
    hidden, directions = 6, 2
    constants = [array("w", directions, gates * hidden, 8), array("r", directions, gates * hidden, hidden)]
    constants += [array("b", directions, 2 * gates * hidden), array("h", directions, 2, hidden)]
    attributes = {"hidden_size": hidden, "direction": "bidirectional", "layout": layout}
    recurrent = helper.make_node(kind, ["x", "w", "r", "b", "", "h"], ["", "y"], **attributes)
    row = only(
        count_onnx_cost(write(tmp_path, recurrent, constants=constants, shape=(2, 5, 8) if layout else (5, 2, 8)))
    )
    module = getattr(nn, kind)(8, hidden, bidirectional=True)
    expected = count_cost(module, (5, 2, 8)).total
    assert row.parameters == expected.parameters  # the initial state is not a parameter
    assert row.multiply_adds == expected.multiply_adds == 5 * 2 * 2 * gates * hidden * (8 + hidden)
    assert row.memory_access_cost == expected.memory_access_cost
    assert row.memory_access_bound == pytest.approx(expected.memory_access_bound)


def test_recurrent_weights_of_a_wrong_rank_are_not_guessed(tmp_path: Path) -> None:
    constants = [array("w", 24, 8), array("r", 1, 24, 6)]
    path = write(tmp_path, node("LSTM", "x w r", hidden_size=6), constants=constants, shape=(5, 2, 8))
    assert count_onnx_cost(path).uncounted == {"LSTM": 1}


def test_shapes_that_depend_on_values_are_named_and_not_guessed(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        node("NonZero", "x", "found", name="found"),
        node("Cast", "found", "float", to=FLOAT, name="cast"),
        node("MatMul", "w float", name="product"),
        node("Relu", "x", "other"),
        constants=[array("w", 5, 4)],
        outputs={"y": FLOAT, "other": FLOAT},
    )
    cost = count_onnx_cost(path)
    assert cost.uncounted == {"NonZero": 1, "Cast": 1, "MatMul": 1}
    assert cost.note is not None
    assert cost.note.endswith("found, cast, product")
    assert cost.total.parameters == 20
    assert cost.total.multiply_adds == 0
    assert cost.total.other_elements == 2 * 144
