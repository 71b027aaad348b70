from __future__ import annotations

import pytest
import torch
from torch import nn

from vovnet.profiling.number_format import PRECISIONS, Precision, cast, dtype_of, matmul_precision

NEW_SWITCHES = hasattr(torch.backends.cudnn, "conv")


def switches() -> list[object]:
    if not NEW_SWITCHES:
        return [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32]
    cuda, cudnn, mkldnn = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
    owners = (cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn)
    return [owner.fp32_precision for owner in owners]


@pytest.fixture
def _gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("float32", torch.float32), ("tf32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_the_dtype_of_a_precision(precision: Precision, dtype: torch.dtype) -> None:
    assert dtype_of(precision) == dtype
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).double().eval()
    assert cast(module, precision) is module
    kinds = {tensor.dtype for tensor in module.state_dict().values()}
    assert kinds == {dtype, torch.int64}  # a batch norm counts its batches
    assert module(torch.rand(1, 3, 8, 8, dtype=dtype)).dtype == dtype


def test_every_precision_is_tested() -> None:
    assert PRECISIONS == ("float32", "tf32", "bfloat16", "float16")


@pytest.mark.parametrize("use", [dtype_of, lambda name: matmul_precision(name).__enter__()])
def test_an_unknown_precision(use) -> None:
    with pytest.raises(ValueError, match="one of float32, tf32, bfloat16, float16, got 'fp8'"):
        use("fp8")


def test_tf32_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = switches()
    with pytest.raises(ValueError, match="tf32 needs a CUDA GPU"), matmul_precision("tf32"):
        pass
    assert switches() == before


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.usefixtures("_gpu")
def test_the_switches_are_set_strictly_and_for_the_time_only(precision: Precision) -> None:
    before = switches()
    with matmul_precision(precision):
        inside = switches()
    assert set(inside) <= ({"tf32", True} if precision == "tf32" else {"ieee", False})
    assert inside != before  # convolutions on a GPU are rounded by default, products are not
    assert switches() == before


@pytest.mark.usefixtures("_gpu")
def test_the_switches_are_restored_after_an_error() -> None:
    before = switches()
    with pytest.raises(RuntimeError, match="in the model"), matmul_precision("tf32"):
        raise RuntimeError("in the model")
    assert switches() == before


def test_float32_is_strict_where_the_program_allowed_less() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        allowed = switches()
        with matmul_precision("float32"):
            assert set(switches()) <= {"ieee", False}
        assert switches() == allowed
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_pytorch_before_2_9(monkeypatch: pytest.MonkeyPatch) -> None:
    class Backend:
        allow_tf32 = True

    matmul, cudnn = Backend(), Backend()
    monkeypatch.setattr(torch.backends.cuda, "matmul", matmul)
    monkeypatch.setattr(torch.backends, "cudnn", cudnn)
    with matmul_precision("float32"):
        assert (matmul.allow_tf32, cudnn.allow_tf32) == (False, False)
    assert (matmul.allow_tf32, cudnn.allow_tf32) == (True, True)


def test_complex_weights_keep_both_parts() -> None:
    module = nn.Linear(2, 1)
    module.phases = nn.Parameter(torch.tensor([1 + 2j]))
    cast(module, "float16")
    assert module.weight.dtype == torch.float16
    assert module.phases.item() == 1 + 2j
