"""Following the tensor operations of a forward pass down to those that PyTorch does not take apart any further."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from typing import Any

import torch
from torch._C import DispatchKey
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode


class Operations(TorchDispatchMode):
    """Inside the `with` statement, `finished` is called after each operation.

    The parts of composite operations come one by one, in inference mode too, where PyTorch itself would show only the
    whole. A higher-order operation (`torch.cond`, `flex_attention`) is the operations of its reference implementation.
    """

    supports_higher_order_operators = True

    def finished(self, func: Any, args: Any, output: Any) -> None:
        """Called with the operator that PyTorch dispatched, its arguments and its output."""
        raise NotImplementedError

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inside = _implementation(func)
        if inside is not None:
            with suppress(_RefusesModes), self:
                return inside(*args, **kwargs)
        output = func(*args, **kwargs)
        self.finished(func, args, output)
        return output


_RefusesModes = AssertionError  # what some reference implementations raise, before they do anything


@cache
def _implementation(func: Any) -> Any:
    """The function that an operation consists of; None if it is a single operation."""
    if isinstance(func, HigherOrderOperator):
        return _REFERENCES.get(func.name()) or func.py_kernels.get(DispatchKey.CompositeExplicitAutograd)
    if func.name() in _COMPOSED:
        return partial(func._op_dk, DispatchKey.CompositeExplicitAutograd)
    if func.namespace == "prim" or not torch._C._dispatch_has_kernel_for_dispatch_key(
        func.name(), "CompositeImplicitAutograd"
    ):
        return None
    return partial(func._op_dk, DispatchKey.CompositeImplicitAutograd)


def _cond(predicate: Any, true_fn: Any, false_fn: Any, operands: Sequence[Any] = ()) -> Any:
    return (true_fn if predicate else false_fn)(*operands)


def _scan(combine: Any, carried: Sequence[Any], xs: Sequence[Any], additional: Sequence[Any] = (), *_: Any) -> Any:
    outputs = []
    for slices in zip(*(x.unbind() for x in xs), strict=True):
        results = combine(*carried, *slices, *additional)
        carried, rest = results[: len(carried)], results[len(carried) :]
        outputs.append(rest)
    return [*carried, *(torch.stack(rows) for rows in zip(*outputs, strict=True))]


_COMPOSED = {"aten::_euclidean_dist"}  # not declared as composite, but consists of a product and a few other operations

# PyTorch's own implementations of these refuse to run while operations are followed.
_REFERENCES = {"cond": _cond, "scan": _scan}


@contextmanager
def uncompiled() -> Iterator[None]:
    """Functions compiled by `torch.compile` run eagerly, so that their operations show."""
    with ExitStack() as stack:
        if "torch._dynamo" in sys.modules:  # slow to import, and without it nothing is compiled
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield
