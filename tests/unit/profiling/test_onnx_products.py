"""Products of ONNX files besides layers, against PyTorch's count of the same modules."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vovnet.profiling.cost import count_cost
from vovnet.profiling.cost_types import Cost
from vovnet.profiling.onnx.cost import count_onnx_cost

from .onnx_files import FLOAT, array, conv, helper, node, only, write


class Call(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: Tensor) -> Any:
        return self.function(*tensors)


def torch_cost(function: Any, *shapes: tuple[int, ...]) -> Cost:
    return count_cost(Call(function), *shapes).total


def inputs(*shapes: tuple[int, ...]) -> list[Any]:
    return [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in zip("abcd", shapes, strict=False)]


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("nchw,cd->ndhw", [(2, 4, 3, 5), (4, 6)]),
        ("bhqd,bhkd->bhqk", [(1, 2, 5, 4), (1, 2, 7, 4)]),
        ("...ij,...jk", [(2, 3, 4), (2, 4, 5)]),
        ("ab, bc, cd -> ad", [(2, 3), (3, 4), (4, 5)]),
        ("nchw,nchw->n", [(2, 8, 4, 4), (2, 8, 4, 4)]),
        ("abc,cd->ab", [(2, 3, 4), (4, 5)]),
        ("ij,ij->ij", [(3, 4), (3, 4)]),
        ("ijj->ij", [(3, 4, 4)]),
    ],
)
def test_einsum(tmp_path: Path, equation: str, shapes: list[tuple[int, ...]]) -> None:
    def function(*operands: Tensor) -> Tensor:
        result = operands[0]
        if len(operands) < 3:
            return torch.einsum(equation, *operands)
        for operand in operands[1:]:  # from left to right
            result = result @ operand
        return result

    names = " ".join("abcd"[: len(shapes)])
    cost = count_onnx_cost(write(tmp_path, node("Einsum", names, equation=equation), inputs=inputs(*shapes)))
    assert cost.total.multiply_adds == torch_cost(function, *shapes).multiply_adds
    assert cost.uncounted == {}


@pytest.mark.parametrize(
    ("shapes", "attributes"),
    [
        pytest.param([(2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6)], {}, id="heads apart"),
        pytest.param([(2, 5, 12), (2, 7, 12), (2, 7, 18)], {"q_num_heads": 3, "kv_num_heads": 3}, id="heads together"),
    ],
)
def test_attention(tmp_path: Path, shapes: list[tuple[int, ...]], attributes: dict[str, int]) -> None:
    expected = torch_cost(F.scaled_dot_product_attention, (2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6))
    row = only(
        count_onnx_cost(write(tmp_path, node("Attention", "a b c", **attributes), inputs=inputs(*shapes), opset=23))
    )
    assert row.multiply_adds == expected.multiply_adds == 2 * 3 * 5 * 7 * (4 + 6)
    assert row.memory_access_cost == expected.memory_access_cost
    assert row.memory_access_bound == pytest.approx(expected.memory_access_bound)
    assert math.prod(row.output_shapes[0]) == 2 * 3 * 5 * 6


def test_attention_of_shared_keys_and_of_an_earlier_pass(tmp_path: Path) -> None:
    shapes = (2, 4, 5, 8), (2, 2, 7, 8), (2, 2, 7, 6), (2, 2, 3, 8)
    past = helper.make_tensor_value_info("e", FLOAT, (2, 2, 3, 6))
    attention = node("Attention", "a b c  d e")
    row = only(count_onnx_cost(write(tmp_path, attention, inputs=[*inputs(*shapes), past], opset=23)))
    assert row.multiply_adds == 2 * 4 * 5 * 10 * (8 + 6)


def test_attention_of_onnx_runtime(tmp_path: Path) -> None:
    module = nn.MultiheadAttention(12, 3, batch_first=True)
    shape = (2, 5, 12)
    expected = count_cost(Call(lambda x: module(x, x, x, need_weights=False)[0]), shape).total
    constants = [array("w", 12, 36), array("o", 36), array("p", 12, 12), array("q", 12)]
    attention = node("Attention", "a w o", "z", num_heads=3, domain="com.microsoft")
    output = node("MatMul", "z p", "m"), node("Add", "m q")
    cost = count_onnx_cost(write(tmp_path, attention, *output, constants=constants, inputs=inputs(shape)))
    assert cost.total.multiply_adds == expected.multiply_adds == 2 * 5 * 12 * 48 + 2 * 3 * 25 * 8
    assert cost.total.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert cost.uncounted == {}
    packed = node("MultiHeadAttention", "a b c", "z", num_heads=3, domain="com.microsoft")
    shapes = (2, 5, 12), (2, 7, 12), (2, 7, 12)
    cost = count_onnx_cost(
        write(tmp_path, packed, node("MatMul", "z p"), constants=constants[2:3], inputs=inputs(*shapes))
    )
    assert cost.total.multiply_adds == 2 * 3 * 5 * 7 * 8 + 2 * 5 * 144
    assert cost.uncounted == {}


def test_a_deformable_convolution(tmp_path: Path) -> None:
    constants = [array("w", 16, 8, 3, 3), array("offsets", 18, 8, 3, 3), array("mask", 9, 8, 3, 3)]
    deform = node("DeformConv", "x w o  m", pads=[1] * 4, kernel_shape=[3, 3])
    path = write(
        tmp_path, conv("x", "o", "offsets"), conv("x", "m", "mask"), deform, constants=constants, shape=(1, 8, 20, 20)
    )
    cost = count_onnx_cost(path)
    assert cost.total.multiply_adds == 400 * 72 * (18 + 9 + 16)
    assert cost.uncounted == {}


def test_what_onnx_runtime_fuses_counts_as_before(tmp_path: Path) -> None:
    runtime = {"domain": "com.microsoft"}
    constants = [array("w", 8, 4, 3, 3), array("b", 8), array("t", 5, 6), array("m", 5, 7)]
    fused = (
        node("FusedConv", "x w b", "c", pads=[1] * 4, activation="Relu", **runtime),
        node("FusedMatMul", "c t", "d", transB=1, alpha=0.5, **runtime),
        node("FastGelu", "d", "e", **runtime),
        node("FusedGemm", "e m", "y", **runtime),
    )
    plain = (
        node("Conv", "x w b", "c", pads=[1] * 4),
        node("Transpose", "t", "u", perm=[1, 0]),
        node("MatMul", "c u", "d"),
        node("Gelu", "d", "e"),
    )
    for nodes in (fused[:3], plain):
        cost = count_onnx_cost(write(tmp_path, *nodes, node("MatMul", "e m"), constants=constants))
        assert cost.total.multiply_adds == 36 * 8 * 36 + 8 * 36 * 5 + 8 * 6 * 35
        assert cost.total.parameters == 8 * 36 + 8 + 30 + 35
        assert cost.total.other_elements == 2 * 8 * 6 * 5
        assert cost.uncounted == {}
    gemm = write(
        tmp_path, fused[3], constants=constants[3:], inputs=[helper.make_tensor_value_info("e", FLOAT, (3, 5))]
    )
    assert only(count_onnx_cost(gemm)).multiply_adds == 3 * 35


def test_quantised_operators_of_onnx_runtime(tmp_path: Path) -> None:
    runtime, scale, zero = {"domain": "com.microsoft"}, array("s"), array("z", dtype=np.int8)
    nodes = (
        node("QuantizeLinear", "x s z", "q"),
        node("QLinearAdd", "q s z q s z s z", "a", **runtime),
        node("QLinearSigmoid", "a s z s z", "b", **runtime),
        node("QLinearConcat", "s z a s z b s z", "c", axis=1, **runtime),
        node("QLinearGlobalAveragePool", "c s z s z", "d", **runtime),
        node("QLinearConv", "d s z w s z s z", "e"),
        node("DequantizeLinear", "e s z", "y"),
    )
    cost = count_onnx_cost(write(tmp_path, *nodes, constants=[scale, zero, array("w", 16, 8, 1, 1, dtype=np.int8)]))
    assert cost.total.multiply_adds == cost.total.parameters == 16 * 8
    assert cost.uncounted == {}
    assert cost.dtype == "int8"


@pytest.mark.parametrize(
    "product",
    [
        node("Attention", "x w", num_heads=2, domain="com.microsoft"),
        node("MultiHeadAttention", "x", num_heads=0, domain="com.microsoft"),
        node("FusedMatMul", "x w", domain="com.microsoft"),
    ],
)
def test_products_that_do_not_fit_are_not_guessed(tmp_path: Path, product: Any) -> None:
    cost = count_onnx_cost(write(tmp_path, product, constants=[array("w", 7, 2)]))
    assert cost.total.multiply_adds == 0
    assert cost.uncounted == {f"com.microsoft::{product.op_type}": 1}


def test_an_einsum_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.onnx has a node that does not fit its inputs"):
        count_onnx_cost(write(tmp_path, node("Einsum", "x x", equation="abcd,ab->cd")))


@pytest.mark.parametrize("equation", ["ii-", "ab->-", "a.b->ab", "abcd..", "a>b", "ab1->a"])
def test_an_equation_that_is_not_one(tmp_path: Path, equation: str) -> None:
    with pytest.raises(ValueError, match=r"model\.onnx has a node Einsum with an equation that is not one"):
        count_onnx_cost(write(tmp_path, node("Einsum", "x", equation=equation)))
