"""A device that is not the CPU, for tests on machines without one.

Within `other_device()`, tensors on `OTHER` compute on the CPU but behave as those on a GPU: an operation that mixes
them with CPU tensors raises, and so does reading their memory without copying them. What makes a GPU wait for the
program is noted. `OTHER` is torch's "meta" device, because all others that are missing must be initialised first.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

OTHER = torch.device("meta")
aten = torch.ops.aten

# Their arguments may be on different devices.
_COPIES = (aten._to_copy.default, aten.copy_.default)
_INDEXING = (aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default, aten.index_put.default)
_RANDOM = "generator"


class OtherTensor(Tensor):
    """A tensor that says it is on `OTHER`; `inside` is where it computes."""

    inside: Tensor

    @staticmethod
    def __new__(cls, inside: Tensor) -> OtherTensor:
        with torch.inference_mode(inside.is_inference()):  # a view of a usual tensor is one in that mode too
            tensor = Tensor._make_wrapper_subclass(
                cls,
                inside.size(),
                strides=inside.stride(),
                storage_offset=inside.storage_offset(),
                dtype=inside.dtype,
                device=OTHER,
            )
        tensor.inside = inside
        return tensor

    def __repr__(self, **_: Any) -> str:
        return f"OtherTensor({self.inside!r})"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, None)


class _Dispatch(TorchDispatchMode):
    def __init__(self, waits: list[str]) -> None:
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._can_decompose():  # in inference mode composite operations come whole
            with self:
                return func.decompose(*args, **(kwargs or {}))
        return _run(func, args, kwargs or {}, self.waits)


class _Constructors(TorchFunctionMode):
    """`torch.tensor` and its like never reach the dispatcher for the meta device: make them on the CPU, then move."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        own = func is Tensor.new_tensor and isinstance(args[0], OtherTensor)
        if (func in (torch.tensor, torch.as_tensor) and torch.device(kwargs.get("device") or "cpu") == OTHER) or own:
            device, data = kwargs.pop("device", None) or OTHER, args[1:] if own else args
            if own:
                kwargs.setdefault("dtype", args[0].dtype)
            return torch.tensor(*data, **kwargs).to(device)
        if func is Tensor.tolist and isinstance(args[0], OtherTensor):
            return args[0].cpu().tolist()
        return func(*args, **kwargs)


@contextlib.contextmanager
def other_device() -> Iterator[list[str]]:
    """Give `OTHER` its meaning. The list gets an entry for each time that a GPU would wait for the program."""
    waits: list[str] = []
    with _Constructors(), _Dispatch(waits):
        yield waits


def _is_other(value: Any) -> bool:
    return isinstance(value, OtherTensor)


def _run(func: Any, args: Any, kwargs: dict[str, Any], waits: list[str] | None) -> Any:
    given, _ = tree_flatten((args, kwargs))
    tensors = [value for value in given if isinstance(value, Tensor)]
    device = kwargs.get("device")
    on_other = any(map(_is_other, tensors))
    _check(func, args, tensors)
    if _RANDOM in kwargs and kwargs[_RANDOM] is not None and (on_other or device == OTHER):
        raise RuntimeError(f"{func}: expected a generator of device {OTHER}, got one of {kwargs[_RANDOM].device}")
    to_other = torch.device(device) == OTHER if device is not None else on_other
    if waits is not None:
        _note_waits(func, args, kwargs, on_other=on_other, to_other=to_other, waits=waits)
    inner = {
        key: torch.device("cpu") if key == "device" and value is not None else value for key, value in kwargs.items()
    }
    real_args, real_kwargs = tree_map(lambda value: value.inside if _is_other(value) else value, (args, inner))
    result = func(*real_args, **real_kwargs)
    if not to_other:
        return result
    known = {id(tensor.inside): tensor for tensor in tensors if _is_other(tensor)}

    def wrap(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return known[id(value)] if id(value) in known else OtherTensor(value)

    return tree_map(wrap, result)


def _check(func: Any, args: Any, tensors: list[Tensor]) -> None:
    """Raise RuntimeError if a GPU would not take these arguments together. Numbers as tensors on the CPU are fine."""
    if func in _COPIES or not any(map(_is_other, tensors)):
        return
    if func in _INDEXING and _is_other(args[0]):
        tensors = [args[0], *args[2:3]]  # indices may be on the CPU; they are copied
    stray = [tensor for tensor in tensors if isinstance(tensor, Tensor) and not _is_other(tensor) and tensor.ndim > 0]
    if stray:
        raise RuntimeError(f"{func}: expected all tensors on one device, got one on the CPU of shape {stray[0].shape}")


def _note_waits(
    func: Any, args: Any, kwargs: dict[str, Any], *, on_other: bool, to_other: bool, waits: list[str]
) -> None:
    waiting = False
    if on_other:
        waiting = func in (
            aten._local_scalar_dense.default,
            aten.nonzero.default,
            aten.equal.default,
            aten.masked_select.default,
        )
        if func in _INDEXING:
            indices = [index for index in args[1] if index is not None]
            waiting = any(not _is_other(index) or index.dtype in (torch.bool, torch.uint8) for index in indices)
        waiting |= func == aten.repeat_interleave.Tensor and kwargs.get("output_size") is None
    if func == aten._to_copy.default:
        waiting = _is_other(args[0]) != to_other and not (kwargs.get("non_blocking") and to_other)
    if func == aten.copy_.default:
        waiting = _is_other(args[0]) != _is_other(args[1]) and not (len(args) > 2 and args[2])
    if waiting:
        waits.append(f"{func} in {_caller()}")


def _caller() -> str:
    frame = sys._getframe(1)
    while frame is not None and "/vovnet/" not in frame.f_code.co_filename:
        frame = frame.f_back
    return f"{frame.f_code.co_filename.rpartition('/vovnet/')[2]}:{frame.f_lineno}" if frame else "a test"
