"""Counting the cost of a forward pass, layer by layer: parameters, multiply-adds, memory access.

PyTorch shows every tensor operation of the pass when it dispatches it, so a concatenation inside a block counts as well
as a layer. dispatch.py finds the operations, operation_cost.py has the rules for single ones.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves, tree_map_only

from vovnet.profiling.cost_types import Cost, LayerCost, ModelCost, Shape, check_dtype
from vovnet.profiling.dispatch import Operations, uncompiled
from vovnet.profiling.model_copy import copy_model, in_eval_mode, is_uninitialised, unwrapped
from vovnet.profiling.module_calls import following_calls
from vovnet.profiling.operation_cost import operation_cost


def count_cost(module: nn.Module, *inputs: Any, dtype: str = "float32") -> ModelCost:
    """The cost of `module(*inputs)` in eval mode, with a row for each layer. The module is not changed.

    Only shapes are computed, and no weights are copied. If the shapes depend on values (as in a detector with its own
    post-processing), the model runs with values on the CPU, and `ModelCost.note` says so: the part that depends on
    values may cost more or less on another input.

    inputs: for each argument the shape of random numbers, such as (N, C, H, W), or tensors, also in lists and
        dictionaries.
    dtype: for FLOPs per byte.

    Raises ValueError for an unknown dtype and a scripted module, and what the model raises if it cannot take the
    inputs.
    """
    check_dtype(dtype)
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError("the layers of a scripted module are not visible: count the module it came from")
    with torch.inference_mode(False), torch.no_grad():
        trace, note = _trace(unwrapped(module), inputs)
    root = trace.calls[0]
    kind = type(root.module).__name__
    return ModelCost(kind, root.input_shapes, dtype, trace.layers(), dict(trace.uncounted), note)


def count_parameters(module: nn.Module) -> int:
    """The number of trainable values: weights, biases, scales of norms. Running statistics of a norm do not count."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_multiply_adds(module: nn.Module, input_size: tuple[int, int], channels: int = 3) -> int:
    """Multiply-adds of convolutions and matrix products for one image of size (height, width), see `count_cost`.

    A lower bound if `ModelCost.uncounted` has operations.

    The paper's tables call this number FLOPs; real FLOPs are twice as many.
    """
    return count_cost(module, (1, channels, *input_size)).total.multiply_adds


@dataclass
class _Call:
    """A call of a module."""

    path: str
    module: nn.Module
    input_shapes: tuple[Shape, ...] = ()
    output_shapes: tuple[Shape, ...] = ()
    cost: Cost = field(default_factory=Cost)


class _Trace(Operations):
    """Adds the cost of each operation to the innermost call."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.calls: list[_Call] = []  # in order
        self.uncounted: Counter[str] = Counter()
        self._running: list[_Call] = []
        self._constants = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}

    def enter(self, path: str, module: nn.Module, inputs: Any) -> None:
        self._running.append(_Call(path, module, _shapes(inputs)))
        self.calls.append(self._running[-1])

    def leave(self, output: Any) -> None:
        self._running.pop().output_shapes = _shapes(output)

    def finished(self, func: Any, args: Any, output: Any) -> None:
        cost, uncounted = operation_cost(func, args, output, self._constants)
        self._running[-1].cost += cost
        if uncounted:
            self.uncounted[uncounted] += 1

    def layers(self) -> tuple[LayerCost, ...]:
        """A row for every call that costs something, then for modules with parameters that were never called."""
        called = {id(call.module) for call in self.calls}
        uncalled = [_Call(path, module) for path, module in self.model.named_modules() if id(module) not in called]
        counted: set[int] = set()
        rows = []
        for call in (*self.calls, *uncalled):
            own = {id(tensor): tensor.numel() for tensor in call.module.parameters(recurse=False)}
            parameters = sum(count for key, count in own.items() if key not in counted)
            counted |= own.keys()
            cost = call.cost + Cost(parameters=parameters)
            if cost != Cost():
                columns = vars(cost) | {"input_shapes": call.input_shapes, "output_shapes": call.output_shapes}
                rows.append(LayerCost(path=call.path, kind=type(call.module).__name__, **columns))
        return tuple(rows)


def _trace(module: nn.Module, inputs: Sequence[Any]) -> tuple[_Trace, str | None]:
    """The trace of a pass, and a note if it needed values."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # slow to import

    if is_uninitialised(module):
        module = in_eval_mode(copy_model(module).cpu())
        module(*_tensors(module, inputs))
    shapes_only = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        model = in_eval_mode(copy_model(module, partial(_without_values, shapes_only)))
        with shapes_only, warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torchvision calls functions that PyTorch has renamed
            return _run(model, inputs), None
    except Exception as error:  # of any kind; if the model is at fault, the real run raises it again
        if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
            raise ValueError(f"the model must have values to be counted, but is on the meta device: {error}") from error
        trace = _run(in_eval_mode(copy_model(module).cpu()), inputs)
        reason = str(error).partition("\n")[0].partition(". ")[0]
        return trace, f"counted in a real run on the CPU, since its shapes depend on values ({reason})"


def _run(model: nn.Module, inputs: Sequence[Any]) -> _Trace:
    trace, tensors = _Trace(model), _tensors(model, inputs)
    with following_calls(model, enter=trace.enter, leave=trace.leave), _unfused(), uncompiled(), trace:
        model(*tensors)
    return trace


def _tensors(model: nn.Module, inputs: Sequence[Any]) -> list[Any]:
    dtype = next((tensor.dtype for tensor in model.parameters() if tensor.is_floating_point()), torch.float32)
    generator = torch.Generator().manual_seed(0)

    def to_tensors(value: Any) -> Any:
        if isinstance(value, (tuple, list)) and value and all(isinstance(size, int) for size in value):
            return torch.rand(*value, dtype=dtype, generator=generator, device="cpu")
        return tree_map_only(Tensor, lambda tensor: (tensor.clone() if tensor.is_inference() else tensor).cpu(), value)

    return [to_tensors(value) for value in inputs]


def _without_values(shapes_only: contextlib.AbstractContextManager[Any], tensor: Tensor) -> Tensor:
    with shapes_only:
        empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty


@contextlib.contextmanager
def _unfused() -> Iterator[None]:
    """Attention and LSTM run as separate products instead of fused kernels (the latter are oneDNN's)."""
    mkldnn: Any = torch.backends.mkldnn  # typed as read-only
    fast, onednn = torch.backends.mha.get_fastpath_enabled(), mkldnn.enabled
    torch.backends.mha.set_fastpath_enabled(False)
    mkldnn.enabled = False
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        mkldnn.enabled = onednn


def _shapes(value: Any) -> tuple[Shape, ...]:
    return tuple(tuple(leaf.shape) for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor))
