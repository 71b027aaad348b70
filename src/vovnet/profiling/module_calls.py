"""Following the calls of all modules inside a model during a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn


@contextmanager
def following_calls(
    model: nn.Module, *, enter: Callable[[str, nn.Module, Any], object], leave: Callable[[Any], object]
) -> Iterator[None]:
    """Inside the `with` statement, `enter` and `leave` are called when the call of a module begins and ends.

    Calls are nested like those of Python, also if a module is shared or calls itself, so a stack knows the innermost.
    `torch.utils.module_tracker.ModuleTracker` cannot replace this: it keeps the running modules without their order.
    The time and memory of other hooks belong to their module. A scripted module belongs to the module that calls it.

    enter: gets the module's path in `named_modules()` (the first one if it has several), the module, and its inputs as
        (arguments, keyword arguments).
    leave: gets the module's output.
    """

    def before(path: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        enter(path, module, (args, kwargs))

    def after(module: nn.Module, args: Any, output: Any) -> None:  # a value that is returned would replace the output
        leave(output)

    with ExitStack() as handles:
        for path, module in model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # takes no hooks
            hook = partial(before, path)
            handles.enter_context(module.register_forward_pre_hook(hook, prepend=True, with_kwargs=True))
            handles.enter_context(module.register_forward_hook(after))
        yield
