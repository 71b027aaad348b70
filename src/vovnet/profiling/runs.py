"""The ways in which a forward pass can be run: eagerly, as a CUDA graph, or compiled by `torch.compile`.

At batch 1 a fast GPU waits for the kernels that Python launches one by one. A CUDA graph launches all of them at once,
and compiled code launches fewer, so that time and energy are those of the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from time import perf_counter
from types import FunctionType
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from vovnet.errors import UsageError
from vovnet.printing import line
from vovnet.profiling.speed import synchronize

Run = Literal["eager", "graph", "compile"]
RUNS: tuple[Run, ...] = get_args(Run)
_WARMUP_PASSES = 3  # before a capture; PyTorch recommends a few, and cuDNN chooses its algorithms in them
# The largest difference from the eager pass, over the largest value of the same output. Rounding alone stays below it.
_BOUNDS: dict[str, float] = {"float32": 1e-3, "tf32": 2e-2, "float16": 2e-2, "bfloat16": 0.1}


@dataclass(frozen=True)
class Pass:
    """One way to run a forward pass of a module on images that stay where they are.

    start: starts a pass and returns its outputs; those of a graph stay in its memory.
    compile_s: time that compilation took, with the first passes; None if nothing was compiled.
    """

    run: Run
    start: Callable[[], Any]
    compile_s: float | None = None


class CudaGraphs:
    """The part of `torch.cuda` that captures and replays graphs. Tests replace it, since it needs a GPU.

    The graphs of one object share their memory, which is right as long as none is replayed while another one runs.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._pool: Any = None

    def warm_up(self, function: Callable[[], Any]) -> None:
        """Call `function` a few times as capturing needs it: on a stream of its own."""
        with torch.cuda.device(self.device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(_WARMUP_PASSES):
                    function()
            torch.cuda.current_stream().wait_stream(stream)

    def capture(self, function: Callable[[], Any]) -> tuple[Callable[[], object], Any]:
        """A function that runs what `function` did once more, and the outputs that it then overwrites."""
        with torch.cuda.device(self.device):
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                outputs = function()
        return graph.replay, outputs


@contextmanager
def choosing_algorithms(device: torch.device) -> Iterator[bool | None]:
    """cuDNN tries the algorithms of a convolution at its first pass and keeps the fastest, in every run alike.

    Gives whether it does so: None without a GPU of NVIDIA.
    """
    if device.type != "cuda":
        yield None
        return
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    try:
        yield True
    finally:
        torch.backends.cudnn.benchmark = before


def check_runs(runs: Sequence[Run], device: torch.device) -> None:
    """UsageError for an unknown or repeated run, and for one that the device does not have."""
    if unknown := [run for run in runs if run not in RUNS]:
        raise UsageError(f"run must be {', '.join(RUNS[:-1])} or {RUNS[-1]}, got {unknown[0]!r}")
    if not runs or len(set(runs)) < len(runs):
        raise UsageError(f"runs must be named, each once, got {', '.join(runs) or 'none'}")
    if "graph" in runs and device.type != "cuda":
        raise UsageError(f"a graph needs a CUDA GPU, and the device is {device}: leave out the run graph")


def make_pass(run: Run, name: str, module: nn.Module, images: Tensor, *, precision: str, graphs: CudaGraphs) -> Pass:
    """A pass that was found to give what the eager one does. It is made and must be started in inference mode.

    name: of the model, for messages.

    Raises ValueError if the module cannot be run in this way, or gives other results in it.
    """
    if run == "eager":
        return Pass("eager", lambda: module(images))
    with torch.inference_mode():
        made = _captured(name, module, images, graphs) if run == "graph" else _compiled(name, module, images)
        _check_outputs(made, name, module, images, precision)
    return made


def _captured(name: str, module: nn.Module, images: Tensor, graphs: CudaGraphs) -> Pass:
    def function() -> Any:
        return module(images)

    try:
        graphs.warm_up(function)
        replay, outputs = graphs.capture(function)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of any kind: what a model does while it is captured may be forbidden
        raise ValueError(
            f"{name} cannot run as a CUDA graph ({_first_line(error)}): leave out the run graph for this model"
        ) from error

    def start() -> Any:
        replay()
        return outputs

    return Pass("graph", start)


def _compiled(name: str, module: nn.Module, images: Tensor) -> Pass:
    from torch._dynamo import lookup_backend

    original = getattr(module, "_orig_mod", module)  # of a module that is compiled already
    inductor, graphs = lookup_backend("inductor"), list[Any]()

    def backend(graph: Any, inputs: Any, **options: Any) -> Any:
        graphs.append(graph)
        return inductor(graph, inputs, **options)

    # Each model and batch size has code of its own. They would share the code of their class otherwise, of which
    # PyTorch keeps few compiled versions, runs the rest eagerly, and tries one after the other in each call.
    compiled: Callable[[Tensor], Any] = torch.compile(
        _with_own_code(lambda x: original(x)), backend=backend, dynamic=False
    )
    began_s = perf_counter()
    try:
        with _many_versions():
            for _ in range(_WARMUP_PASSES):
                compiled(images)
        synchronize(images.device)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of any kind: a missing C++ compiler, an operation that cannot be compiled
        raise ValueError(
            f"{name} cannot be compiled ({_first_line(error)}): leave out the run compile for this model"
        ) from error
    if not graphs:
        raise ValueError(f"{name} has nothing that torch.compile can compile: leave out the run compile for this model")
    return Pass("compile", lambda: compiled(images), perf_counter() - began_s)


def _with_own_code(function: Any) -> Any:
    """The same function with a code object that no other function has."""
    code = function.__code__.replace()
    return FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)


@contextmanager
def _many_versions() -> Iterator[None]:
    """PyTorch may compile parts that models share, such as a block after a graph break, as often as it is needed."""
    from torch._dynamo import config

    limits = ("recompile_limit", "cache_size_limit", "accumulated_recompile_limit", "accumulated_cache_size_limit")
    with ExitStack() as stack:
        for name in limits:
            if hasattr(config, name):
                stack.enter_context(config.patch({name: 1000}))
        yield


def _check_outputs(made: Pass, name: str, module: nn.Module, images: Tensor, precision: str) -> None:
    """ValueError if the outputs differ from the eager ones, also on images that the pass was not made with."""
    kept = images.clone()
    try:
        for other in (False, True):
            if other:
                images.copy_(images.flip(-1))
            # First the pass, so that it cannot profit from what the eager one leaves in memory.
            outputs = [leaf.clone() for leaf in _tensors(made.start())]
            difference = _difference(outputs, _tensors(module(images)))
            if difference > _BOUNDS[precision]:
                raise ValueError(
                    f"{name} gives other results in the run {made.run} than eagerly "
                    f"(they differ by {difference:.2g} of the largest value): leave out the run {made.run}"
                )
    finally:
        images.copy_(kept)


def _difference(outputs: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference, over the largest expected value of the same tensor; infinity if shapes differ."""
    if [tensor.shape for tensor in outputs] != [tensor.shape for tensor in expected]:
        return float("inf")
    worst = 0.0
    for output, target in zip(outputs, expected, strict=True):
        if not target.numel():
            continue
        output, target = _real(output), _real(target)
        finite = target.isfinite()
        if not torch.equal(finite, output.isfinite()):
            return float("inf")
        if finite.any():
            scale = target[finite].abs().max().clamp(min=1e-12)
            worst = max(worst, ((output - target)[finite].abs().max() / scale).item())
    return worst


def _real(tensor: Tensor) -> Tensor:
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).float()


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _first_line(error: BaseException) -> str:
    """Of the error at the beginning, which the others followed: leaving a capture and the compiler raise their own."""
    inner = getattr(error, "inner_exception", None) or error.__cause__ or error.__context__
    if inner is not None:
        return _first_line(inner)
    return line(str(error).strip().partition("\n")[0] or type(error).__name__, 300)
