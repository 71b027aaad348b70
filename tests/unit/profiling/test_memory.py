from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vovnet.profiling import memory
from vovnet.profiling.energy.nvml import Nvml
from vovnet.profiling.live_tensors import follow_tensors
from vovnet.profiling.memory import MIB, measure_memory
from vovnet.profiling.own_process import OwnProcess
from vovnet.zoo import create_backbone

from .simulated import H100, Device, FakeNvml

KIB = 1024
IMAGE = torch.rand(1, 4, 16, 16)  # 256 positions of 4 bytes: 1 KiB a channel


def conv(c_in: int, c_out: int) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 1, bias=False)


class Block(nn.Module):
    """A small one-shot aggregation: a chain of two layers, then a concatenation of the input and both outputs."""

    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.last = conv(4, 8), conv(8, 8), last

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x)
        b = self.second(a)
        return self.last(torch.cat((x, a, b), 1))


class Looks(nn.Module):
    """Its path depends on values, so shapes are not enough."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside
        self.ran_for_real = False

    def forward(self, x: Tensor) -> Tensor:
        self.ran_for_real = bool(x.sum() > 0)
        return self.inside(x)


class Does(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def test_chain_holds_input_of_the_model_and_both_ends_of_a_layer() -> None:
    chain = nn.Sequential(conv(4, 8), conv(8, 16), conv(16, 4))
    weights = 4 * (4 * 8 + 8 * 16 + 16 * 4)
    # 4 + 8, then 4 + 8 + 16, then 4 + 16 + 4: the 8 are gone by then
    assert follow_tensors(chain, IMAGE) == (28 * KIB + weights, "1")


@pytest.mark.parametrize(
    ("c_out", "channels", "layer"),
    [
        (2, 4 + 8 + 8 + 20 + 2, "last"),  # while the last layer runs the three and their concatenation are held
        (None, 4 + 8 + 8 + 20, ""),  # the model itself concatenates
    ],
)
def test_concatenation_is_held_beside_what_it_joins(c_out: int | None, channels: int, layer: str) -> None:
    block = Block(nn.Identity() if c_out is None else conv(20, c_out))
    weights = sum(4 * parameter.numel() for parameter in block.parameters())
    assert follow_tensors(block, IMAGE) == (channels * KIB + weights, layer)


@pytest.mark.parametrize(
    ("function", "kibibytes"),
    [
        (lambda x: x + 1, 8),
        (lambda x: (x + 1).add_(1).mul_(2), 8),  # in place
        (lambda x: (x + 1).flatten(1)[:, 10:].chunk(2, 1)[0], 8),  # views
        (lambda x: x + 1 + 1 + 1, 12),  # the first sum is free when the third is made
        (lambda x: sum((x + 1, x + 1, x + 1)), 24),  # 4 and 3 · 4, then 0 + the first, then the sum of two
        (lambda x: x[:, :2], 4),
        (lambda x: x.expand(64, 4, 16, 16), 4),
        (lambda x: x.double(), 12),
    ],
)
def test_each_storage_counts_once_while_it_is_referred_to(function: Callable[[Tensor], Tensor], kibibytes: int) -> None:
    assert follow_tensors(Does(function), IMAGE) == (kibibytes * KIB, "")


def test_tied_weights_and_buffers_count_once() -> None:
    with torch.device("meta"):
        tied = nn.Sequential(conv(4, 4), conv(4, 4), nn.BatchNorm2d(4, affine=False))
    tied[1].weight = tied[0].weight
    assert measure_memory(tied, IMAGE.to("meta")).parameters_mib * MIB == 4 * (16 + 4 + 4) + 8


@pytest.mark.parametrize(
    ("model", "image"),
    [
        (nn.Sequential(conv(4, 8), nn.ReLU(), conv(8, 16)), IMAGE),
        (Block(conv(20, 2)), IMAGE),
        (create_backbone("vovnet27_slim", features_only=True), torch.rand(1, 3, 96, 96)),
    ],
    ids=["chain", "concatenation", "vovnet27_slim"],
)
def test_shapes_alone_tell_what_a_real_run_holds(model: nn.Module, image: Tensor) -> None:
    looks = Looks(model)
    held, layer = follow_tensors(model, image)
    assert follow_tensors(looks, image) == (held, f"inside.{layer}")
    assert looks.ran_for_real


@pytest.mark.parametrize("wrap", [nn.Sequential, Looks])
def test_module_stays_as_it_was(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = wrap(create_backbone("vovnet27_slim", features_only=True)).train()
    frozen = next(part for part in model.modules() if isinstance(part, nn.BatchNorm2d)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    image = torch.rand(1, 3, 64, 64)
    assert follow_tensors(model, image) == follow_tensors(model, image)
    assert {part for part in model.modules() if not part.training} == {frozen}
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_fault_of_the_model_is_its_own_and_leaves_no_trace() -> None:
    model = nn.Sequential(conv(4, 8), conv(4, 8)).train()
    with pytest.raises(RuntimeError, match="to have 4 channels, but got 8"):
        measure_memory(model, IMAGE)
    assert model.training
    assert not any(part._forward_hooks for part in model.modules())


def test_clean_process_sees_parameters_input_and_activation_and_nothing_of_this_one() -> None:
    model = nn.Embedding(2**20, 16, _weight=torch.ones(2**20, 16))  # rows of 64 bytes to look up: 64 MiB, no arithmetic
    rows = torch.arange(2**21) % 2**20  # 16 MiB → 128 MiB
    alone = measure_memory(model, rows)
    assert (alone.parameters_mib, alone.live_mib, alone.live_layer) == (64, 64 + 16 + 128, "")
    assert alone.reason is None
    assert alone.peak_mib == pytest.approx(208, abs=8)
    assert "fresh process, less what was resident" in alone.method or sys.platform != "linux"

    ballast = torch.ones(200 * MIB // 4)
    beside = measure_memory(model, rows)
    assert beside.peak_mib == pytest.approx(alone.peak_mib, rel=0.02)
    assert dataclasses.replace(beside, peak_mib=None) == dataclasses.replace(alone, peak_mib=None)
    assert ballast.sum() > 0


IMPORTS_LATE = """
import numpy
LARGE = numpy.ones(60 * 2**17)  # 60 MiB that stay
"""
CALLS_LATE = """
from torch import nn

class Late(nn.Module):
    def forward(self, x):
        import a_large_library
        return x + 1
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the mark of the resident set cannot be let down")
def test_what_a_pass_imports_is_no_memory_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_large_library.py").write_text(IMPORTS_LATE)
    (tmp_path / "it_calls_late.py").write_text(CALLS_LATE)
    monkeypatch.syspath_prepend(tmp_path)
    late = __import__("it_calls_late").Late()
    image = torch.ones(1, 4, 1024, 1024)  # 16 MiB of input, 16 MiB of output
    assert measure_memory(late, image).peak_mib == pytest.approx(32, abs=8)


FAILS_ELSEWHERE = """
import atexit, os, signal, sys
from torch import nn

class Fails(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how, self.home = how, os.getpid()

    def forward(self, x):
        print("a model may print")
        if os.getpid() != self.home and self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if os.getpid() != self.home and self.how == "speaks":
            atexit.register(os.write, 1, b"\\xff and out")
            return x
        if os.getpid() != self.home:
            raise MemoryError("can't allocate 1 TiB\\nand more")
        return x
"""


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("killed", "SIGKILL ended it, as happens if the machine runs out of memory"),
        ("raises", "MemoryError: can't allocate 1 TiB"),
        ("speaks", "it wrote something else than its result"),
    ],
)
def test_failure_in_the_fresh_process_is_the_reason(
    how: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_on_the_path_of_this_process.py").write_text(FAILS_ELSEWHERE)
    monkeypatch.syspath_prepend(tmp_path)
    fails = __import__("only_on_the_path_of_this_process").Fails(how)
    use = measure_memory(fails, IMAGE)
    assert use.peak_mib is None
    assert use.reason == f"a fresh process could not measure it: {why}"
    assert use.live_mib == 4 * KIB / MIB


def test_too_slow_a_process_is_the_reason() -> None:
    use = measure_memory(conv(4, 8), IMAGE, timeout_s=0.01)
    assert (use.peak_mib, use.reason) == (
        None,
        "a fresh process could not measure it: it took longer than 0.01 s for 3 passes",
    )


def test_model_that_another_process_cannot_have_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    use = measure_memory(Does(lambda x: x + 1), IMAGE)
    assert use.peak_mib is None
    assert use.reason is not None
    assert use.reason.startswith("a fresh process could not measure it: the model cannot be saved for it (")
    assert "lambda" in use.reason

    monkeypatch.setattr(Looks, "__module__", "__main__")
    use = measure_memory(nn.Sequential(Looks(conv(4, 8))), IMAGE)
    assert use.peak_mib is None
    assert "cannot import Looks from the main script; move Looks to a module" in (use.reason or "")


def test_other_devices_have_tensors_but_no_peak() -> None:
    use = measure_memory(conv(4, 8).to("meta"), IMAGE.to("meta"))
    assert use.live_mib == (12 * KIB + 128) / MIB
    assert (use.peak_mib, use.reason) == (None, "memory is measured on cpu, cuda and mps, not on meta")


def test_allocators_of_gpus_without_what_others_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 MiB are allocated, 30 of them ours; a pass raises that to 150, and to 190 that are reserved."""
    calls = []
    cuda = {"memory_allocated": 100, "max_memory_allocated": 150, "max_memory_reserved": 190}
    mps = {"current_allocated_memory": 100, "driver_allocated_memory": 190}
    for backend, figures in ((torch.cuda, cuda), (torch.mps, mps)):
        for name in ("synchronize", "empty_cache"):
            monkeypatch.setattr(backend, name, lambda *device, name=name: calls.append(name))
        for name, mib in figures.items():
            monkeypatch.setattr(backend, name, lambda *device, name=name, mib=mib: calls.append(name) or mib * MIB)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: calls.append("reset"))
    monkeypatch.setattr(memory, "_nvml_process_mib", lambda device: 700)
    model = Does(lambda x: calls.append("pass") or x)

    peak = memory._measure_cuda(model, (IMAGE,), 30)
    assert (peak.peak_mib, peak.reserved_mib, peak.process_mib) == (80, 120, 700)
    passes = ["pass"] * memory.PASSES
    before = [*passes, "synchronize", "empty_cache", "memory_allocated", "reset"]
    assert calls == [*before, *passes, "synchronize", "max_memory_allocated", "max_memory_reserved"]

    calls.clear()
    peak = memory._measure_mps(model, (IMAGE,), 30)
    assert (peak.peak_mib, peak.reserved_mib) == (120, None)
    before = [*passes, "synchronize", "empty_cache", "current_allocated_memory"]
    assert calls == [*before, *passes, "synchronize", "driver_allocated_memory"]


def test_peak_of_another_allocator_is_not_that_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(memory, "_nvml_process_mib", lambda device: 700)
    monkeypatch.setattr(memory, "follow_tensors", lambda *arguments: (0, ""))
    monkeypatch.setattr(memory, "_storage_mib", lambda *tensors: 0)
    image: Any = SimpleNamespace(device=torch.device("cuda"))
    use = measure_memory(Does(lambda x: calls.append("pass")), image, own_allocator=True)
    assert calls == ["pass"] * memory.PASSES
    assert (use.peak_mib, use.reserved_mib, use.process_mib) == (None, None, 700)
    assert "another library than PyTorch" in (use.reason or "")


def test_gpu_out_of_memory_is_the_reason() -> None:
    def forward(x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB")

    peak = memory._measure_cuda(Does(forward), (IMAGE,), 0)
    assert (peak.peak_mib, peak.reason) == (None, "OutOfMemoryError: CUDA out of memory. Tried to allocate 1 TiB")


@pytest.mark.parametrize(
    ("mine", "used", "mib"), [(True, 500 * MIB, 500), (True, None, None), (True, 0, None), (False, 5, None)]
)
def test_nvml_reports_the_memory_of_this_process(
    mine: bool, used: int | None, mib: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml, pid = FakeNvml(Device(), H100), 4242
    nvml.pids, nvml.used_bytes = [pid], {pid: used}
    board = Nvml(nvml, "handle", own=OwnProcess(frozenset({pid if mine else 7}), on_board=True))
    monkeypatch.setattr(memory, "find_nvml", lambda device: board)
    assert memory._nvml_process_mib(torch.device("cuda")) == mib


def test_a_graph_keeps_what_it_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first graph leaves 40 MiB that stay without it; the second one adds 25 to them."""
    log: list[str] = []
    made: list[int] = []

    def make() -> Callable[[], object]:
        made.append(len(made))
        log.append("make")
        return lambda: log.append("replay")

    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda *device, name=name: log.append(name))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: (40, 65)[len(made) - 1] * MIB)
    monkeypatch.setattr(memory, "_nvml_process_mib", lambda device: 700)
    peak = memory._measure_cuda_graph(make, torch.device("cuda"), 30)
    assert (peak.peak_mib, peak.reserved_mib, peak.process_mib) == (55, 55, 700)
    assert "reserved for the graph" in peak.method
    waits = ["synchronize", "empty_cache"]
    assert log == ["make", *waits, "make", *["replay"] * memory.PASSES, *waits]


def test_a_graph_without_room_has_a_reason() -> None:
    def make() -> Callable[[], object]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB")

    peak = memory._measure_cuda_graph(make, torch.device("cuda"), 30)
    assert (peak.peak_mib, peak.reason) == (None, "OutOfMemoryError: CUDA out of memory. Tried to allocate 1 TiB")


def test_a_compiled_pass_is_measured_like_an_eager_one(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(memory, "_measure_cuda_passes", lambda start, device, own_mib: (start(), peak)[1])
    peak = memory._Peak("as eager", 80.0, 120.0, 700.0)
    images: Any = SimpleNamespace(device=torch.device("cuda"), untyped_storage=IMAGE.untyped_storage)
    use = memory.measure_memory_of_pass(conv(4, 8), images, make=lambda: lambda: calls.append("pass"), graph=False)
    assert calls == ["pass"]
    assert (use.peak_mib, use.live_mib, use.parameters_mib) == (80, None, 128 / MIB)
