from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vovnet.profiling.module_calls import following_calls

X = torch.zeros(1, 2)


def events_of(module: nn.Module) -> list[str]:
    """Each call as a bracket with its path, the calls inside it, and a closing bracket."""
    events: list[str] = []
    with following_calls(module, enter=lambda path, *_: events.append(f"({path}"), leave=lambda _: events.append(")")):
        module(X)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    return events


class Doubling(nn.Module):
    """Calls itself once."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.inside = nn.Linear(2, 2), False

    def forward(self, x: Tensor) -> Tensor:
        if self.inside:
            return self.linear(x)
        self.inside = True
        x = self(self(x))
        self.inside = False
        return x


def test_calls_are_nested() -> None:
    model = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Linear(2, 2)))
    assert "".join(events_of(model)) == "((0)(1(1.0)))"


def test_a_shared_module_is_called_by_its_first_path() -> None:
    shared = nn.Linear(2, 2)
    assert "".join(events_of(nn.Sequential(shared, shared, nn.Sequential(shared)))) == "((0)(0)(2(0)))"


def test_a_module_that_calls_itself_is_nested_in_itself() -> None:
    assert "".join(events_of(Doubling())) == "(" + "((linear))" * 2 + ")"


def test_inputs_and_outputs() -> None:
    class Add(nn.Module):
        def forward(self, x: Tensor, *, y: Tensor) -> Tensor:
            return x + y

    calls: list[Any] = []
    add, y = Add(), X + 1
    with following_calls(add, enter=lambda *call: calls.append(call), leave=calls.append):
        result = add(X, y=y)
    (path, module, (args, kwargs)), output = calls
    assert (path, module) == ("", add)
    assert output is result
    assert args[0] is X
    assert kwargs["y"] is y


def test_hooks_are_removed_after_an_error() -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    with pytest.raises(RuntimeError):
        events_of(model)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
