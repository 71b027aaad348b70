"""Frozen batch norm: torchvision's bits in float32, and no other number format than that of its input."""

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from vovnet.models.backbones.timm import TimmBackbone
from vovnet.models.backbones.vovnet import TABLE_1, VoVNet
from vovnet.models.norms import FrozenBatchNorm

HALF = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])


def pair(channels: int = 8, eps: float = 1e-5) -> tuple[FrozenBatchNorm, FrozenBatchNorm2d]:
    """Ours and torchvision's with the same values, as of a trained network."""
    theirs = FrozenBatchNorm2d(channels, eps)
    for values, low, high in ((theirs.weight, 0.5, 2), (theirs.running_var, 0.1, 3), (theirs.running_mean, -2, 2)):
        nn.init.uniform_(values, low, high)
    nn.init.uniform_(theirs.bias, -1, 1)
    ours = FrozenBatchNorm(channels, eps)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("eps", [1e-5, 0.0])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_float32_has_the_bits_of_torchvision(eps: float, layout: torch.memory_format) -> None:
    ours, theirs = pair(eps=eps)
    x = torch.randn(2, 8, 5, 7).to(memory_format=layout)
    images = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    outputs = [norm(image) for norm, image in zip((ours, theirs), images, strict=True)]
    assert torch.equal(*outputs)
    for output in outputs:
        output.sin().sum().backward()
    assert torch.equal(*(image.grad for image in images))
    assert ours.state_dict().keys() == theirs.state_dict().keys()


@HALF
@pytest.mark.parametrize("eps", [1e-5, 0.0])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_half_precision_stays_and_only_the_result_is_rounded(
    dtype: torch.dtype, eps: float, layout: torch.memory_format
) -> None:
    """Constants that are rounded too would shift a channel by as much in every layer of a deep network."""
    ours, theirs = pair(64, eps)
    x = torch.randn(2, 64, 15, 17).to(dtype).to(memory_format=layout).requires_grad_()
    output = ours(x)
    assert output.dtype == dtype
    assert output.is_contiguous(memory_format=layout)
    wide = x.detach().double().requires_grad_()
    exact = theirs(wide)
    bound = 0.501 * torch.finfo(dtype).eps * exact.abs() + 1e-5
    assert ((output.double() - exact).abs() <= bound).all()
    slope = torch.randn(output.shape).to(dtype)
    output.backward(slope)
    exact.backward(slope.double())
    assert ((x.grad.double() - wide.grad).abs() <= 0.501 * torch.finfo(dtype).eps * wide.grad.abs() + 1e-5).all()


@HALF
def test_a_module_in_half_precision_computes_its_constants_in_float32(dtype: torch.dtype) -> None:
    """In float16 the variance alone, with nothing else rounded, would become 0: 1e-8 is below its smallest number."""
    norm = FrozenBatchNorm(1, eps=1e-8).to(dtype)
    norm.running_var.zero_()
    norm.weight.fill_(2**-10)
    assert norm(torch.ones((1, 1, 1, 1), dtype=dtype)).item() == pytest.approx(2**-10 * 1e4, rel=0.01)


def test_a_network_under_autocast_computes_in_one_number_format() -> None:
    """Without it every convolution would get float32, and cast it."""
    formats = set()
    for norm in ("frozen", "batch"):
        model = VoVNet(TABLE_1["vovnet27_slim"], features_only=True, norm=norm).eval()
        seen: list[torch.dtype] = []
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.ReLU):
                module.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0].dtype))
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            model(torch.randn(1, 3, 32, 32))
        formats.add(tuple(seen))
    assert len(formats) == 1
    assert set(seen[1:]) == {torch.bfloat16}  # all but the image


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050"])
def test_timms_frozen_norms_keep_the_format_too(name: str) -> None:
    timm = pytest.importorskip("timm", reason='timm is not installed: pip install "vovnet[timm]"')
    ours = TimmBackbone(name, norm="frozen").eval()
    theirs = timm.layers.freeze_batch_norm_2d(timm.create_model(name, pretrained=False, features_only=True)).eval()
    state = {
        key: torch.rand_like(value) / 2 + 0.5 if value.ndim == 1 else torch.randn_like(value) / value[0].numel() ** 0.5
        for key, value in theirs.state_dict().items()
    }
    theirs.load_state_dict(state)
    ours.net.load_state_dict(state)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = theirs(images)
        assert all(torch.equal(a, expected[index]) for a, index in zip(ours(images), ours.indices, strict=True))
        with torch.autocast("cpu", torch.bfloat16):
            assert {feature.dtype for feature in ours(images)} == {torch.bfloat16}
