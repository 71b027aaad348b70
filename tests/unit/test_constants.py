"""A constant is made once per device and number format, and never where tensors have no values."""

import torch
from torch._subclasses import FakeTensorMode

from vovnet.constants import constant


def test_it_is_made_once() -> None:
    like = torch.ones(3)
    first = constant((1.0, 2.5), like=like)
    assert first.tolist() == [1.0, 2.5]
    assert constant((1.0, 2.5), like=like * 2) is first
    assert constant((1.0, 2.5), like=like.double()).dtype == torch.float64
    assert constant((1.0, 3.5), like=like).tolist() == [1.0, 3.5]
    assert constant((1.0, 2.5), like=torch.ones(1, device="meta")).device.type == "meta"


def test_tracing_and_inference_leave_nothing_behind() -> None:
    with FakeTensorMode() as mode:
        fake = constant((7.0, 8.0), like=torch.ones(2))
        assert fake.shape == (2,)
    assert mode is not None
    assert constant((7.0, 8.0), like=torch.ones(2)).tolist() == [7.0, 8.0]
    with torch.inference_mode():
        constant((9.0,), like=torch.ones(1))
    assert not constant((9.0,), like=torch.ones(1)).is_inference()
    program = torch.export.export(Scaled(), (torch.ones(2),))
    assert program.module()(torch.tensor([1.0, 2.0])).tolist() == [7.0, 16.0]
    assert constant((7.0, 8.0), like=torch.ones(2)).tolist() == [7.0, 8.0]


class Scaled(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * constant((7.0, 8.0), like=x)
