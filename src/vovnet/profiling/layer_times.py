"""Timing each layer of a forward pass, for the same rows as its cost."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import compress
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from vovnet.profiling.cost_types import LayerCost, ModelCost
from vovnet.profiling.module_calls import following_calls
from vovnet.profiling.speed import synchronize

_WARMUP_PASSES = 2

# A moment, with the path of the module whose call begins then, or None if the innermost call ends then.
_Moment = tuple[str | None, Any]


def time_layers(
    module: nn.Module, inputs: Sequence[Any], cost: ModelCost, *, repetitions: int = 10
) -> tuple[float, ...] | None:
    """Median seconds of each of `cost.layers`, in their order, during `module(*inputs)` in eval mode.

    The clock is read when the call of a module begins and when it ends, and the time between two readings belongs to
    the call that is then innermost. So, like its counts, the time of a row excludes the modules inside it. Rows that
    only hold parameters take 0 s. The time of calls without a row, which cost nothing (containers, views), is dropped.

    Reading the clock lengthens the pass by some microseconds per call. On a GPU the readings are events in its queue,
    so the wait for the launch of a layer belongs to that layer. `nn.TransformerEncoderLayer` runs as separate layers.

    Returns None if the calls do not match the rows: the module is scripted or compiled, or it does not call the same
    modules as often as when its cost was counted. Raises ValueError for a module in training mode.
    """
    if module.training:
        raise ValueError("the module must be in eval mode to be timed: call module.eval() first")
    if repetitions < 1:
        raise ValueError(f"repetitions must be at least 1, got {repetitions}")
    if any(_hides_its_calls(part) for part in module.modules()):
        return None
    device = next(leaf.device for leaf in tree_leaves(inputs) if isinstance(leaf, torch.Tensor))
    now, seconds_between = _clock(device)
    moments: list[_Moment] = []
    calls = following_calls(
        module, enter=lambda path, *_: moments.append((path, now())), leave=lambda _: moments.append((None, now()))
    )
    passes = []
    with torch.inference_mode(), calls:
        for repetition in range(-_WARMUP_PASSES, repetitions):
            moments.clear()
            module(*inputs)
            synchronize(device)
            if repetition < 0:
                continue
            seconds = _by_row(_own_seconds(moments, seconds_between), cost.layers)
            if seconds is None:
                return None
            passes.append(seconds)
    return tuple(statistics.median(row) for row in zip(*passes, strict=True))


def _hides_its_calls(module: nn.Module) -> bool:
    scripted = isinstance(module, torch.jit.ScriptModule)
    return scripted or "_orig_mod" in module._modules or module._compiled_call_impl is not None


def _clock(device: torch.device) -> tuple[Callable[[], Any], Callable[[Any, Any], float]]:
    """A function that reads the clock of the device, and one for the seconds between two readings, after a wait."""
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


def _own_seconds(moments: Sequence[_Moment], seconds_between: Callable[[Any, Any], float]) -> dict[str, list[float]]:
    """Path → seconds of each of its calls, in order, without the calls inside."""
    calls: dict[str, list[float]] = defaultdict(list)
    running: list[tuple[str, int]] = []
    before = None
    for path, moment in moments:
        if running:
            innermost, index = running[-1]
            calls[innermost][index] += seconds_between(before, moment)
        if path is None:
            running.pop()
        else:
            running.append((path, len(calls[path])))
            calls[path].append(0.0)
        before = moment
    return calls


def _by_row(calls: dict[str, list[float]], rows: Sequence[LayerCost]) -> list[float] | None:
    """The seconds of each row: the n-th row of a path is its n-th call. None if their numbers differ."""
    # Others only hold parameters.
    computing = [row.multiply_adds > 0 or row.other_elements > 0 or row.uncounted_calls > 0 for row in rows]
    expected = Counter(row.path for row in compress(rows, computing))
    if any(len(calls.get(path, ())) != count for path, count in expected.items()):
        return None
    remaining = {path: iter(calls[path]) for path in expected}
    return [next(remaining[row.path]) if computes else 0.0 for row, computes in zip(rows, computing, strict=True)]
