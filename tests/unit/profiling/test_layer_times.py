from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from vovnet import create_backbone
from vovnet.profiling import layer_times as layers
from vovnet.profiling.cost import count_cost
from vovnet.profiling.layer_times import time_layers

SHAPE = (1, 4)


class Clock:
    """Time that passes only through work."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(layers, "perf_counter", clock)
    return clock


class Work(nn.Module):
    """Adds 1 and takes the given seconds."""

    def __init__(self, clock: Clock, *seconds: float) -> None:
        super().__init__()
        self.clock, self.seconds, self.calls = clock, seconds, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.clock.now_s += self.seconds[self.calls % len(self.seconds)]
        self.calls += 1
        return x + 1


class Around(Work):
    """Works before and after the modules inside."""

    def __init__(self, clock: Clock, seconds: float, *inside: nn.Module) -> None:
        super().__init__(clock, seconds)
        self.inside = nn.ModuleList(inside)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = super().forward(x)
        for module in self.inside:
            x = module(x)
        return super().forward(x)


class Calls(nn.Module):
    """Calls a function with itself and its input."""

    def __init__(self, function: Callable[..., torch.Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


def by_path(module: nn.Module, **options: Any) -> list[tuple[str, float]]:
    module.eval()
    cost = count_cost(module, SHAPE)
    seconds = time_layers(module, (torch.zeros(SHAPE),), cost, **options)
    assert seconds is not None
    return [(row.path, round(own, 9)) for row, own in zip(cost.layers, seconds, strict=True)]


# Own times.


def test_a_module_has_the_time_without_that_of_modules_inside_it(clock: Clock) -> None:
    inner = Around(clock, 0.25, Work(clock, 8), nn.Identity(), Work(clock, 16))
    module = Around(clock, 0.5, Work(clock, 1), inner)
    assert by_path(module) == [
        ("", 1.0),
        ("inside.0", 1),
        ("inside.1", 0.5),
        ("inside.1.inside.0", 8),
        ("inside.1.inside.2", 16),
    ]


def test_a_call_without_a_row_has_its_time_dropped(clock: Clock) -> None:
    class View(Work):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            super().forward(x)
            return x

    quiet = Calls(lambda self, x: self.part(x), part=Work(clock, 2))
    assert by_path(Calls(lambda self, x: self.quiet(x), quiet=quiet)) == [("quiet.part", 2)]


def test_the_median_of_the_passes_after_the_warm_up(clock: Clock) -> None:
    assert by_path(Work(clock, 90, 80, 3, 40, 5), repetitions=3) == [("", 5)]


def test_real_time() -> None:
    class Sleep(nn.Module):
        def __init__(self, seconds: float, inside: nn.Module | None = None) -> None:
            super().__init__()
            self.seconds, self.inside = seconds, inside

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            time.sleep(self.seconds)
            return x + 1 if self.inside is None else self.inside(x + 1)

    times = dict(by_path(Sleep(0.005, Sleep(0.02)), repetitions=3))
    assert 0.005 <= times[""] < times["inside"]
    assert times["inside"] >= 0.02


def test_events_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing
            self.at_ms: float | None = None

        def record(self, stream: str) -> None:
            assert stream == "stream of cuda:1"
            self.at_ms = queue.now_s * 1e3

        def elapsed_time(self, end: Event) -> float:
            assert self.at_ms is not None
            assert end.at_ms is not None
            return end.at_ms - self.at_ms

    queue = Clock()
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    gpu = layers._clock(torch.device("cuda:1"))
    monkeypatch.setattr(layers, "_clock", lambda device: gpu)
    assert by_path(Around(queue, 0.5, Work(queue, 2))) == [("", 1.0), ("inside.0", 2)]


# Rows and calls.


def test_a_module_called_twice_has_two_times(clock: Clock) -> None:
    class Twice(Work):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.bias + super().forward(x)

    twice = Twice(clock, 1, 3)
    twice.bias = nn.Parameter(torch.zeros(SHAPE))
    module = Calls(lambda self, x: self.other(self.twice(self.twice(x))), twice=twice, other=Work(clock, 7))
    assert by_path(module) == [("twice", 1), ("twice", 3), ("other", 7)]


def test_a_module_under_two_paths_is_known_by_the_first(clock: Clock) -> None:
    shared = Work(clock, 1, 3)
    module = Calls(lambda self, x: self.a(self.b(x)), b=shared, a=shared)
    assert by_path(module) == [("b", 1), ("b", 3)]


def test_what_is_not_called_and_what_only_holds_takes_no_time(clock: Clock) -> None:
    class Holder(Work):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            super().forward(x)
            return self.value

    holder = Holder(clock, 5)
    holder.value = nn.Parameter(torch.zeros(SHAPE))
    hold = Calls(lambda self, x: x + self.held[0], unused=nn.Linear(2, 2))
    hold.register_parameter("held", nn.Parameter(torch.zeros(SHAPE)))
    module = Calls(lambda self, x: self.work(self.hold(x)), hold=hold, work=Work(clock, 1))
    assert by_path(module) == [("hold", 0), ("work", 1), ("hold.unused", 0)]


@pytest.mark.parametrize(
    ("build", "size"),
    [
        pytest.param(lambda: create_backbone("vovnet27_slim", features_only=True), 64, id="vovnet27_slim"),
        pytest.param(models.mobilenet_v3_small, 64, id="mobilenet"),
        pytest.param(lambda: models.VisionTransformer(32, 16, 2, 2, 8, 16), 32, id="attention"),
    ],
)
def test_every_row_of_a_network_that_does_something_has_a_time(build: Callable[[], nn.Module], size: int) -> None:
    module = build().eval()
    cost = count_cost(module, (1, 3, size, size))
    began = time.perf_counter()
    seconds = time_layers(module, (torch.rand(1, 3, size, size),), cost, repetitions=3)
    took = time.perf_counter() - began
    assert seconds is not None
    assert len(seconds) == len(cost.layers)
    for row, own in zip(cost.layers, seconds, strict=True):
        assert (own > 0) == (row.multiply_adds > 0 or row.other_elements > 0), row.path
    assert sum(seconds) < took


def test_another_path_than_the_one_that_was_counted(clock: Clock) -> None:
    module = Calls(lambda self, x: self.work(x) if x.shape[0] == 1 else x, work=Work(clock, 1)).eval()
    cost = count_cost(module, SHAPE)
    assert time_layers(module, (torch.zeros(2, 4),), cost) is None
    often = Calls(lambda self, x: self.work(self.work(x)) if x.shape[0] > 1 else self.work(x), work=Work(clock, 1))
    cost = count_cost(often.eval(), SHAPE)
    assert time_layers(often, (torch.zeros(1, 4),), cost) == (1,)
    assert time_layers(often, (torch.zeros(2, 4),), cost) is None


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_modules_that_hide_their_calls() -> None:
    module = nn.Sequential(nn.Linear(4, 4)).eval()
    cost = count_cost(module, SHAPE)
    inputs = (torch.zeros(SHAPE),)
    assert time_layers(module, inputs, cost) is not None
    assert time_layers(torch.compile(module, backend="eager"), inputs, cost) is None
    assert time_layers(nn.Sequential(torch.jit.trace(module, inputs)).eval(), inputs, cost) is None
    module.compile(backend="eager")
    assert time_layers(module, inputs, cost) is None


# What is left behind.


def test_hooks_of_others_stay_and_count_with_their_module(clock: Clock) -> None:
    def slow(*_: object) -> None:
        clock.now_s += 10

    module = Around(clock, 0.5, Work(clock, 1))
    module.eval()
    cost = count_cost(module, SHAPE)
    module.inside[0].register_forward_pre_hook(slow)
    module.inside[0].register_forward_hook(slow)
    before = [(len(part._forward_pre_hooks), len(part._forward_hooks)) for part in module.modules()]
    assert time_layers(module, (torch.zeros(SHAPE),), cost) == (1.0, 21)
    assert [(len(part._forward_pre_hooks), len(part._forward_hooks)) for part in module.modules()] == before


def test_hooks_are_removed_after_an_error() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    cost = count_cost(module, SHAPE)
    with pytest.raises(RuntimeError):
        time_layers(module, (torch.zeros(1, 5),), cost)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_tensors_may_stand_in_lists(clock: Clock) -> None:
    module = Calls(lambda self, images: self.work(torch.stack(images)), work=Work(clock, 3)).eval()
    cost = count_cost(module, [torch.zeros(2), torch.zeros(2)])
    seconds = time_layers(module, ([torch.zeros(2), torch.zeros(2)],), cost)
    assert seconds == (0, 3)


def test_errors() -> None:
    module = nn.Linear(4, 4)
    cost = count_cost(module, SHAPE)
    with pytest.raises(ValueError, match="must be in eval mode"):
        time_layers(module.train(), (torch.zeros(SHAPE),), cost)
    with pytest.raises(ValueError, match="repetitions must be at least 1, got 0"):
        time_layers(module.eval(), (torch.zeros(SHAPE),), cost, repetitions=0)
