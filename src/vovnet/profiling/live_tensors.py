"""Following the memory that the tensors of a forward pass hold, and which module runs at the peak."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from vovnet.profiling.dispatch import Operations, uncompiled
from vovnet.profiling.model_copy import copy_model, in_eval_mode
from vovnet.profiling.module_calls import following_calls


def follow_tensors(module: nn.Module, *inputs: Tensor) -> tuple[int, str]:
    """The most bytes that tensors hold at one moment of `module(*inputs)`, and the path of the module that then runs.

    Parameters, buffers, inputs and activations count, each storage once however many views it has. Memory that a kernel
    uses internally does not count. Eager PyTorch frees a tensor when the last reference to it is gone, with or without
    values, so only shapes are computed. If they depend on values, the model runs on its device.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode  # slow to import

    shapes_only = FakeTensorMode(allow_non_fake_inputs=True)
    # An error means that shapes are not enough, or that the model is at fault: then the real run fails too.
    with torch.inference_mode(False), contextlib.suppress(Exception):
        model = copy_model(module, shapes_only.from_tensor)
        with shapes_only:
            return _follow(model, *map(shapes_only.from_tensor, inputs))
    return _follow(module, *inputs)


def _follow(module: nn.Module, *inputs: Tensor) -> tuple[int, str]:
    live = _LiveTensors(*module.parameters(), *module.buffers(), *inputs)
    calls = following_calls(
        module, enter=lambda path, *_: live.running.append(path), leave=lambda _: live.running.pop()
    )
    with torch.inference_mode(False), torch.no_grad(), uncompiled(), in_eval(module), calls, live:
        module(*inputs)
    return live.peak_bytes, live.peak_layer


class _LiveTensors(Operations):
    """Follows the storages that operations create until they are freed."""

    def __init__(self, *held: Tensor) -> None:
        super().__init__()
        self._storages: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        self.running = [""]  # paths of the modules that run, the innermost one last
        self.peak_bytes, self.peak_layer = 0, ""
        self._add(held)

    def finished(self, func: Any, args: Any, output: Any) -> None:
        self._add(output)

    def _add(self, tensors: Any) -> None:
        for leaf in tree_leaves(tensors):
            if isinstance(leaf, Tensor):
                self._storages.add(leaf.untyped_storage())
        now = sum(storage.nbytes() for storage in self._storages)
        if now > self.peak_bytes:
            self.peak_bytes, self.peak_layer = now, self.running[-1]


@contextlib.contextmanager
def in_eval(module: nn.Module) -> Iterator[None]:
    """Eval mode inside the `with` statement; afterwards each part of the module is in its own mode again."""
    training = {part: part.training for part in module.modules()}
    in_eval_mode(module)
    try:
        yield
    finally:
        for part, flag in training.items():
            part.training = flag
