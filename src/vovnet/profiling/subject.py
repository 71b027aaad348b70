"""A model that is ready to be measured: on its device, in its number format, with an input."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from vovnet.errors import UsageError
from vovnet.profiling.cost import count_cost
from vovnet.profiling.cost_types import ModelCost
from vovnet.profiling.energy.estimate import HOROWITZ_45NM, HOROWITZ_45NM_HALF, EstimatedEnergy, estimate
from vovnet.profiling.layer_times import time_layers
from vovnet.profiling.memory import MIB, MemoryUse, measure_memory, measure_memory_of_pass
from vovnet.profiling.model_copy import copy_model, in_eval_mode, is_uninitialised, unwrapped
from vovnet.profiling.number_format import Precision, cast, dtype_of
from vovnet.profiling.onnx.cost import count_onnx_cost
from vovnet.profiling.onnx.module import OnnxModule
from vovnet.profiling.runs import CudaGraphs, Pass, Run, make_pass
from vovnet.profiling.speed import synchronize

InputShape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Subject:
    """A module on its device, in its precision, with an input batch and the cost of one pass."""

    name: str
    module: nn.Module
    images: Tensor
    cost: ModelCost
    precision: str
    made: Pass | None = None  # None: eager

    @property
    def run_name(self) -> Run:
        return "eager" if self.made is None else self.made.run

    @property
    def input_shape(self) -> InputShape:
        n, c, height, width = self.images.shape
        return n, c, height, width

    @property
    def title(self) -> str:
        return self.name if self.made is None else f"{self.name} ({self.made.run})"

    def in_run(self, run: Run, graphs: CudaGraphs) -> Subject:
        """The subject as a graph or compiled. Raises ValueError, or UsageError if it is exported, if it cannot be."""
        if run == "eager":
            return replace(self, made=None)
        if self.exported:
            raise UsageError(f"{self.name} is exported, and its runtime has only one way to run it: use the run eager")
        return replace(self, made=self._make_pass(run, graphs))

    def _make_pass(self, run: Run, graphs: CudaGraphs) -> Pass:
        return make_pass(run, self.name, self.module, self.images, precision=self.precision, graphs=graphs)

    @property
    def exported(self) -> bool:
        return isinstance(self.module, OnnxModule)

    @property
    def other_inputs(self) -> dict[str, str] | None:
        """What an exported file is given beside the images, see `OnnxModule.other_inputs`."""
        if not isinstance(self.module, OnnxModule):
            return None
        return self.module.other_inputs(tuple(self.images.shape)) or None

    def run(self) -> int:
        """Start one pass and drop its outputs. Returns its number of images, as `run_and_wait` does."""
        with torch.inference_mode():
            if self.made is None:
                self.module(self.images)
            else:
                self.made.start()
        return len(self.images)

    def run_and_wait(self) -> int:
        count = self.run()
        synchronize(self.images.device)
        return count

    def with_batch(self, size: int, graphs: CudaGraphs | None = None) -> Subject:
        """The same with other images, in the same run. graphs: needed for a run that is not eager."""
        images = _random_images((size, *self.images.shape[1:]), self.images.device, self.images.dtype)
        subject = replace(self, images=images, made=None)
        return subject if self.made is None or graphs is None else subject.in_run(self.made.run, graphs)

    def time_layers(self) -> tuple[float, ...] | None:
        """None also for a graph and a compiled model, which have no layers to time."""
        if self.exported or self.made is not None:
            return None
        return time_layers(self.module, (self.images,), self.cost)

    def measure_memory(self) -> MemoryUse:
        if self.made is not None:
            made = self.made
            if made.run == "graph":
                remake = partial(self._make_pass, "graph", CudaGraphs(self.images.device))
                return measure_memory_of_pass(self.module, self.images, make=lambda: remake().start, graph=True)
            return measure_memory_of_pass(self.module, self.images, make=lambda: made.start, graph=False)
        use = measure_memory(self.module, self.images, own_allocator=self.exported)
        if not self.exported:
            return use
        # PyTorch sees only the inputs and outputs of an exported model.
        parameters_mib = self.cost.total.parameters * self.cost.element_bytes / MIB
        return replace(use, parameters_mib=parameters_mib, live_mib=None, live_layer=None)

    def estimate_energy(self) -> EstimatedEnergy | None:
        """None for number formats without published energies of their arithmetic."""
        model = {2: HOROWITZ_45NM_HALF, 4: HOROWITZ_45NM}.get(self.cost.element_bytes)
        if model is None:
            return None
        images, memory_bytes = len(self.images), self.cost.total.elements * self.cost.element_bytes
        return estimate(self.cost.total.multiply_adds / images, memory_bytes / images, model)


def prepare(
    name: str,
    module: nn.Module,
    shape: InputShape,
    *,
    batch_sizes: Sequence[int],
    device: torch.device,
    precision: Precision,
) -> Subject:
    """A subject that has run at every batch size, so that a model that cannot run fails before any is measured.

    module: moved to `device` and cast to `precision`, unless it is exported.
    shape: (N, C, H, W).

    Raises ValueError for a model that cannot take this input or run in this precision.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError(f"{name} is a scripted module, whose layers are not visible; measure the module it came from")
    try:
        make = _prepare_exported if isinstance(module, OnnxModule) else _prepare_module
        subject = make(name, module, shape, device, precision)  # type: ignore[arg-type]
        subject.run_and_wait()
        for size in batch_sizes:
            subject.with_batch(size).run_and_wait()
    except (torch.OutOfMemoryError, UsageError, ImportError, OSError):
        raise
    except Exception as error:  # a model can raise anything, such as AssertionError for a size
        if isinstance(error, ValueError) and isinstance(module, OnnxModule):
            raise  # it names the file
        sizes, reason = "×".join(map(str, shape)), first_line(error) or type(error).__name__
        raise ValueError(f"{name} cannot run on an input of {sizes} in {precision} ({reason})") from error
    return subject


def _prepare_module(
    name: str, module: nn.Module, shape: InputShape, device: torch.device, precision: Precision
) -> Subject:
    module = in_eval_mode(unwrapped(module))
    cost = _count_cost(module, shape, precision)
    if is_uninitialised(module):
        with torch.no_grad():  # inference mode would make inference tensors of the weights
            module.cpu()(torch.rand(shape))
    if any(tensor.is_inference() for tensor in (*module.parameters(), *module.buffers())):
        module = copy_model(module)  # of normal tensors, since these cannot be moved or cast in place
    module = cast(module.to(device).to(memory_format=torch.channels_last), precision)
    return Subject(name, module, _random_images(shape, device, dtype_of(precision)), cost, precision)


def _prepare_exported(
    name: str, module: OnnxModule, shape: InputShape, device: torch.device, precision: Precision
) -> Subject:
    dtype = str(module.input_dtype).removeprefix("torch.")
    if precision not in ("float32", dtype):
        raise UsageError(f"{name} is exported: it takes {dtype} as it is and cannot run in {precision}")
    if device.type != module.device.type:
        raise UsageError(f"{name} was loaded on {module.device}, not on {device}")
    images, cost = _random_images(shape, device, module.input_dtype), count_onnx_cost(module.path, shape)
    return Subject(name, module, images, cost, dtype)


def _count_cost(module: nn.Module, shape: InputShape, precision: Precision) -> ModelCost:
    log = logging.getLogger("torch._subclasses.fake_tensor")  # it logs tracebacks of errors that count_cost handles
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        return count_cost(module, shape, dtype=str(dtype_of(precision)).removeprefix("torch."))
    finally:
        log.setLevel(level)


def _random_images(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    values = torch.rand(shape, device=device)
    if not dtype.is_floating_point:
        values = min(255, torch.iinfo(dtype).max) * values
    return values.to(dtype).to(memory_format=torch.channels_last)


def first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
