"""Copies of models, also of those that `copy.deepcopy` refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_ATOMIC = (type(None), bool, int, float, complex, str, bytes, type, range, FunctionType, BuiltinFunctionType)


def copy_model(model: nn.Module, replaced: Callable[[Tensor], Tensor] | None = None) -> nn.Module:
    """A copy that can be run and changed without any effect on the model.

    A tensor that was computed from parameters (a weight under weight norm or pruning, a feature map that was kept)
    becomes a plain tensor. What cannot be copied at all, such as a lock, a generator or an open file, is shared. Hooks
    and attributes are copied; a module that was compiled in place runs eagerly in the copy.

    replaced: what takes the place of a parameter or buffer; by default a copy.
    """
    with torch.inference_mode(False):
        memo: dict[int, Any] = {}
        if replaced is not None:
            memo = {id(tensor): replaced(tensor) for tensor in (*model.parameters(), *model.buffers())}
        with _DetachedTensors():
            try:
                duplicate = copy.deepcopy(model, dict(memo))
            except Exception:  # copying runs code of the model, which can raise anything
                duplicate = _copy_the_rest(model, memo)
    for part in duplicate.modules():
        if part._compiled_call_impl is not None:
            part._compiled_call_impl = None  # it would run the model that was copied
    return duplicate


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside `DistributedDataParallel`, which needs other processes to run and only matters in training."""
    while isinstance(model, nn.parallel.DistributedDataParallel):
        model = model.module
    return model


def in_eval_mode(model: nn.Module) -> nn.Module:
    """The model itself, after it was put in eval mode. Programs of `torch.export` refuse, and have only one mode."""
    try:
        return model.eval()
    except NotImplementedError:
        for part in model.modules():
            part.training = False
        return model


def is_uninitialised(model: nn.Module) -> bool:
    """Whether a lazy layer still waits for an input to know the shapes of its weights."""
    return any(nn.parameter.is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers()))


class _DetachedTensors(TorchFunctionMode):
    """`copy.deepcopy` refuses tensors that have a history, which is left out, and buffers without a shape."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not Tensor.__deepcopy__:
            return func(*args, **(kwargs or {}))
        tensor, memo = args
        if isinstance(tensor, nn.UninitializedBuffer):
            kind: Any = type(tensor)  # its arguments are not typed
            memo[id(tensor)] = kind(device=tensor.data.device, dtype=tensor.data.dtype)
        elif tensor.is_leaf:
            return func(tensor, memo)
        else:
            memo[id(tensor)] = copy.deepcopy(tensor.detach(), memo)
        return memo[id(tensor)]


def _copy_the_rest(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """A copy that shares what cannot be copied. A module whose own way of copying fails is copied by its attributes."""
    refused = list(_refusing(model))
    shells = {id(value): value for value in refused if isinstance(value, nn.Module)}
    memo |= {id(value): value for value in refused if id(value) not in shells}
    for key, module in shells.items():
        memo[key] = type(module).__new__(type(module))
    for key, module in shells.items():
        vars(memo[key]).update(copy.deepcopy(vars(module), memo))
    duplicate: nn.Module = copy.deepcopy(model, memo)
    return duplicate


def _refusing(model: nn.Module) -> Iterator[Any]:
    """Everything that the model refers to and that cannot be copied even if all that it refers to can."""
    waiting: list[Any] = [model]
    seen: dict[int, Any] = {}  # the values too, since an id belongs to a value only while that exists
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, (*_ATOMIC, Tensor)):
            continue
        seen[id(value)] = value
        parts = _parts(value)
        given = {id(part): part for part in parts}
        if hasattr(value, "__dict__"):
            given[id(vars(value))] = dict(vars(value))  # which `__setstate__` may change
        try:
            copy.deepcopy(value, given)
        except Exception:
            yield value
            if not isinstance(value, nn.Module):
                continue
            parts = [vars(value)]
        waiting += parts


def _parts(value: Any) -> list[Any]:
    if isinstance(value, ModuleType):
        return []
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if isinstance(value, MethodType):
        return [value.__self__]
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    attributes = [vars(value)] if hasattr(value, "__dict__") else []
    slots = [name for kind in type(value).__mro__ for name in _names(kind.__dict__.get("__slots__", ()))]
    return attributes + [getattr(value, name) for name in slots if hasattr(value, name)]


def _names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)
