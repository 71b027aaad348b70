"""The time of each layer of a forward pass, row by row of its cost."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from vovnet.profiling.cost import LayerCost, ModelCost
from vovnet.profiling.speed import synchronize

_WARMUP = 2

# The path of the module whose call begins then, None where the call that began last ends, and that moment.
_Mark = tuple[str | None, Any]


def time_layers(
    module: nn.Module, inputs: Sequence[Any], cost: ModelCost, *, repetitions: int = 10
) -> tuple[float, ...] | None:
    """Median seconds of each of `cost.layers` by itself, in their order, in eval mode with `module(*inputs)`.

    `cost` is that of the same module and shapes. A moment is taken where a call of any module begins and where it ends,
    and the time between two moments goes to the innermost call of then: like its counts, the time of a row leaves out
    the modules inside it. Rows that only hold parameters take 0 s. The time of calls that have no row, since they cost
    nothing (containers, views), is in no figure.

    Taking the moments makes the pass some microseconds a call longer. On a GPU they are events in its queue, so where
    it waits for the program to launch a layer, the wait is the layer's. `nn.TransformerEncoderLayer` runs as its parts.

    None where calls and rows cannot be brought together: the module is scripted or compiled, or it did not call the
    same modules as often as when its cost was counted. Raises ValueError for a module in training mode.
    """
    if module.training:
        raise ValueError("the module to time must be in eval mode: call its eval() first")
    if repetitions < 1:
        raise ValueError(f"repetitions must be at least 1, got {repetitions}")
    if any(_hides_its_calls(part) for part in module.modules()):
        return None
    device = next(leaf.device for leaf in tree_leaves(inputs) if isinstance(leaf, torch.Tensor))
    now, seconds_between = _clock(device)
    passes = []
    with torch.inference_mode(), _marking(module, now) as marks:
        for repetition in range(-_WARMUP, repetitions):
            marks.clear()
            module(*inputs)
            synchronize(device)
            if repetition >= 0:
                passes.append(_by_row(_own_seconds(marks, seconds_between), cost.layers))
    matched = [seconds for seconds in passes if seconds is not None]
    if len(matched) < len(passes):
        return None
    return tuple(statistics.median(row) for row in zip(*matched, strict=True))


def _hides_its_calls(module: nn.Module) -> bool:
    scripted = isinstance(module, torch.jit.ScriptModule)
    return scripted or "_orig_mod" in module._modules or module._compiled_call_impl is not None


def _clock(device: torch.device) -> tuple[Callable[[], Any], Callable[[Any, Any], float]]:
    """A function that takes a moment of the device, and one for the seconds between two, once it is synchronised."""
    if device.type == "cpu":
        return perf_counter, lambda start, end: end - start

    def record() -> Any:
        event = torch.get_device_module(device).Event(enable_timing=True)
        if device.type == "cuda":
            event.record(torch.cuda.current_stream(device))
        else:
            event.record()
        return event

    return record, lambda start, end: start.elapsed_time(end) / 1e3


@contextmanager
def _marking(module: nn.Module, now: Callable[[], Any]) -> Iterator[list[_Mark]]:
    """A list that gets the marks of every pass within. Other hooks of a module count as part of it."""
    marks: list[_Mark] = []

    def begin(path: str, *_: Any) -> None:
        marks.append((path, now()))

    def end(*_: Any) -> None:
        marks.append((None, now()))

    handles = []
    try:
        for path, part in module.named_modules():
            handles.append(part.register_forward_pre_hook(partial(begin, path), prepend=True))
            handles.append(part.register_forward_hook(end))
        yield marks
    finally:
        for handle in handles:
            handle.remove()


def _own_seconds(marks: Sequence[_Mark], seconds_between: Callable[[Any, Any], float]) -> dict[str, list[float]]:
    """Path → seconds of each of its calls, in order, each without the calls inside it."""
    paths: list[str] = []
    seconds: list[float] = []
    running: list[int] = []
    before = None
    for path, moment in marks:
        if running:
            seconds[running[-1]] += seconds_between(before, moment)
        if path is None:
            running.pop()
        else:
            running.append(len(paths))
            paths.append(path)
            seconds.append(0.0)
        before = moment
    calls = defaultdict(list)
    for path, own in zip(paths, seconds, strict=True):
        calls[path].append(own)
    return calls


def _by_row(calls: dict[str, list[float]], rows: Sequence[LayerCost]) -> list[float] | None:
    """The n-th row of a path that does something is the n-th call of it; None where their numbers differ."""
    expected = Counter(row.path for row in rows if _works(row))
    if any(len(calls.get(path, ())) != count for path, count in expected.items()):
        return None
    left = {path: iter(calls[path]) for path in expected}
    return [next(left[row.path]) if _works(row) else 0.0 for row in rows]


def _works(row: LayerCost) -> bool:
    return row.multiply_adds > 0 or row.other_elements > 0
