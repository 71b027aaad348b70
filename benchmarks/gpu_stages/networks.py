"""The detectors of the tables on the device, each built once, and their passes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gpu_stages.stage import free_memory
from vovnet import create_model
from vovnet.paper.recomputed import foreground_classes
from vovnet.profiling.number_format import Precision, cast, dtype_of
from vovnet.profiling.runs import CudaGraphs, Run, make_pass
from vovnet.profiling.speed import synchronize


class Networks:
    """Networks with random weights, each built once: building them for every measurement would take half of the time.

    Random weights cost the same as trained ones, since none of these detectors proposes regions.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._float32: dict[str, nn.Module] = {}

    def get(self, name: str, precision: Precision) -> nn.Module:
        """In eval mode, channels_last and this precision. A half copy is made anew: it takes no memory later."""
        if name not in self._float32:
            torch.manual_seed(0)
            with self.device:
                model = create_model(name, foreground_classes(name))
            self._float32[name] = model.to(self.device).eval().to(memory_format=torch.channels_last)
        model = self._float32[name]
        return model if dtype_of(precision) == torch.float32 else cast(copy.deepcopy(model), precision)

    def size(self, name: str) -> tuple[int, int]:
        height, width = self.get(name, "float32").preprocessing.image_size
        return height, width

    def images(self, name: str, precision: Precision, batch: int) -> Tensor:
        shape = (batch, 3, *self.size(name))
        return torch.rand(shape, device=self.device).to(dtype_of(precision)).to(memory_format=torch.channels_last)


@contextmanager
def one_pass(
    networks: Networks, name: str, *, precision: Precision, batch: int, run: Run, graphs: CudaGraphs
) -> Iterator[Callable[[], int]]:
    """A function that starts one pass and returns its number of images; what it holds is freed at the end.

    ValueError if the run gives other results than the eager one.
    """
    module, images = networks.get(name, precision), networks.images(name, precision, batch)
    made = make_pass(run, name, module, images, precision=precision, graphs=graphs)

    def start() -> int:
        with torch.inference_mode():
            made.start()
        return batch

    start()
    synchronize(networks.device)
    yield start


def passes_that_work(
    kept: ExitStack, networks: Networks, names: Sequence[str], **how: Any
) -> tuple[dict[str, Callable[[], int]], dict[str, str]]:
    """The passes of these models, kept until `kept` is closed; and why those that are left out do not work.

    how: of `one_pass`. ValueError if none works.
    """
    runs, left_out = dict[str, Callable[[], int]](), dict[str, str]()
    for name in names:
        try:
            runs[name] = kept.enter_context(one_pass(networks, name, **how))
        except (ValueError, RuntimeError) as error:  # RuntimeError: above all, no memory left
            left_out[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        if name in left_out:
            free_memory()
    if not runs:
        raise ValueError("; ".join(f"{name}: {reason}" for name, reason in left_out.items()))
    return runs, left_out
