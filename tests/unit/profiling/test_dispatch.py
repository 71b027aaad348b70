"""Operations are found wherever a model does them: in inference mode, labelled ranges, branches, compiled parts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from vovnet.profiling.cost import count_cost
from vovnet.profiling.live_tensors import follow_tensors
from vovnet.profiling.measure import measure
from vovnet.profiling.subject import Subject

from .counted import Call, total

SHAPE, SMALL = (1, 3, 20, 20), (1, 3, 8, 8)
CONVOLUTION = 18 * 18 * 8 * 27


class Net(nn.Module):
    """A convolution, a norm, attention and a recurrent layer; `around` is entered in part of the pass."""

    def __init__(self, around: Callable[[], Any]) -> None:
        super().__init__()
        self.around = around
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.recurrent = nn.LSTM(8, 5, batch_first=True)
        self.last = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        with self.around():
            x = self.norm(self.conv(x)).flatten(2).transpose(1, 2)
            x = self.attention(x, x, x, need_weights=False)[0]
            x = self.recurrent(x)[0]
        return self.last(x)


def plain() -> Net:
    return Net(functools.partial(torch.set_grad_enabled, True))


CONTEXTS: dict[str, Callable[[], Any]] = {
    "inference mode": torch.inference_mode,
    "no inference mode": functools.partial(torch.inference_mode, False),
    "no gradients": torch.no_grad,
    "gradients": torch.enable_grad,
    "label": functools.partial(torch.profiler.record_function, "stem"),
    "old label": functools.partial(torch.autograd.profiler.record_function, "stem", "with arguments"),
    "own choice of kernels": functools.partial(sdpa_kernel, SDPBackend.FLASH_ATTENTION),
}


@pytest.mark.parametrize("around", CONTEXTS.values(), ids=CONTEXTS)
def test_contexts_inside_a_model_do_not_change_its_products(around: Callable[[], Any]) -> None:
    own, expected = total(Net(around), SMALL), total(plain(), SMALL)
    assert own.multiply_adds == expected.multiply_adds > 2 * 36 * 8 * 27
    assert own.memory_access_cost == expected.memory_access_cost
    assert own.batch_norm_elements == expected.batch_norm_elements


@pytest.mark.parametrize("within", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_contexts_around_counting_change_nothing(within: Callable[[], Any]) -> None:
    expected = count_cost(plain(), SMALL)
    with within():
        made_within, x = plain(), torch.rand(SMALL)
        assert count_cost(made_within, SMALL) == expected
    assert count_cost(made_within, x) == expected
    with within():
        assert count_cost(plain(), x) == expected


def test_the_number_format_of_autocast_does_not_change_the_products() -> None:
    expected = total(plain(), SMALL).multiply_adds
    autocast = functools.partial(torch.autocast, "cpu", torch.bfloat16)
    assert total(Net(autocast), SMALL).multiply_adds == expected
    with autocast():
        assert total(plain(), SMALL).multiply_adds == expected


def test_decorators_of_forward() -> None:
    for decorator in (torch.inference_mode(), torch.no_grad(), torch.enable_grad()):

        class Decorated(Net):
            forward = decorator(Net.forward)

        assert total(Decorated(torch.no_grad), SMALL) == total(plain(), SMALL)


def test_measuring_within_inference_mode() -> None:
    with torch.inference_mode():
        model = plain()
        measured = measure(model, 8, repetitions=1, memory=False)
    assert measured.cost.total.multiply_adds == total(plain(), SMALL).multiply_adds
    assert model.training
    assert model.conv.weight.is_inference()


def test_the_tensors_inside_composite_operations_live_in_inference_mode_too() -> None:
    """Attention holds its scores, 400 × 400, which no module returns."""
    attend = Call(lambda x: F.scaled_dot_product_attention(x, x, x))
    x = torch.rand(1, 1, 400, 8)
    with sdpa_kernel(SDPBackend.MATH):
        live_bytes, _ = follow_tensors(attend, x)
        in_inference_mode = Call(torch.inference_mode()(attend.function))
        assert follow_tensors(in_inference_mode, x)[0] == live_bytes > 4 * 400 * 400


# Wrappers, branches and compiled parts.


class Branch(nn.Module):
    """Both branches have a convolution; one has a second one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, self.conv, lambda x: self.conv(x) + self.conv(x), (x,))


class Loop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        from torch._higher_order_ops.while_loop import while_loop

        return while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, self.conv(x)), (torch.tensor(0), x))[1]


def attend(x: Tensor) -> Tensor:
    from torch.nn.attention.flex_attention import flex_attention

    tokens = x.flatten(2).transpose(1, 2)[:, None]
    return flex_attention(tokens, tokens, tokens)


def attend_before(x: Tensor) -> Tensor:
    """Only to tokens that come before."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    tokens = x.flatten(2).transpose(1, 2)[:, None]
    mask = create_block_mask(lambda b, h, q, k: q >= k, None, None, 400, 400, device="cpu")
    return flex_attention(tokens, tokens, tokens, block_mask=mask, score_mod=lambda score, b, h, q, k: score + q - k)


def products_of_rows(x: Tensor) -> Tensor:
    from torch._higher_order_ops.map import map

    return map(lambda row: row.relu() @ row.mT, x)


def sum_of_products(x: Tensor) -> Tensor:
    from torch._higher_order_ops.scan import scan

    return scan(lambda carried, row: (carried + row @ row.mT, row * 2), x.new_zeros(3, 20, 20), x, dim=0)[0]


class Multiplies(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x @ x.mT


def recomputed(x: Tensor, reentrant: bool) -> Tensor:
    return torch.utils.checkpoint.checkpoint(lambda x: x @ x.mT, x, use_reentrant=reentrant)


@pytest.mark.filterwarnings("ignore:flex_attention called without", "ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize(
    ("model", "shape", "multiply_adds"),
    [
        pytest.param(Branch(), SHAPE, CONVOLUTION, id="cond"),
        pytest.param(Loop(), SHAPE, 3 * 400 * 9, id="while_loop"),
        pytest.param(Call(attend), (1, 8, 20, 20), 2 * 400 * 400 * 8, id="flex_attention"),
        pytest.param(Call(attend_before), (1, 8, 20, 20), 2 * 400 * 400 * 8, id="flex_attention with a mask"),
        pytest.param(Call(products_of_rows), (2, 3, 20, 20), 2 * 3 * 20**3, id="map"),
        pytest.param(Call(sum_of_products), (2, 3, 20, 20), 2 * 3 * 20**3, id="scan"),
        pytest.param(Call(Multiplies.apply), (20, 20), 20**3, id="autograd.Function"),
        pytest.param(Call(functools.partial(recomputed, reentrant=True)), (20, 20), 20**3, id="checkpoint"),
        pytest.param(Call(functools.partial(recomputed, reentrant=False)), (20, 20), 20**3, id="new checkpoint"),
        pytest.param(nn.DataParallel(nn.Conv2d(3, 8, 3)), SHAPE, CONVOLUTION, id="DataParallel"),
        pytest.param(torch.compile(nn.Conv2d(3, 8, 3)), SHAPE, CONVOLUTION, id="compiled"),
        pytest.param(nn.Sequential(torch.compile(nn.Conv2d(3, 8, 3))), SHAPE, CONVOLUTION, id="a compiled part"),
        pytest.param(torch.fx.symbolic_trace(nn.Conv2d(3, 8, 3)), SHAPE, CONVOLUTION, id="torch.fx"),
    ],
)
def test_operations_inside_other_operations(model: nn.Module, shape: tuple[int, ...], multiply_adds: int) -> None:
    cost = count_cost(model, shape)
    assert cost.total.multiply_adds == multiply_adds
    assert cost.uncounted == {}
    with torch.inference_mode():
        assert count_cost(model, shape) == cost


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:The .grad attribute of a Tensor")
def test_a_scripted_part_belongs_to_the_module_that_calls_it() -> None:
    script: Any = torch.jit.script
    cost = count_cost(nn.Sequential(script(nn.Conv2d(3, 8, 3)), nn.ReLU()), SHAPE)
    assert cost.total.multiply_adds == cost.layers[0].multiply_adds == CONVOLUTION
    assert (cost.layers[0].kind, cost.total.parameters) == ("Sequential", 224)
    with pytest.raises(ValueError, match="count the module it came from"):
        count_cost(script(nn.Conv2d(3, 8, 3)), SHAPE)


def test_an_operation_of_the_user_is_listed_with_the_layer_that_calls_it() -> None:
    @torch.library.custom_op("vovnet_tests::twice", mutates_args=())
    def twice(x: Tensor) -> Tensor:
        return x * 2

    cost = count_cost(nn.Sequential(nn.Conv2d(3, 8, 3), Call(twice)), SHAPE)
    assert cost.uncounted == {"vovnet_tests::twice": 1}
    assert cost.total.multiply_adds == CONVOLUTION
    assert [layer.uncounted_calls for layer in cost.layers] == [0, 1]
    assert cost.is_lower_bound


def test_labels_are_free_and_a_subject_with_them_runs() -> None:
    model = Net(CONTEXTS["label"]).eval()
    subject = Subject("net", model, torch.rand(SMALL), count_cost(model, SMALL), "float32")
    assert subject.run_and_wait() == 1
    assert subject.time_layers() is not None
