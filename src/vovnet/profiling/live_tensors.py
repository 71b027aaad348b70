"""What the tensors of a forward pass hold, moment by moment, and which module runs when they hold most."""

from __future__ import annotations

import contextlib
import copy
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def follow_tensors(module: nn.Module, *inputs: Tensor) -> tuple[int, str]:
    """The most bytes that tensors held at one moment of `module(*inputs)`, and the path of the module that then ran.

    Parameters, buffers, inputs and activations count, each storage once however many views it has; what a kernel uses
    inside itself does not. Eager PyTorch frees a tensor when nothing refers to it any more, whether it has values or
    not. So only shapes are computed, unless the path of the model depends on values: then it runs for real on its
    device.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode  # slow to import

    shapes_only = FakeTensorMode(allow_non_fake_inputs=True)
    with contextlib.suppress(Exception):  # what shapes cannot do; a fault of the model shows again in the real run
        empty = {id(tensor): shapes_only.from_tensor(tensor) for tensor in (*module.parameters(), *module.buffers())}
        model = copy.deepcopy(module, empty)
        with shapes_only:
            return _follow(model, *map(shapes_only.from_tensor, inputs))
    return _follow(module, *inputs)


def _follow(module: nn.Module, *inputs: Tensor) -> tuple[int, str]:
    live = _LiveTensors(*module.parameters(), *module.buffers(), *inputs)
    # Without gradients rather than in inference mode, which hides from us the operations that others are made of.
    with in_eval(module), live.watching(module), torch.no_grad(), live:
        module(*inputs)
    return live.most_bytes, live.layer


class _LiveTensors(TorchDispatchMode):
    """Follows the storages that operations make until they are freed."""

    def __init__(self, *held: Tensor) -> None:
        super().__init__()
        self._storages: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        self._running = [""]
        self.most_bytes, self.layer = 0, ""
        self._look(held)

    @contextlib.contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Knows which module of `model` runs."""
        hooks = []
        for path, module in model.named_modules():
            hooks.append(module.register_forward_pre_hook(partial(self._enter, path)))
            hooks.append(module.register_forward_hook(self._leave))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, path: str, module: nn.Module, args: Any) -> None:
        self._running.append(path)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._running.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        self._look(output)
        return output

    def _look(self, tensors: Any) -> None:
        for leaf in tree_leaves(tensors):
            if isinstance(leaf, Tensor):
                self._storages.add(leaf.untyped_storage())
        now = sum(storage.nbytes() for storage in self._storages)
        if now > self.most_bytes:
            self.most_bytes, self.layer = now, self._running[-1]


@contextlib.contextmanager
def in_eval(module: nn.Module) -> Iterator[None]:
    """Eval mode for a while; each part gets its own mode back."""
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, flag in training.items():
            part.training = flag
