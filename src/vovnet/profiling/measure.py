"""Measuring several models in one run, so that their ratios hold; one model is the smallest case."""

from __future__ import annotations

import copy
import logging
import platform
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from vovnet.errors import UsageError
from vovnet.profiling.cost import ModelCost, count_cost
from vovnet.profiling.energy import measure_energy
from vovnet.profiling.estimate import HOROWITZ_45NM, HOROWITZ_45NM_HALF, EstimatedEnergy, estimate
from vovnet.profiling.layer_times import time_layers
from vovnet.profiling.measurement import Conditions, Measurement
from vovnet.profiling.memory import MIB, MemoryUse, measure_memory
from vovnet.profiling.number_format import Precision, cast, dtype_of, matmul_precision
from vovnet.profiling.onnx_module import OnnxModule
from vovnet.profiling.peak import DevicePeak, measure_peak
from vovnet.profiling.sensors import Meter, Method, NoSensor, find_sensor
from vovnet.profiling.speed import Latency, median_ratio, synchronize, time_interleaved
from vovnet.profiling.surroundings import Surroundings, Watch, watch
from vovnet.provenance import device_name, installed_versions

PACKAGES = ("vovnet", "torch", "torchvision", "timm", "onnxruntime", "nvidia-ml-py")


@dataclass(frozen=True)
class _Subject:
    """A model on its device, in its precision, with its input."""

    name: str
    module: nn.Module
    image: Tensor
    cost: ModelCost
    precision: str

    @property
    def exported(self) -> bool:
        return isinstance(self.module, OnnxModule)

    def run(self) -> int:
        """One pass, and the number of images in it."""
        with torch.inference_mode():
            self.module(self.image)
        return len(self.image)

    def run_to_the_end(self) -> int:
        images = self.run()
        synchronize(self.image.device)
        return images

    def with_batch(self, size: int) -> _Subject:
        return replace(self, image=_image((size, *self.image.shape[1:]), self.image.device, self.image.dtype))


def measure(
    model: nn.Module,
    input_size: int | tuple[int, int] = 224,
    *,
    batch_size: int = 1,
    channels: int = 3,
    device: str | torch.device | None = None,
    precision: Precision = "float32",
    repetitions: int = 100,
    batch_sizes: Sequence[int] = (),
    memory: bool = True,
    energy: Method | Literal["auto"] | None = None,
    meter: str | Path | None = None,
    estimated: bool = False,
) -> Measurement:
    """What one forward pass of any module costs: operations, memory access, time, memory and, if asked for, energy.

    input_size: height and width, or both as one number. device: None is where the model's parameters are. The other
    arguments are those of `measure_models`. The model stays as it was: a copy of it is measured.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"a torch.nn.Module can be measured, got {type(model).__name__}")
    size = tuple(input_size) if isinstance(input_size, Sequence) else (input_size, input_size)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f"input_size must be one side or (height, width) in pixels, got {input_size!r}")
    if any(part._compiled_call_impl is not None for part in model.modules()):
        raise ValueError("the model was compiled in place, which a copy is not; measure torch.compile(model) instead")
    try:
        duplicate = copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"the model cannot be copied ({_first_line(error)}); measure_models takes it as it is"
        ) from error
    parameter = next(model.parameters(), None)
    where = _device(device or ("cpu" if parameter is None else parameter.device))
    name = type(model).__name__
    (measurement,) = measure_models(
        {name: duplicate},
        {name: (batch_size, channels, *size)},
        device=where,
        precision=precision,
        repetitions=repetitions,
        batch_sizes=batch_sizes,
        memory=memory,
        energy=energy,
        meter=meter,
        estimated=estimated,
    )
    return measurement


def measure_models(
    modules: Mapping[str, nn.Module],
    input_shapes: Mapping[str, tuple[int, int, int, int]],
    *,
    device: torch.device,
    precision: Precision = "float32",
    repetitions: int = 100,
    batch_sizes: Sequence[int] = (),
    memory: bool = True,
    energy: Method | Literal["auto"] | None = None,
    meter: str | Path | None = None,
    estimated: bool = False,
    on_step: Callable[[str], object] = lambda what: None,
) -> list[Measurement]:
    """Count what each model costs and time their forward passes in turn, in eval mode and channels_last.

    modules: moved to `device` and cast to `precision`; an exported model keeps its own. input_shapes: (N, C, H, W) by
    the same names; the values are random. batch_sizes: also time these. memory: also measure the peak, on a CPU in a
    process of its own (some seconds a model). energy: also measure joules an image by this method of
    `vovnet.profiling.energy` (minutes a model); without a sensor the reason is told in any case. meter: the log of an
    external meter, for the method "meter". estimated: also estimate joules from the counts. on_step hears what begins.

    Raises ValueError where a model cannot take its input or run in this precision.
    """
    if not modules:
        raise ValueError("name at least one model")
    if (meter is not None) != (energy == "meter"):
        raise ValueError('a meter\'s log and energy="meter" go together')
    if min([shape[0] for shape in input_shapes.values()] + list(batch_sizes)) < 1:
        raise ValueError("a batch has at least one image")
    sensor = Meter(meter) if meter is not None else find_sensor(device)
    with matmul_precision(precision):
        subjects = []
        for name, module in modules.items():
            on_step(f"{name}: operations")
            subjects.append(_prepare(name, module, input_shapes[name], batch_sizes, device, precision))
        on_step("the peak of this device")
        peak = measure_peak(device, precision)

        watching = watch(device)
        on_step("time")
        times = _time(subjects, device, repetitions, watching)
        sweeps: dict[str, dict[int, Latency]] = {name: {} for name in modules}
        for size in batch_sizes:
            on_step(f"time at batch size {size}")
            batched = _time([one.with_batch(size) for one in subjects], device, repetitions, watching)
            for name, latency in batched.items():
                sweeps[name][size] = latency
        layers = {}
        for one in subjects:
            on_step(f"{one.name}: layers")
            with watching:
                layers[one.name] = None if one.exported else time_layers(one.module, (one.image,), one.cost)
        conditions = _conditions(device, peak, watching.result())

        first = subjects[0].name
        measurements = []
        for one in subjects:
            name, memory_use, joules = one.name, None, None
            if memory:
                on_step(f"{name}: memory")
                memory_use = _measure_memory(one)
            if energy is not None or isinstance(sensor, NoSensor):  # the latter costs nothing: it gives the reason
                on_step(f"{name}: energy")
                joules = measure_energy(
                    one.run_to_the_end,
                    sensor,
                    method=energy or "auto",
                    on_trial=partial(_say_trial, on_step, name),
                )
            measurements.append(
                Measurement(
                    name=name,
                    runtime="ONNX Runtime" if one.exported else "PyTorch",
                    input_shape=input_shapes[name],
                    precision=one.precision,
                    cost=one.cost,
                    latency=times[name],
                    ratio_to=first,
                    ratio=median_ratio(times[name], times[first]),
                    conditions=conditions,
                    layer_seconds=layers[name],
                    memory=memory_use,
                    energy=joules,
                    estimate=_estimate(one) if estimated else None,
                    batches=sweeps[name] or None,
                )
            )
    return measurements


def _prepare(
    name: str,
    module: nn.Module,
    shape: tuple[int, int, int, int],
    batch_sizes: Sequence[int],
    device: torch.device,
    precision: Precision,
) -> _Subject:
    """Ready to run, and proven to run at every batch size, so that nothing fails when much was measured already."""
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError(f"{name} is a scripted module, whose layers cannot be seen; measure what it was made from")
    try:
        if isinstance(module, OnnxModule):
            dtype, own = module.input_dtype, str(module.input_dtype).removeprefix("torch.")
            if precision not in ("float32", own):
                raise UsageError(f"{name} is exported: it takes {own} as it is and cannot run in {precision}")
            if device.type != module.device.type:
                raise UsageError(f"{name} was loaded on {module.device}, not on {device}")
            subject = _Subject(name, module, _image(shape, device, dtype), module.count_cost(shape), own)
        else:
            cost = _count(module.eval(), shape, precision)
            module = cast(module.to(device).to(memory_format=torch.channels_last), precision)
            subject = _Subject(name, module, _image(shape, device, dtype_of(precision)), cost, precision)
        subject.run_to_the_end()
        for size in batch_sizes:
            subject.with_batch(size).run_to_the_end()
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError, TypeError) as error:
        sizes = "×".join(map(str, shape))
        raise ValueError(f"{name} cannot run on an input of {sizes} in {precision} ({_first_line(error)})") from error
    return subject


def _count(module: nn.Module, shape: tuple[int, int, int, int], precision: Precision) -> ModelCost:
    log = logging.getLogger("torch._subclasses.fake_tensor")  # it writes tracebacks of what is handled here
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        return count_cost(module, shape, dtype=str(dtype_of(precision)).removeprefix("torch."))
    finally:
        log.setLevel(level)


def _device(device: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # the latter from a PyTorch without CUDA
        raise ValueError(f"no device {device} to measure on ({_first_line(error)})") from error


def _image(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    values = torch.rand(shape, device=device)
    if not dtype.is_floating_point:
        values = 255 * values
    return values.to(dtype).to(memory_format=torch.channels_last)


def _time(
    subjects: Sequence[_Subject], device: torch.device, repetitions: int, watching: Watch | None = None
) -> dict[str, Latency]:
    runs = {one.name: one.run for one in subjects}
    return time_interleaved(runs, repetitions=repetitions, device=device, during=watching)


def _measure_memory(subject: _Subject) -> MemoryUse:
    use = measure_memory(subject.module, subject.image, own_allocator=subject.exported)
    if isinstance(subject.module, OnnxModule):  # PyTorch sees its input and outputs only
        parameters_mib = subject.cost.total.parameters * subject.cost.element_bytes / MIB
        return replace(use, parameters_mib=parameters_mib, live_mib=None, live_layer=None)
    return use


def _say_trial(on_step: Callable[[str], object], name: str, done: int) -> None:
    on_step(f"{name}: energy, {done} trials done")


def _estimate(subject: _Subject) -> EstimatedEnergy | None:
    """None for number formats for whose arithmetic no figures are published here."""
    total, images = subject.cost.total, len(subject.image)
    element_bytes = subject.cost.element_bytes
    memory_bytes = (total.memory_access_cost + total.other_elements) * element_bytes
    model = {2: HOROWITZ_45NM_HALF, 4: HOROWITZ_45NM}.get(element_bytes)
    return None if model is None else estimate(total.multiply_adds / images, memory_bytes / images, model)


def _conditions(device: torch.device, peak: DevicePeak, surroundings: Surroundings) -> Conditions:
    return Conditions(
        run=secrets.token_hex(4),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        device=str(device),
        device_name=device_name(device),
        threads=torch.get_num_threads(),
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        software=installed_versions(PACKAGES),
        peak=peak,
        surroundings=surroundings,
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
