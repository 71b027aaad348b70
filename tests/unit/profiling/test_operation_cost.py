from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import ops

from vovnet.profiling.cost import count_cost, count_parameters

from .counted import Call, total

# Memory access cost: Eq. (1) for all products.


def test_a_balanced_convolution_reaches_the_bound() -> None:
    cost = total(nn.Conv2d(43, 43, 3, padding=1), (1, 43, 32, 32))
    assert cost.memory_access_cost == 104_705
    assert cost.memory_access_bound == pytest.approx(104_705)
    assert cost.memory_access_ratio == pytest.approx(1)
    assert cost.multiply_adds == 32 * 32 * 9 * 43 * 43
    assert cost.flops == 2 * cost.multiply_adds


def test_a_dense_layer_of_as_many_multiply_adds_costs_more() -> None:
    cost = total(nn.Conv2d(148, 12, 3, padding=1), (1, 148, 32, 32))
    assert cost.memory_access_cost == 179_824
    assert cost.memory_access_bound == pytest.approx(102_292, abs=1)
    assert cost.memory_access_ratio == pytest.approx(1.758, abs=5e-4)


def test_the_bound_is_that_of_the_paper() -> None:
    h, w, k = 7, 5, 3
    cost = total(nn.Conv2d(6, 10, k, padding=1), (1, 6, h, w))
    b = cost.multiply_adds
    assert cost.memory_access_bound == pytest.approx(2 * math.sqrt(h * w * b / k**2) + b / (h * w))


@pytest.mark.parametrize(
    ("module", "shape", "multiply_adds", "read", "written", "weight"),
    [
        pytest.param(nn.Conv2d(3, 8, 3, 2, 1), (1, 3, 10, 14), 35 * 9 * 24, 420, 280, 9 * 24, id="strided"),
        pytest.param(nn.Conv2d(8, 12, 3, 1, 1, groups=4), (1, 8, 5, 6), 30 * 9 * 24, 240, 360, 9 * 24, id="grouped"),
        pytest.param(nn.Conv2d(8, 8, 5, 1, 2, groups=8), (1, 8, 6, 6), 36 * 25 * 8, 288, 288, 25 * 8, id="depthwise"),
        pytest.param(nn.ConvTranspose2d(6, 4, 2, 2), (1, 6, 5, 5), 25 * 4 * 24, 150, 400, 4 * 24, id="transposed"),
        pytest.param(
            nn.ConvTranspose2d(6, 4, 4, 2, 1, groups=2), (1, 6, 5, 5), 25 * 16 * 12, 150, 400, 16 * 12, id="both"
        ),
        pytest.param(nn.Conv1d(4, 6, 3), (1, 4, 12), 10 * 3 * 24, 48, 60, 3 * 24, id="one dimension"),
        pytest.param(nn.Linear(20, 7), (1, 20), 140, 20, 7, 140, id="linear"),
        pytest.param(nn.Linear(20, 7, bias=False), (2, 5, 20), 10 * 140, 200, 70, 140, id="linear, ten rows"),
        pytest.param(nn.Linear(20, 7), (20,), 140, 20, 7, 140, id="linear, a vector"),
        pytest.param(nn.Conv2d(3, 8, 1), (4, 3, 2, 2), 16 * 24, 48, 128, 24, id="a batch reads the weight once"),
    ],
)
def test_products_by_hand(
    module: nn.Module, shape: tuple[int, ...], multiply_adds: int, read: int, written: int, weight: int
) -> None:
    cost = total(module, shape)
    assert cost.multiply_adds == multiply_adds
    assert cost.memory_access_cost == read + written + weight
    assert cost.memory_access_bound == pytest.approx(2 * math.sqrt(read * written) + weight)
    assert cost.memory_access_cost >= cost.memory_access_bound - 1e-6
    assert cost.other_elements == 0
    assert cost.parameters == count_parameters(module)


R = torch.rand
A = torch.ops.aten
INT8 = torch.ones(32, 32, dtype=torch.int8)


@pytest.mark.parametrize(
    ("function", "inputs", "multiply_adds"),
    [
        pytest.param(torch.addbmm, (R(3, 5), R(7, 3, 4), R(7, 4, 5)), 7 * 60, id="addbmm"),
        pytest.param(torch.baddbmm, (R(7, 3, 5), R(7, 3, 4), R(7, 4, 5)), 7 * 60, id="baddbmm"),
        pytest.param(torch.addmv, (R(3), R(3, 4), R(4)), 12, id="addmv"),
        pytest.param(torch.dot, (R(5), R(5)), 5, id="dot"),
        pytest.param(torch.vdot, (R(5), R(5)), 5, id="vdot"),
        pytest.param(torch.matmul, (R(4), R(2, 4, 5)), 2 * 20, id="a vector times matrices"),
        pytest.param(torch.matmul, (R(2, 1, 3, 4), R(6, 4, 5)), 12 * 60, id="matrices of other batches"),
        pytest.param(torch._int_mm, (INT8, INT8[:, :16]), 32 * 32 * 16, id="integers"),
        pytest.param(A._addmm_activation, (R(5), R(3, 4), R(4, 5)), 60, id="with an activation"),
        pytest.param(A._weight_int8pack_mm, (R(3, 32).bfloat16(), INT8, R(32).bfloat16()), 3 * 32 * 32, id="packed"),
        pytest.param(F.bilinear, (R(5, 3), R(5, 4), R(6, 3, 4)), 5 * 6 * 12, id="bilinear"),
        pytest.param(lambda x, w, b: torch.conv_tbc(x, w, b, 1), (R(10, 2, 4), R(3, 4, 5), R(5)), 1200, id="conv_tbc"),
        pytest.param(
            lambda x, w: A._convolution(x, w, None, [2], [0], [1], True, [0], 1, False, False, False, False),
            (R(1, 3, 8), R(3, 4, 5)),
            8 * 3 * 20,
            id="transposed, as TorchScript calls it",
        ),
        pytest.param(lambda a, b: torch.einsum("bhik,jk->bhij", a, b), (R(2, 2, 3, 4), R(5, 4)), 240, id="einsum"),
        pytest.param(torch.cdist, (R(30, 8), R(40, 8)), 30 * 40 * (8 + 2), id="distances by a product"),
        pytest.param(nn.LSTMCell(4, 5), (R(2, 4),), 2 * 9 * 20, id="LSTM cell"),
        pytest.param(nn.GRUCell(4, 5), (R(2, 4),), 2 * 9 * 15, id="GRU cell"),
    ],
)
def test_products_of_all_kinds(function: Callable[..., Any], inputs: tuple[Any, ...], multiply_adds: int) -> None:
    assert total(Call(function), *inputs).multiply_adds == multiply_adds


def test_outer_products_are_multiplications_like_any_other() -> None:
    for function, inputs in (
        (torch.outer, (R(3), R(4))),
        (torch.addr, (R(3, 4), R(3), R(4))),
        (torch.kron, (R(3), R(4))),
    ):
        assert total(Call(function), *inputs).multiply_adds == 0


class Deformable(nn.Module):
    def __init__(self, groups: int = 1, offset_groups: int = 1, modulated: bool = False) -> None:
        super().__init__()
        self.offsets = nn.Conv2d(8, 18 * offset_groups, 3, padding=1)
        self.mask = nn.Conv2d(8, 9 * offset_groups, 3, padding=1) if modulated else None
        self.conv = ops.DeformConv2d(8, 16, 3, padding=1, groups=groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x, self.offsets(x), None if self.mask is None else self.mask(x).sigmoid())


@pytest.mark.parametrize(
    ("module", "multiply_adds", "offsets", "mask"),
    [
        pytest.param(Deformable(), 400 * (18 * 72 + 16 * 72), 18, 0, id="plain"),
        pytest.param(Deformable(groups=4), 400 * (18 * 72 + 16 * 18), 18, 0, id="grouped"),
        pytest.param(Deformable(offset_groups=2), 400 * (36 * 72 + 16 * 72), 36, 0, id="two sets of offsets"),
        pytest.param(Deformable(modulated=True), 400 * (18 * 72 + 9 * 72 + 16 * 72), 18, 9, id="modulated"),
    ],
)
def test_a_deformable_convolution_is_a_convolution_that_reads_offsets(
    module: Deformable, multiply_adds: int, offsets: int, mask: int
) -> None:
    cost = count_cost(module, (1, 8, 20, 20))
    assert cost.uncounted == {}
    assert cost.total.multiply_adds == multiply_adds
    (row,) = (layer for layer in cost.layers if layer.path == "conv")
    assert row.memory_access_cost == 400 * (8 + 16) + module.conv.weight.numel()
    placeholder = 0 if mask else 1  # torchvision makes a mask of one element that the operation does not read
    assert row.other_elements == 400 * (offsets + mask) + placeholder


@pytest.mark.parametrize("pool", [ops.roi_align, ops.roi_pool, ops.ps_roi_align, ops.ps_roi_pool])
def test_pooling_of_regions_is_pooling(pool: Callable[..., torch.Tensor]) -> None:
    boxes = torch.tensor([[0.0, 1.0, 1.0, 9.0, 9.0], [0.0, 0.0, 0.0, 5.0, 5.0]])
    cost = total(Call(lambda x: pool(x, boxes, 2)), (1, 8, 20, 20))
    channels = 2 if "ps_" in pool.__name__ else 8
    assert cost.multiply_adds == 0
    assert cost.other_elements == 8 * 400 + 2 * 5 + 2 * channels * 4


def test_a_fused_attention_kernel_is_its_products_and_softmax() -> None:
    query, key, value = torch.rand(2, 4, 10, 8), torch.rand(2, 4, 12, 8), torch.rand(2, 4, 12, 8)
    fused = total(Call(lambda *x: A._scaled_dot_product_flash_attention_for_cpu(*x)[0]), query, key, value)
    parts = total(Call(F.scaled_dot_product_attention), query, key, value)
    assert fused.multiply_adds == parts.multiply_adds == 2 * (2 * 4 * 10 * 12 * 8)
    assert fused.memory_access_cost == parts.memory_access_cost


def test_no_other_widths_with_the_same_multiply_adds_cost_less_than_the_bound() -> None:
    costs = [total(nn.Conv2d(64 // c, c, 3, 2, 1, bias=False), (1, 64 // c, 8, 8)) for c in (1, 2, 4, 8, 16, 32, 64)]
    assert len({cost.multiply_adds for cost in costs}) == 1
    assert len({round(cost.memory_access_bound, 6) for cost in costs}) == 1
    # With stride 2 the output has a quarter of the positions. Input and output have equally many elements if
    # 64/c·64 = c·16, so c = 16.
    assert [cost.memory_access_ratio == pytest.approx(1) for cost in costs].index(True) == 4
    assert min(cost.memory_access_ratio or 0 for cost in costs) == pytest.approx(1)


# All other operations: elements read and written.


@pytest.mark.parametrize(
    ("module", "shapes", "elements"),
    [
        pytest.param(
            Call(lambda a, b: torch.cat([a, b], 1)), [(1, 3, 4, 4), (1, 5, 4, 4)], 2 * 128, id="concatenation"
        ),
        pytest.param(nn.ReLU(), [(1, 3, 4, 4)], 2 * 48, id="activation"),
        pytest.param(nn.ReLU(inplace=True), [(1, 3, 4, 4)], 2 * 48, id="in place"),
        pytest.param(Call(torch.add), [(2, 5), (2, 5)], 30, id="addition"),
        pytest.param(Call(lambda a, b: a.add_(b)), [(2, 5), (2, 5)], 30, id="addition in place"),
        pytest.param(nn.MaxPool2d(3, 2, ceil_mode=True), [(1, 2, 8, 8)], 128 + 2 * 16, id="pooling"),
        pytest.param(nn.AdaptiveAvgPool2d(1), [(1, 6, 5, 5)], 150 + 6, id="global pooling"),
        pytest.param(nn.BatchNorm2d(4), [(2, 4, 3, 3)], 2 * 72, id="batch norm"),
        pytest.param(nn.GroupNorm(2, 4), [(2, 4, 3, 3)], 2 * 72, id="group norm"),
        pytest.param(nn.LayerNorm(6), [(5, 6)], 60, id="layer norm"),
        pytest.param(nn.Upsample(scale_factor=2), [(1, 2, 3, 3)], 18 + 72, id="upsampling"),
        pytest.param(nn.Flatten(), [(2, 3, 4)], 0, id="a view"),
        pytest.param(Call(lambda a: a.transpose(1, 2).contiguous()), [(2, 3, 4)], 48, id="a copy of a view"),
        pytest.param(Call(lambda a: a[torch.tensor([0, 0])]), [(3, 8)], 32, id="a choice reads what it takes"),
        pytest.param(nn.Dropout(), [(2, 3)], 0, id="dropout in evaluation"),
    ],
)
def test_other_elements(module: nn.Module, shapes: list[tuple[int, ...]], elements: int) -> None:
    cost = total(module, *shapes)
    assert cost.other_elements == elements
    assert cost.multiply_adds == cost.memory_access_cost == 0
    assert cost.memory_access_ratio is None


def test_every_activation_norm_and_pool_of_torch_is_known() -> None:
    activations = "CELU ELU GELU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid Mish PReLU ReLU ReLU6"
    activations += " RReLU SELU SiLU Sigmoid Softmax2d Softplus Softshrink Softsign Tanh Tanhshrink GLU Softmin"
    modules = [getattr(nn, name)(**({"dim": 1} if name == "Softmin" else {})) for name in activations.split()]
    modules += [
        nn.InstanceNorm2d(4),
        nn.LocalResponseNorm(2),
        nn.AvgPool2d(2),
        nn.AdaptiveMaxPool2d(2),
        nn.LPPool2d(2, 2),
    ]
    modules += [nn.PixelShuffle(2), nn.ZeroPad2d(1), nn.ReflectionPad2d(1), nn.UpsamplingBilinear2d(scale_factor=2)]
    modules += [nn.Softmax(1), nn.LogSoftmax(1), nn.ChannelShuffle(2), nn.RMSNorm(8), nn.Unfold(2)]
    for module in modules:
        assert total(module, (1, 4, 8, 8)).other_elements > 0, module


def test_batch_norm_elements_are_the_outputs_of_batch_norms() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.GroupNorm(2, 8), nn.BatchNorm2d(8))
    assert total(module, (2, 3, 8, 8)).batch_norm_elements == 2 * (2 * 8 * 4 * 4)


def test_flops_per_byte() -> None:
    module = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.ReLU())
    elements = (2 * 8 * 36 + 9 * 64) + 2 * 8 * 36
    cost = count_cost(module, (1, 8, 6, 6))
    assert cost.total.flops_per_byte(4) == pytest.approx(2 * 36 * 9 * 64 / (4 * elements))
    half = count_cost(module, (1, 8, 6, 6), dtype="bfloat16").to_dict()["total"]
    assert half["flops_per_byte"] == pytest.approx(2 * 36 * 9 * 64 / (2 * elements))
    assert count_cost(nn.Identity(), (1, 2)).total.flops_per_byte(4) is None


def test_attention_is_its_matrix_products() -> None:
    tokens, width = 10, 12
    module = nn.MultiheadAttention(width, 3, batch_first=True)
    cost = total(Call(lambda x: module(x, x, x, need_weights=False)), (1, tokens, width))
    assert cost.multiply_adds == 4 * tokens * width * width + 2 * tokens * tokens * width
    assert torch.backends.mha.get_fastpath_enabled()


def test_an_operation_without_a_rule_is_listed() -> None:
    cost = count_cost(Call(lambda a: ops.nms(a, a[:, 0], 0.5)), torch.rand(6, 4))
    assert cost.uncounted == {"torchvision::nms": 1}
    module = nn.Sequential(nn.Linear(4, 4), Call(lambda a: torch.linalg.inv(a)), Call(lambda a: torch.fft.fft(a).real))
    cost = count_cost(module, (4, 4))
    assert cost.uncounted == {"aten::linalg_inv_ex": 1, "aten::_fft_r2c": 1}
    assert cost.total.multiply_adds == 64
    assert [layer.uncounted_calls for layer in cost.layers] == [0, 1, 1]
    assert cost.layers[1].other_elements >= 32  # the elements they read and write are counted


@pytest.mark.parametrize(("kind", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
def test_a_recurrent_layer_is_the_products_of_its_steps(kind: type[nn.RNNBase], gates: int) -> None:
    steps, images, width, hidden = 5, 2, 8, 6
    cost = total(kind(width, hidden, bidirectional=True), (steps, images, width))
    products = [(1, steps * images, width), (steps, images, hidden)]  # times, rows, columns
    assert cost.multiply_adds == 2 * sum(n * rows * c * gates * hidden for n, rows, c in products)
    each = [n * (rows * c + rows * gates * hidden + c * gates * hidden) for n, rows, c in products]
    assert cost.memory_access_cost == 2 * sum(each)
    assert torch.backends.mkldnn.enabled == torch.backends.mkldnn.is_available()


def test_an_operation_without_a_rule_reads_its_weights() -> None:
    class Inverse(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.linalg.inv(self.weight)

    cost = count_cost(Inverse(4, 4, bias=False), (4, 4))
    assert cost.uncounted == {"aten::linalg_inv_ex": 1}
    assert cost.total.other_elements == 16 + (16 + 1) + 3 * 16  # the weight, its inverse with an error code, the sum


def test_statically_quantised_layers_count_as_before_they_were_quantised() -> None:
    quantisation = torch.ao.quantization

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.leave = quantisation.QuantStub(), quantisation.DeQuantStub()
            self.conv, self.relu = nn.Conv2d(3, 8, 3, groups=1), nn.ReLU()
            self.grouped, self.up, self.last = (
                nn.Conv2d(8, 8, 3, groups=4),
                nn.ConvTranspose2d(8, 4, 2, 2),
                nn.Linear(12, 5),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.leave(self.last(self.up(self.grouped(self.relu(self.conv(self.enter(x)))))))

    net = Net().eval()
    expected = count_cost(net, (1, 3, 10, 10)).total
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.qconfig = quantisation.QConfig(
            quantisation.MinMaxObserver.with_args(dtype=torch.quint8),
            quantisation.MinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_tensor_symmetric),
        )
        observed = quantisation.prepare(quantisation.fuse_modules(net, [["conv", "relu"]]))
        observed(torch.rand(1, 3, 10, 10))
        cost = count_cost(quantisation.convert(observed), (1, 3, 10, 10))
    assert cost.uncounted == {}
    assert (cost.total.multiply_adds, cost.total.memory_access_cost) == (
        expected.multiply_adds,
        expected.memory_access_cost,
    )


def test_a_quantised_layer_counts_as_before_it_was_quantised() -> None:
    layer = nn.Sequential(nn.Linear(8, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.ao.quantization.quantize_dynamic(layer, {nn.Linear}, dtype=torch.qint8)
    assert replace(total(quantised, (2, 8)), parameters=8 * 6 + 6) == total(layer, (2, 8))


IN_PLACE = {"CELU", "ELU", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "Mish", "ReLU", "ReLU6", "SELU", "SiLU"}
SEVERAL_OPERATIONS = {"GLU", "PReLU", "RReLU", "Softmax2d", "Softsign", "Tanhshrink"}
OTHERS = {"MultiheadAttention", "Threshold", "LogSoftmax", "Softmax", "Softmin"}
ACTIVATIONS = sorted(set(torch.nn.modules.activation.__all__) - SEVERAL_OPERATIONS - OTHERS)


@pytest.mark.parametrize(
    "layer",
    [
        *(getattr(nn, name)() for name in ACTIVATIONS),
        *(getattr(nn, name)(inplace=True) for name in sorted(IN_PLACE)),
        nn.LogSoftmax(1),
        nn.Softmax(1),
        nn.Threshold(0.1, 20.0),
        nn.Threshold(0.1, 20.0, inplace=True),
    ],
    ids=str,
)
def test_an_activation_reads_its_input_and_writes_its_output(layer: nn.Module) -> None:
    cost = count_cost(layer, (1, 4, 6, 6))
    assert cost.uncounted == {}
    assert cost.total.other_elements == 2 * 4 * 6 * 6


@pytest.mark.parametrize("name", sorted(SEVERAL_OPERATIONS))
def test_an_activation_of_several_operations_is_counted(name: str) -> None:
    assert count_cost(getattr(nn, name)(), (1, 4, 6, 6)).uncounted == {}


def test_a_number_less_a_tensor_is_counted() -> None:
    class Complement(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.rsub(x, 1.0)

    assert count_cost(Complement(), (1, 4)).uncounted == {}
