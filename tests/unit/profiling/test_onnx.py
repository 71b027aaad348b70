from __future__ import annotations

import copy
import math
import pickle
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vovnet import create_backbone
from vovnet.profiling.cost import count_cost
from vovnet.profiling.cost_types import LayerCost, ModelCost
from vovnet.profiling.onnx_cost import count_onnx_cost
from vovnet.profiling.onnx_module import OnnxModule

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

FLOAT = TensorProto.FLOAT
IMAGE = (1, 4, 6, 6)
PIXELS = 36


# What the exporter makes of modules that PyTorch counts.


class Parts(nn.Module):
    """A norm after a layer with a bias, groups, a transposed convolution, a concatenation, a pool, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False)
        self.up = nn.ConvTranspose2d(16, 6, 4, 2, 1, groups=2)
        self.linear = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.norm(self.stem(x)))
        x = F.max_pool2d(self.up(torch.cat([x, self.grouped(x)], 1)), 3, 2, 1)
        return self.linear(x.mean((2, 3))), F.hardswish(x)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(12), nn.Linear(12, 36)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x.flatten(2).transpose(1, 2))).chunk(3, -1)
        return F.gelu((q @ k.transpose(1, 2) / 3).softmax(-1) @ v)


@dataclass(frozen=True)
class Exported:
    path: Path
    module: nn.Module
    shape: tuple[int, int, int, int]


def resnet18() -> nn.Module:
    from torchvision.models import resnet18 as build

    return build(num_classes=10)


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int, int]]] = {
    "parts": (Parts, (2, 3, 16, 16)),
    "attention": (Attention, (1, 12, 4, 4)),
    "vovnet27_slim": (lambda: create_backbone("vovnet27_slim", features_only=True), (1, 3, 64, 64)),
    "resnet18": (resnet18, (1, 3, 64, 64)),
}


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """Each model is exported once, at its first use."""
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("exported")
    done: dict[str, Exported] = {}

    def get(name: str) -> Exported:
        if name not in done:
            build, shape = MODELS[name]
            torch.manual_seed(0)
            module = build().eval()
            for part in module.modules():
                if isinstance(part, nn.BatchNorm2d):  # a fresh norm shifts by zero, and such a bias is left out
                    for values in (part.running_mean, part.bias):
                        nn.init.uniform_(values, 0.1, 0.2)  # type: ignore[arg-type]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(module, (torch.rand(shape),), folder / f"{name}.onnx", dynamo=True, verbose=False)
            done[name] = Exported(folder / f"{name}.onnx", module, shape)
        return done[name]

    return get


@pytest.mark.parametrize("name", MODELS)
def test_an_exported_model_costs_what_the_module_costs(exported: Callable[[str], Exported], name: str) -> None:
    one = exported(name)
    cost = count_onnx_cost(one.path)
    expected, total = count_cost(one.module, one.shape).total, cost.total
    assert total.multiply_adds == expected.multiply_adds > 0
    assert total.memory_access_cost == expected.memory_access_cost
    assert total.memory_access_bound == pytest.approx(expected.memory_access_bound)
    assert cost.uncounted == {}
    assert cost.note is None
    assert cost.input_shapes == (one.shape,)
    assert cost.dtype == "float32"
    assert total.batch_norm_elements == 0  # all are folded
    # Of a linear layer on three dimensions the bias becomes an addition.
    added = 2 * 16 * 36 if name == "attention" else 0
    assert total.other_elements == expected.other_elements - 2 * expected.batch_norm_elements + added


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_those_of_the_module_less_what_folding_merges(
    exported: Callable[[str], Exported], name: str
) -> None:
    one = exported(name)
    widths = [part.num_features for part in one.module.modules() if isinstance(part, nn.BatchNorm2d)]
    # The scale goes into the weight and the shift becomes the bias; where there was a bias, both go.
    merged = 2 * sum(widths) if name == "parts" else sum(widths)
    assert count_onnx_cost(one.path).total.parameters == count_cost(one.module, one.shape).total.parameters - merged


@pytest.mark.parametrize("name", MODELS)
def test_an_exported_model_gives_what_the_module_gives(exported: Callable[[str], Exported], name: str) -> None:
    one = exported(name)
    module = OnnxModule(one.path, threads=1)
    assert module.input_shape == one.shape
    assert module.input_dtype == torch.float32
    images = torch.rand(one.shape).to(memory_format=torch.channels_last)
    with torch.no_grad():
        outputs, expected = module(images), one.module(images)
    expected = [expected] if isinstance(expected, Tensor) else expected
    assert isinstance(outputs, tuple)
    assert len(outputs) == len(expected)
    for output, other in zip(outputs, expected, strict=True):
        assert output.dtype == torch.float32
        torch.testing.assert_close(output, other, rtol=1e-4, atol=1e-4)
    assert module.count_cost(one.shape) == count_onnx_cost(one.path)


def test_weights_beside_the_file_are_not_needed_to_count_but_to_run(
    exported: Callable[[str], Exported], tmp_path: Path
) -> None:
    one = exported("vovnet27_slim")
    assert one.path.with_name(f"{one.path.name}.data").exists()
    alone = tmp_path / one.path.name
    alone.write_bytes(one.path.read_bytes())
    assert count_onnx_cost(alone) == count_onnx_cost(one.path)
    with pytest.raises(ValueError, match=r"cannot be loaded by ONNX Runtime: .*vovnet27_slim\.onnx\.data"):
        OnnxModule(alone)


# Graphs by hand.


def array(name: str, *shape: int, dtype: Any = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.ones(shape, dtype), name)


def numbers(name: str, *values: int) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def write(
    folder: Path,
    *nodes: Any,
    constants: Sequence[TensorProto] = (),
    shape: Sequence[int | str] | None = IMAGE,
    elem_type: int = FLOAT,
    outputs: dict[str, int] | None = None,
    inputs: Sequence[Any] | None = None,
    functions: Sequence[Any] = (),
    value_info: Sequence[Any] = (),
) -> Path:
    """A file with input x; the outputs are name → number format, as it stands y of float32."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", elem_type, shape)] if inputs is None else inputs,
        [helper.make_tensor_value_info(name, kind, None) for name, kind in (outputs or {"y": FLOAT}).items()],
        constants,
        value_info=value_info,
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("their", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=functions)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def node(kind: str, inputs: str, outputs: str = "y", **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(" "), outputs.split(" "), **attributes)


def only(cost: ModelCost) -> LayerCost:
    assert cost.uncounted == {}
    assert cost.note is None
    (row,) = cost.layers
    return row


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
    assert row.path == "y"  # a node without a name goes by its output
    assert row.parameters == 40
    assert row.memory_access_cost == 144 + 288 + 32


def test_a_matrix_times_a_vector(tmp_path: Path) -> None:
    path = write(tmp_path, node("MatMul", "w x"), constants=[array("w", 7, 5)], shape=(5,))
    row = only(count_onnx_cost(path))
    assert row.multiply_adds == row.parameters == 35
    assert row.memory_access_bound == pytest.approx(2 * math.sqrt(5 * 7) + 35)


def test_the_second_of_two_activations_stands_for_the_weight(tmp_path: Path) -> None:
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
    ("one", "constants", "elements", "parameters"),
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
def test_what_is_no_product_reads_and_writes(
    tmp_path: Path, one: Any, constants: list[TensorProto], elements: int, parameters: int
) -> None:
    row = only(count_onnx_cost(write(tmp_path, one, constants=constants)))
    assert row.other_elements == elements
    assert row.parameters == parameters
    assert row.multiply_adds == row.memory_access_cost == 0
    assert row.batch_norm_elements == (144 if one.op_type == "BatchNormalization" else 0)


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


def test_sizes_computed_from_an_open_batch_are_known_and_free(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        node("Shape", "x", "s"),
        node("Gather", "s zero", "n"),
        node("Concat", "n rest", "r", axis=0),
        node("Reshape", "x r", "flat"),
        node("Gemm", "flat w"),
        constants=[numbers("zero", 0), numbers("rest", -1), array("w", 144, 5)],
        shape=("batch", *IMAGE[1:]),
    )
    for batch in (1, 3):
        cost = count_onnx_cost(path, (batch, *IMAGE[1:]))
        assert only(cost).multiply_adds == batch * 144 * 5
        assert cost.input_shapes == ((batch, *IMAGE[1:]),)
    with pytest.raises(ValueError, match="leaves the shape of its input x open: give input_shape"):
        count_onnx_cost(path)


def test_an_unknown_operator_is_named_and_its_elements_count(tmp_path: Path) -> None:
    declared = [helper.make_tensor_value_info("a", FLOAT, ("batch", 2, 6, 6))]
    nodes = node("Foo", "x", "a", domain="their", name="foo"), node("Relu", "a")
    path = write(tmp_path, *nodes, shape=("batch", *IMAGE[1:]), value_info=declared)
    cost = count_onnx_cost(path, (2, *IMAGE[1:]))
    assert cost.uncounted == {"their::Foo": 1}
    assert cost.note is None
    assert [row.other_elements for row in cost.layers] == [2 * (144 + 72), 2 * 2 * 72]

    # Without a word of what it gives, what comes after it is not known either.
    cost = count_onnx_cost(write(tmp_path, *nodes))
    assert cost.uncounted == {"their::Foo": 1, "Relu": 1}
    assert cost.note is not None
    assert cost.note.endswith("so they are not counted: foo, y")
    assert cost.layers == ()


def test_a_known_operator_without_a_rule_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, node("Einsum", "x x", equation="nchw,nchw->n"))
    cost = count_onnx_cost(path)
    assert cost.uncounted == {"Einsum": 1}
    assert cost.total.other_elements == 2 * 144 + 1


def test_weights_of_an_operator_without_a_rule_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, node("Einsum", "x w", equation="nchw,cd->ndhw"), constants=[array("w", 4, 2)])
    cost = count_onnx_cost(path)
    assert cost.uncounted == {"Einsum": 1}
    assert cost.total.parameters == 8
    assert cost.total.other_elements == 144 + 8 + 72


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize(("kind", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_recurrent_layers_cost_what_the_module_costs(tmp_path: Path, kind: str, gates: int, layout: int) -> None:
    hidden, directions = 6, 2
    constants = [array("w", directions, gates * hidden, 8), array("r", directions, gates * hidden, hidden)]
    constants += [array("b", directions, 2 * gates * hidden), array("h", directions, 2, hidden)]
    attributes = {"hidden_size": hidden, "direction": "bidirectional", "layout": layout}
    one = helper.make_node(kind, ["x", "w", "r", "b", "", "h"], ["", "y"], **attributes)
    row = only(count_onnx_cost(write(tmp_path, one, constants=constants, shape=(2, 5, 8) if layout else (5, 2, 8))))
    module = getattr(nn, kind)(8, hidden, bidirectional=True)
    expected = count_cost(module, (5, 2, 8)).total
    assert row.parameters == expected.parameters  # the first state is none
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


def test_functions_of_the_file_are_looked_into(tmp_path: Path) -> None:
    body = [node("Conv", "a w", "c"), node("Relu", "c", "b")]
    function = helper.make_function("their", "Block", ["a", "w"], ["b"], body, [helper.make_opsetid("", 20)])
    path = write(
        tmp_path, node("Block", "x w", domain="their"), constants=[array("w", 8, 4, 1, 1)], functions=[function]
    )
    cost = count_onnx_cost(path)
    assert [row.kind for row in cost.layers] == ["Conv", "Relu"]
    assert cost.total.multiply_adds == PIXELS * 32


def test_the_inside_of_a_branch_is_not_silently_nothing(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [node("Relu", "x", "b")], "branch", [], [helper.make_tensor_value_info("b", FLOAT, IMAGE)]
    )
    path = write(
        tmp_path,
        node("If", "c", then_branch=branch, else_branch=branch),
        constants=[numpy_helper.from_array(np.array(True), "c")],
    )
    assert count_onnx_cost(path).uncounted == {"If": 1}


# Files that are no good.


def test_a_wrong_size(tmp_path: Path) -> None:
    path = write(tmp_path, node("Relu", "x"), shape=("batch", 4, 6, 6))
    for shape in [(1, 3, 6, 6), (1, 4, 6), (0, 4, 6, 6)]:
        with pytest.raises(ValueError, match=r"takes any × 4 × 6 × 6, got an input of "):
            count_onnx_cost(path, shape)
    module = OnnxModule(path)
    assert module.input_shape == (None, 4, 6, 6)
    assert module(torch.rand(3, 4, 6, 6))[0].shape == (3, 4, 6, 6)
    for shape in [(1, 3, 6, 6), (4, 6, 6)]:
        with pytest.raises(ValueError, match=r"model\.onnx takes an input of any × 4 × 6 × 6, got "):
            module(torch.rand(shape))
    with pytest.raises(ValueError, match=r"model\.onnx takes torch\.float32, got torch\.float16"):
        module(torch.rand(IMAGE).half())
    with pytest.raises(ValueError, match="was loaded on cpu, got an input on meta"):
        module(torch.empty(IMAGE, device="meta"))


def test_a_size_that_a_node_inside_cannot_take(tmp_path: Path) -> None:
    path = write(tmp_path, node("Reshape", "x r"), constants=[numbers("r", 1, 144)], shape=("n", "c", "h", "w"))
    assert OnnxModule(path)(torch.rand(IMAGE))[0].shape == (1, 144)
    with pytest.raises(ValueError, match=r"cannot run on an input of 1 × 4 × 7 × 6: ") as caught:
        OnnxModule(path)(torch.rand(1, 4, 7, 6))
    assert "\n" not in str(caught.value)
    gemm = write(tmp_path, node("Gemm", "x w"), constants=[array("w", 5, 3)], shape=("n", "c"))
    with pytest.raises(ValueError, match="has a node that does not fit its inputs: ") as caught:
        count_onnx_cost(gemm, (1, 4))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_models(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for read in (count_onnx_cost, OnnxModule):
        with pytest.raises(FileNotFoundError, match=r"model\.onnx"):
            read(path)
    whole = write(tmp_path, node("Conv", "x w"), constants=[array("w", 8, 4, 1, 1)]).read_bytes()
    for content in (b"", b"\x00nothing" * 20, whole[: len(whole) // 2]):
        path.write_bytes(content)
        for read in (count_onnx_cost, OnnxModule):
            with pytest.raises(ValueError, match=r"model\.onnx (is not an ONNX model|cannot be loaded)") as caught:
                read(path)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("weight", "inputs", "message"),
    [
        pytest.param(
            TensorProto(name="w", data_type=FLOAT, dims=[-8, 4, 1, 1]), "x w", "impossible size", id="negative"
        ),
        pytest.param(
            TensorProto(name="w", data_type=FLOAT, dims=[2**62, 4, 1, 1]), "x w", "impossible size", id="huge"
        ),
        pytest.param(TensorProto(name="w", data_type=99, dims=[8, 4, 1, 1]), "x w", "format that does", id="format"),
        pytest.param(array("w", 8, 4, 1, 1), "x", "without the inputs or outputs", id="no weight"),
    ],
)
def test_damage_that_inference_does_not_see(tmp_path: Path, weight: TensorProto, inputs: str, message: str) -> None:
    path = write(tmp_path, node("Conv", inputs), constants=[weight])
    with pytest.raises(ValueError, match=f"model.onnx .*{message}"):
        count_onnx_cost(path)
    with pytest.raises(ValueError, match=r"model\.onnx cannot be loaded"):
        OnnxModule(path)


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = write(tmp_path, node("Relu", "x", name="abcdef"))
    path.write_bytes(path.read_bytes().replace(b"abcdef", b"ab\xff\xfeef"))
    with pytest.raises(ValueError, match="not UTF-8"):
        count_onnx_cost(path)


def test_one_input_of_four_dimensions(tmp_path: Path) -> None:
    two = [helper.make_tensor_value_info(name, FLOAT, IMAGE) for name in ("x", "z")]
    path = write(tmp_path, node("Add", "x z"), inputs=two)
    for read in (count_onnx_cost, OnnxModule):
        with pytest.raises(ValueError, match="must have one input, .* but has x, z"):
            read(path)
    path = write(tmp_path, node("Identity", "w"), inputs=[], constants=[array("w", 2)])
    for read in (count_onnx_cost, OnnxModule):
        with pytest.raises(ValueError, match="must have one input, .* but has none"):
            read(path)
    # Old files name their constants among the inputs.
    old = [two[0], helper.make_tensor_value_info("w", FLOAT, (4, 1, 1))]
    path = write(tmp_path, node("Mul", "x w"), inputs=old, constants=[array("w", 4, 1, 1)])
    assert count_onnx_cost(path).total.parameters == 4
    for wrong in ({"shape": (4, 6)}, {"elem_type": TensorProto.INT64, "outputs": {"y": TensorProto.INT64}}):
        path = write(tmp_path, node("Identity", "x"), **wrong)
        with pytest.raises(ValueError, match=r"must take images as \(N, C, H, W\) in float32, float16 or uint8"):
            OnnxModule(path)


def test_outputs_must_be_tensors(tmp_path: Path) -> None:
    path = write(tmp_path, node("Cast", "x", to=TensorProto.STRING), outputs={"y": TensorProto.STRING})
    with pytest.raises(ValueError, match=r"must return tensors of numbers, but its output y is tensor\(string\)"):
        OnnxModule(path)


def test_weights_outside_of_the_folder_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(4 * 32))
    inside = tmp_path / "inside"
    inside.mkdir()
    for location in ("../secret", str(secret)):
        weight = TensorProto(name="w", data_type=FLOAT, dims=[8, 4, 1, 1], data_location=TensorProto.EXTERNAL)
        entry = weight.external_data.add()
        entry.key, entry.value = "location", location
        path = write(inside, node("Conv", "x w"), constants=[weight])
        assert count_onnx_cost(path).total.multiply_adds == PIXELS * 32
        with pytest.raises(ValueError, match="cannot be loaded by ONNX Runtime: External data path validation failed"):
            OnnxModule(path)


def test_operators_from_elsewhere_do_not_run(tmp_path: Path) -> None:
    path = write(tmp_path, node("Foo", "x", domain="their"))
    with pytest.raises(ValueError, match="their:Foo.* is not a registered function/op"):
        OnnxModule(path)


# Running.


@pytest.mark.parametrize(
    ("elem_type", "dtype"), [(TensorProto.FLOAT16, torch.float16), (TensorProto.UINT8, torch.uint8)]
)
def test_number_formats_of_the_input(tmp_path: Path, elem_type: int, dtype: torch.dtype) -> None:
    path = write(tmp_path, node("Cast", "x", to=FLOAT), elem_type=elem_type)
    module = OnnxModule(path)
    assert module.input_dtype == dtype
    images = (200 * torch.rand(IMAGE)).to(dtype)
    assert torch.equal(module(images)[0], images.float())


def test_outputs_of_other_formats_and_without_elements(tmp_path: Path) -> None:
    nodes = node("Greater", "x one", "more"), node("NonZero", "more", "where")
    path = write(
        tmp_path, *nodes, constants=[array("one")], outputs={"more": TensorProto.BOOL, "where": TensorProto.INT64}
    )
    module = OnnxModule(path)
    more, where = module(torch.zeros(IMAGE))
    assert (more.dtype, where.dtype, where.shape) == (torch.bool, torch.int64, (4, 0))
    assert not more.any()
    more, where = module(torch.full(IMAGE, 2.0))
    assert more.all()
    assert where.shape == (4, 144)


def test_outputs_stay_when_the_module_runs_again_or_is_gone(tmp_path: Path) -> None:
    module = OnnxModule(write(tmp_path, node("Neg", "x")))
    (first,) = module(torch.ones(IMAGE))
    module(torch.zeros(IMAGE))
    del module
    assert torch.equal(first, -torch.ones(IMAGE))


def test_a_stand_in_without_values_is_refused(tmp_path: Path) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    module = OnnxModule(write(tmp_path, node("Relu", "x")))
    with FakeTensorMode() as mode, pytest.raises(TypeError, match="tensors with values, got a FakeTensor"):
        module(mode.from_tensor(torch.rand(IMAGE)))


def test_copies_load_the_file_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, node("Neg", "x"))
    monkeypatch.chdir(tmp_path)
    module = OnnxModule("model.onnx", threads=2).eval()
    monkeypatch.chdir("/")
    images = torch.rand(IMAGE)
    for twin in (pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
        assert twin.threads == 2
        assert torch.equal(twin(images)[0], -images)
    assert repr(module) == "OnnxModule(model.onnx, threads=2, device=cpu)"


def test_threads_are_those_of_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, node("Relu", "x"))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    module = OnnxModule(path)
    assert module.threads == module._session.get_session_options().intra_op_num_threads == 3


# Devices and packages that are not there.


def test_other_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    path = write(tmp_path, node("Relu", "x"))
    with pytest.raises(ValueError, match="runs on cpu or cuda, got mps"):
        OnnxModule(path, device="mps")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ValueError, match="does not support CUDA: install onnxruntime-gpu"):
        OnnxModule(path, device="cuda")
    # A provider that does not start is left out by ONNX Runtime without an exception.
    asked: list[Any] = []

    def session(path: Path, options: Any, providers: list[Any]) -> Any:
        asked.extend(providers)
        return SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with pytest.raises(ValueError, match="could not start CUDA"):
        OnnxModule(path, device="cuda:1")
    assert asked == [("CUDAExecutionProvider", {"device_id": 1}), "CPUExecutionProvider"]


@pytest.mark.parametrize(("package", "read"), [("onnx", count_onnx_cost), ("onnxruntime", OnnxModule)])
def test_a_missing_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, read: Callable[[Path], object]
) -> None:
    path = write(tmp_path, node("Relu", "x"))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'vovnet\[onnx\]'"):
        read(path)
