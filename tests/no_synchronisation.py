"""Finds what would make a training step wait for a GPU, where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vovnet import matching

# Their result, or its size, is known only once the device has computed it; `lift_fresh` makes a tensor of Python
# numbers, which are then copied to the device.
WAITING = (
    *("_local_scalar_dense", "item", "is_nonzero", "nonzero", "nonzero_numpy", "argwhere", "equal", "allclose"),
    *("masked_select", "masked_scatter", "unique", "_unique", "_unique2", "unique_dim", "unique_consecutive"),
    *("bincount", "histc", "lift_fresh", "lift_fresh_copy"),
)
READERS = ("item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__", "__array__")


class SynchronisationError(AssertionError):
    """A step waits for its device."""


class _Watch(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in WAITING:
            raise SynchronisationError(f"{func} waits for the device")
        if name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(map(_is_boolean, args[1])):
            raise SynchronisationError(f"{func} with a boolean index waits for the device")
        if name == "repeat_interleave" and kwargs is not None and kwargs.get("output_size") is None:
            raise SynchronisationError(f"{func} without output_size waits for the device")
        devices = {leaf.device.type for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and name in ("_to_copy", "copy_") and len(devices | {out.device.type}) > 1:
            raise SynchronisationError(f"{func} copies between devices")
        return out


def _is_boolean(index: Any) -> bool:
    return isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)


@contextmanager
def no_synchronisation() -> Iterator[None]:
    """Raises `SynchronisationError`, with the line in its traceback, where a GPU would have to be waited for.

    What is known to be on the CPU takes the path of a GPU.
    """

    def read(name: str) -> Any:
        def refuse(*_: Any, **__: Any) -> Any:
            raise SynchronisationError(f"Tensor.{name} reads from the device")

        return refuse

    with (
        mock.patch.multiple(torch.Tensor, **{name: read(name) for name in READERS}),
        mock.patch.object(matching, "_can_look_at", return_value=False),
        _Watch(),
    ):
        yield
