"""Which number format a precision means on which device, and the running averages of batch norm."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from vovnet.engine.training.step import autocast, compute_dtype, make_scaler, set_norm_momentum
from vovnet.models.ghost_norm import use_ghost_norms

CPU = torch.device("cpu")


def test_the_format_on_a_cpu():
    assert compute_dtype("auto", CPU) == compute_dtype("fp32", CPU) == torch.float32
    assert compute_dtype("bf16", CPU) == torch.bfloat16
    with pytest.raises(ValueError, match="precision=fp16 needs a CUDA GPU; on cpu use precision=bf16"):
        compute_dtype("fp16", CPU)
    with pytest.raises(ValueError, match="precision=bf16 needs a CUDA GPU; on mps use precision=fp32"):
        compute_dtype("bf16", torch.device("mps"))


def test_the_format_on_a_gpu(monkeypatch):
    cuda = torch.device("cuda")
    for supported, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation, answer=supported: answer)
        assert compute_dtype("auto", cuda) == dtype
    assert compute_dtype("fp16", cuda) == torch.float16


@pytest.mark.parametrize(("dtype", "result"), [(torch.float32, torch.float32), (torch.bfloat16, torch.bfloat16)])
def test_matrix_products_run_in_the_format(dtype, result):
    with autocast(dtype, CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == result


def test_only_float16_scales_the_loss():
    formats = (torch.float32, torch.bfloat16, torch.float16)
    assert [make_scaler(dtype, CPU).is_enabled() for dtype in formats] == [False, False, True]


def test_norms_of_groups_have_the_averages_of_a_pass_for_each_group():
    separate, together = nn.BatchNorm2d(3), use_ghost_norms(nn.BatchNorm2d(3), 2)
    generator = torch.Generator().manual_seed(0)
    for passes in range(4):
        images = torch.randn(6, 3, 4, 4, generator=generator) * 2 + 5
        for group, part in enumerate(images.split(2)):
            set_norm_momentum(separate, 0.01, 3 * passes + group)
            separate(part)
        set_norm_momentum(together, 0.01, passes)
        together(images)
        for name, average in separate.named_buffers():
            torch.testing.assert_close(dict(together.named_buffers())[name], average, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.001, 0.01, 0.4, 1.0])
def test_running_averages_are_those_of_caffe(momentum):
    """BatchNormLayer: sums that start at 0 and fade by moving_average_fraction, divided by the sum of their weights."""
    fraction, weights = 1 - momentum, 0.0
    mean_sum, variance_sum = np.zeros(3), np.zeros(3)
    norm = nn.BatchNorm2d(3)
    generator = np.random.default_rng(0)
    for passes in range(6):
        values = generator.normal(5, 2, (4, 3, 2, 2))
        set_norm_momentum(norm, momentum, passes)
        norm(torch.from_numpy(values).float())
        weights = fraction * weights + 1
        mean_sum = fraction * mean_sum + values.mean(axis=(0, 2, 3))
        variance_sum = fraction * variance_sum + values.var(axis=(0, 2, 3)) * 16 / 15  # m / (m - 1)
        np.testing.assert_allclose(norm.running_mean.numpy(), mean_sum / weights, rtol=1e-5)
        np.testing.assert_allclose(norm.running_var.numpy(), variance_sum / weights, rtol=1e-5)


def test_only_batch_norm_with_averages_of_its_own_gets_the_momentum():
    model = nn.Sequential(nn.BatchNorm2d(4), nn.GroupNorm(2, 4), FrozenBatchNorm2d(4), nn.SyncBatchNorm(4))
    set_norm_momentum(model, None, 0)
    assert model[0].momentum == model[3].momentum == 0.1
    frozen = {name: value.clone() for name, value in model[2].state_dict().items()}
    set_norm_momentum(model, 0.5, 0)
    assert model[0].momentum == model[3].momentum == 1
    set_norm_momentum(model, 0.5, 1)
    assert model[0].momentum == pytest.approx(2 / 3)
    set_norm_momentum(model, 0.01, 100_000)
    assert model[0].momentum == pytest.approx(0.01)
    model[:3].train()(torch.randn(2, 4, 3, 3))
    assert all(torch.equal(value, frozen[name]) for name, value in model[2].state_dict().items())
