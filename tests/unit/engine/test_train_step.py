"""Which number format a precision means on which device."""

import pytest
import torch

from vovnet.engine.train_step import autocast, compute_dtype, make_scaler

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
