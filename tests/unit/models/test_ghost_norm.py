"""A ghost norm gives what a batch norm gives that sees each group of images by itself."""

import copy
import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vovnet import create_model
from vovnet.models.ghost_norm import GhostBatchNorm, count_passes, share_of_pass, share_passes, use_ghost_norms

LAYOUTS = (torch.contiguous_format, torch.channels_last)


def lively(channels: int, dtype: torch.dtype, **options: object) -> nn.BatchNorm2d:
    """A batch norm in the middle of its training."""
    norm = nn.BatchNorm2d(channels, **options).to(dtype)
    for values, low, high in ((norm.running_mean, -1, 1), (norm.running_var, 0.5, 2)):
        nn.init.uniform_(values, low, high)
    if norm.affine:
        nn.init.uniform_(norm.weight, -2, 2)
        nn.init.uniform_(norm.bias, -1, 1)
    norm.num_batches_tracked.fill_(7)
    return norm


def one_group_at_a_time(norm: nn.Module, images: Tensor, size: int) -> Tensor:
    return torch.cat([norm(group) for group in images.split(size)])


def both(norm: nn.BatchNorm2d, images: Tensor, size: int) -> Iterator[tuple[str, Tensor, Tensor]]:
    """What a ghost norm gives in a pass, and what `norm` gives in one pass for each group: name, ours, expected."""
    ghost = use_ghost_norms(copy.deepcopy(norm), size)
    ours, theirs = images.clone().requires_grad_(), images.clone().requires_grad_()
    output, expected = ghost(ours), one_group_at_a_time(norm, theirs, size)
    direction = torch.randn_like(expected)
    for result in (output, expected):
        (result * direction).sum().backward()
    assert output.dtype == images.dtype
    yield "output", output, expected
    yield "gradient", ours.grad, theirs.grad
    parameters = dict(ghost.named_parameters())
    for name, parameter in norm.named_parameters():
        yield name, parameters[name].grad, parameter.grad
    buffers = dict(ghost.named_buffers())
    for name, buffer in norm.named_buffers():
        yield name, buffers[name], buffer


@settings(max_examples=60, deadline=None)
@given(
    groups=st.integers(1, 5),
    size=st.integers(1, 4),
    channels=st.integers(1, 5),
    sides=st.tuples(st.integers(1, 4), st.integers(1, 4)).filter(lambda sides: sides != (1, 1)),
    layout=st.sampled_from(LAYOUTS),
    affine=st.booleans(),
    momentum=st.floats(1e-4, 1),
    eps=st.sampled_from([1e-3, 1e-5]),
    shift=st.sampled_from([0.0, 100.0]),
    seed=st.integers(0, 2**32),
)
def test_in_float64_all_results_are_those_of_separate_passes(
    groups: int,
    size: int,
    channels: int,
    sides: tuple[int, int],
    layout: torch.memory_format,
    affine: bool,
    momentum: float,
    eps: float,
    shift: float,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    norm = lively(channels, torch.float64, affine=affine, momentum=momentum, eps=eps)
    images = torch.randn(groups * size, channels, *sides, dtype=torch.float64).to(memory_format=layout) + shift
    for name, ours, expected in both(norm, images, size):
        assert torch.allclose(ours, expected, rtol=1e-10, atol=1e-10), name


@pytest.mark.parametrize("layout", LAYOUTS, ids=["NCHW", "NHWC"])
def test_in_float32_too(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    images = (torch.randn(12, 16, 9, 7) * 2 + 3).to(memory_format=layout)
    for name, ours, expected in both(lively(16, torch.float32), images, 4):
        assert torch.allclose(ours, expected, rtol=2e-5, atol=2e-5), name
        assert name != "output" or ours.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_in_half_precision_the_statistics_are_float32(dtype: torch.dtype) -> None:
    """A mean of 60 has a rounding error of 0.25 in bfloat16, the standard deviation here is 0.5."""
    torch.manual_seed(0)
    norm = lively(8, torch.float32)
    images = (torch.randn(8, 8, 16, 16) / 2 + 60).to(dtype)
    exact = copy.deepcopy(norm).double()
    rows = {name: ours for name, ours, _ in both(norm, images, 4)}
    expected = {name: ours for name, ours, _ in both(exact, images.double(), 4)}
    bound = 4 * torch.finfo(dtype).eps
    assert (rows["output"] - expected["output"]).abs().max() < bound * expected["output"].abs().max()
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(rows[name].double(), expected[name], rtol=1e-5, atol=1e-5)


def test_float16_gradients_are_summed_in_float32() -> None:
    """Products and sums of loss-scaled gradients would overflow in float16, at 65,504."""
    norm = lively(1, torch.float32)
    ghost = use_ghost_norms(norm, 2)
    images = (100 * torch.randn(4, 1, 16, 16)).half().requires_grad_()
    ghost(images).backward(torch.full((4, 1, 16, 16), 1000.0).half())
    assert ghost.bias.grad.item() == 1024 * 1000
    assert images.grad.isfinite().all()


def test_gradients_agree_with_differences() -> None:
    torch.manual_seed(0)
    ghost = use_ghost_norms(lively(2, torch.float64), 2)
    images = torch.randn(4, 2, 3, 2, dtype=torch.float64).requires_grad_()

    def output(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(ghost, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(output, (images, ghost.weight, ghost.bias))


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("momentum", [0.001, 0.1, 0.5])
def test_counted_passes_give_averages_as_caffes(momentum: float, as_tensor: bool) -> None:
    """Each value counts 1 - momentum times as much as the next one, and what was there before the first not at all."""
    torch.manual_seed(0)
    ghost = use_ghost_norms(lively(3, torch.float64, momentum=momentum), 2)
    if as_tensor:
        share_passes(ghost, torch.device("cpu"))
    images = torch.randn(18, 3, 2, 2, dtype=torch.float64)
    for passes, of_pass in enumerate(images.split(6)):
        count_passes(ghost, passes)
        ghost(of_pass)
    ages = torch.arange(8, -1, -1, dtype=torch.float64)
    weights = (1 - momentum) ** ages / ((1 - momentum) ** ages).sum()
    groups = images.view(9, 2, 3, 4)
    for average, values in (("mean", groups.mean((1, 3))), ("var", groups.var((1, 3)))):
        expected = (weights[:, None] * values).sum(0)
        torch.testing.assert_close(getattr(ghost, f"running_{average}"), expected, rtol=1e-9, atol=1e-9)
    assert ghost.num_batches_tracked == 7 + 9


def test_evaluation_is_that_of_batch_norm() -> None:
    norm = lively(4, torch.float32).eval()
    ghost = use_ghost_norms(copy.deepcopy(norm), 2)
    images = torch.randn(3, 4, 5, 5)  # no multiple of 2
    assert torch.equal(ghost(images), norm(images))


def test_all_images_are_one_group_without_a_size() -> None:
    norm = lively(4, torch.float32)
    ghost = use_ghost_norms(copy.deepcopy(norm), None)
    images = torch.randn(3, 4, 5, 5)
    assert torch.equal(ghost(images), norm(images))
    assert torch.equal(ghost.running_var, norm.running_var)


def test_a_model_keeps_its_parameters_and_the_names_of_its_state() -> None:
    model = create_model("dsod300_vovnet27_slim", 2)
    before, parameters = model.state_dict(), dict(model.named_parameters())
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert use_ghost_norms(model, 4) is model
    ghosts = [layer for layer in model.modules() if isinstance(layer, GhostBatchNorm)]
    assert len(ghosts) == len(norms) > 30
    assert [(g.eps, g.momentum, g.num_features) for g in ghosts] == [(n.eps, n.momentum, n.num_features) for n in norms]
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(tensor.data_ptr() == before[name].data_ptr() for name, tensor in after.items())
    assert all(parameter is parameters[name] for name, parameter in model.named_parameters())
    use_ghost_norms(model, 2)
    assert {layer.group for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)} == {2}


def test_timms_norms_with_activations() -> None:
    timm = pytest.importorskip("timm", reason='timm is not installed: pip install "vovnet[timm]"')
    torch.manual_seed(0)
    theirs = timm.create_model("mobilenetv3_small_050", pretrained=False, features_only=True).train()
    ours = use_ghost_norms(copy.deepcopy(theirs), 2)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    images = torch.randn(4, 3, 64, 64)
    expected = [torch.cat(maps) for maps in zip(*(theirs(group) for group in images.split(2)), strict=True)]
    for a, b in zip(ours(images), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.SyncBatchNorm(2)), "statistics over all processes"),
        (nn.Sequential(nn.GroupNorm(1, 2)), "has none in training"),
        (nn.Sequential(nn.BatchNorm1d(2)), "take the place of BatchNorm2d; 0 is BatchNorm1d"),
        (nn.Sequential(nn.BatchNorm2d(2, momentum=None)), "running averages with a momentum"),
        (nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False)), "running averages with a momentum"),
    ],
)
def test_what_cannot_be_grouped(model: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        use_ghost_norms(model, 2)


def test_images_that_are_no_whole_number_of_groups() -> None:
    with pytest.raises(ValueError, match="expected a multiple of 2 images, as each norm sees so many, got 3"):
        GhostBatchNorm(2, 2)(torch.randn(3, 2, 4, 4))
    with pytest.raises(ValueError, match="more than one value per channel"):
        GhostBatchNorm(2, 1)(torch.randn(3, 2, 1, 1))


def test_a_compiled_norm_computes_the_same() -> None:
    """What is traced for the compiler is another formula."""
    torch.manual_seed(0)
    norm = lively(4, torch.float64)
    eager, traced = (use_ghost_norms(copy.deepcopy(norm), 2) for _ in range(2))
    share_passes(traced, torch.device("cpu"))
    images = torch.randn(6, 4, 3, 5, dtype=torch.float64)
    graphs: list[torch.fx.GraphModule] = []
    compiled = torch.compile(traced, backend=lambda graph, _: graphs.append(graph) or graph.forward, fullgraph=True)
    for passes in range(12):  # more than the compiler would compile anew
        results = []
        for layer, module in ((eager, eager), (traced, compiled)):
            count_passes(layer, passes)
            x = images.clone().requires_grad_()
            output = module(x)
            output.sin().sum().backward()
            results.append((output, x.grad, *layer.buffers(), *(p.grad for p in layer.parameters())))
        for ours, expected in zip(*results, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-8)
    assert len(graphs) == 1
    assert math.isclose(eager.running_mean.norm(), traced.running_mean.norm(), rel_tol=1e-8)


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_passes_are_counted_in_a_format_that_the_device_has(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """MPS has no float64; float32 is as good for the share, whose power of the momentum is soon nothing."""
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *shape, dtype, device: zeros(*shape, dtype=dtype))
    ghost = GhostBatchNorm(2, 2)
    share_passes(ghost, torch.device(device))
    assert ghost.passes.dtype == {"cpu": torch.float64, "mps": torch.float32}[device]
    for passes in (0, 1, 50, 120_000):
        count_passes(ghost, passes)
        assert float(share_of_pass(0.01, 4, ghost.passes)) == pytest.approx(share_of_pass(0.01, 4, passes), rel=1e-5)
