"""Measuring several models in one run, so that their ratios hold; one model is the smallest case."""

from __future__ import annotations

import copy
import logging
import platform
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from vovnet.errors import UsageError
from vovnet.measure.cost import ModelCost, count_cost
from vovnet.measure.energy import measure_energy
from vovnet.measure.estimate import HOROWITZ_45NM, HOROWITZ_45NM_HALF, EstimatedEnergy, estimate
from vovnet.measure.layers import time_layers
from vovnet.measure.measurement import Conditions, Measurement
from vovnet.measure.memory import MIB, MemoryUse, measure_memory
from vovnet.measure.onnx_module import OnnxModule
from vovnet.measure.peak import DevicePeak, measure_peak
from vovnet.measure.precision import Precision, cast, dtype_of, matmul_precision
from vovnet.measure.sensors import Meter, Method, find_sensor
from vovnet.measure.speed import Latency, median_ratio, synchronize, time_interleaved
from vovnet.measure.surroundings import Surroundings, Watch, watch


@dataclass(frozen=True)
class _Subject:
    """A model on its device, in its precision, with its input."""

    name: str
    module: nn.Module
    image: Tensor
    cost: ModelCost
    precision: str

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
    repetitions: int = 30,
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
    height, width = (input_size, input_size) if isinstance(input_size, int) else input_size
    parameter = next(model.parameters(), None)
    where = torch.device("cpu" if parameter is None else parameter.device) if device is None else torch.device(device)
    name = type(model).__name__
    (measurement,) = measure_models(
        {name: copy.deepcopy(model)},
        {name: (batch_size, channels, height, width)},
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
    repetitions: int = 30,
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
    `vovnet.measure.energy` (minutes a model); meter: the log of an external meter, for the method "meter".
    estimated: also estimate joules from the counts. on_step is told what begins.

    Raises ValueError where a model cannot take its input or run in this precision.
    """
    if not modules:
        raise ValueError("name at least one model")
    sensor = Meter(meter) if meter is not None else find_sensor(device)
    subjects = []
    for name, module in modules.items():
        on_step(f"{name}: operations")
        subjects.append(_prepare(name, module, input_shapes[name], device, precision))
    on_step("the peak of this device")
    peak = measure_peak(device, precision)

    with matmul_precision(precision):
        on_step("time")
        watching = watch(device)
        times = _time(subjects, device, repetitions, watching)
        sweeps: dict[str, dict[int, Latency]] = {name: {} for name in modules}
        for size in batch_sizes:
            on_step(f"time at batch size {size}")
            for name, latency in _time([one.with_batch(size) for one in subjects], device, repetitions).items():
                sweeps[name][size] = latency
        conditions = _conditions(device, peak, watching.result())

        measurements = []
        for one in subjects:
            exported = isinstance(one.module, OnnxModule)
            on_step(f"{one.name}: layers")
            layer_seconds = None if exported else time_layers(one.module, (one.image,), one.cost)
            on_step(f"{one.name}: memory")
            memory_use = _measure_memory(one) if memory else None
            on_step(f"{one.name}: energy")
            joules = measure_energy(one.run_to_the_end, sensor, method=energy) if energy is not None else None
            measurements.append(
                Measurement(
                    name=one.name,
                    runtime="ONNX Runtime" if exported else "PyTorch",
                    input_shape=input_shapes[one.name],
                    precision=one.precision,
                    cost=one.cost,
                    latency=times[one.name],
                    ratio_to=subjects[0].name,
                    ratio=median_ratio(times[one.name], times[subjects[0].name]),
                    conditions=conditions,
                    layer_seconds=layer_seconds,
                    memory=memory_use,
                    energy=joules,
                    estimate=_estimate(one) if estimated else None,
                    batches=sweeps[one.name] or None,
                )
            )
    return measurements


def _prepare(
    name: str, module: nn.Module, shape: tuple[int, int, int, int], device: torch.device, precision: Precision
) -> _Subject:
    if isinstance(module, OnnxModule):
        if precision != "float32" or device.type != module.device.type:
            raise UsageError(f"{name} is exported: it runs on the CPU as it is, not in {precision} on {device}")
        dtype, own = module.input_dtype, str(module.input_dtype).removeprefix("torch.")
        subject = _Subject(name, module, _image(shape, device, dtype), module.count_cost(shape), own)
    else:
        cost = _count(name, module.eval(), shape, precision)
        module = cast(module.to(device).to(memory_format=torch.channels_last), precision)
        subject = _Subject(name, module, _image(shape, device, dtype_of(precision)), cost, precision)
    try:
        subject.run_to_the_end()
    except (RuntimeError, NotImplementedError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ValueError(f"{name} cannot run in {subject.precision} on {device} ({_first_line(error)})") from error
    return subject


def _count(name: str, module: nn.Module, shape: tuple[int, int, int, int], precision: Precision) -> ModelCost:
    log = logging.getLogger("torch._subclasses.fake_tensor")  # it writes tracebacks of what is handled here
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        return count_cost(module, shape, dtype=str(dtype_of(precision)).removeprefix("torch."))
    except RuntimeError as error:
        reason = f"{name} cannot take {shape[2]}×{shape[3]} pixels ({_first_line(error)})"
        raise UsageError(f"{reason}; another input size may help") from None
    finally:
        log.setLevel(level)


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
    use = measure_memory(subject.module, subject.image)
    if isinstance(subject.module, OnnxModule):  # PyTorch sees its input and outputs only
        parameters_mib = subject.cost.total.parameters * subject.cost.element_bytes / MIB
        return replace(use, parameters_mib=parameters_mib, live_mib=None, live_layer=None)
    return use


def _estimate(subject: _Subject) -> EstimatedEnergy:
    total, images = subject.cost.total, len(subject.image)
    element_bytes = subject.cost.element_bytes
    memory_bytes = (total.memory_access_cost + total.other_elements) * element_bytes
    model = HOROWITZ_45NM_HALF if element_bytes == 2 else HOROWITZ_45NM
    return estimate(total.multiply_adds / images, memory_bytes / images, model)


def _conditions(device: torch.device, peak: DevicePeak, surroundings: Surroundings) -> Conditions:
    return Conditions(
        run=secrets.token_hex(4),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        device=str(device),
        device_name=device_name(device),
        threads=torch.get_num_threads(),
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        software=_installed(),
        peak=peak,
        surroundings=surroundings,
    )


def device_name(device: torch.device) -> str:
    """What its maker calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _installed() -> dict[str, str]:
    found = {}
    for name in ("vovnet", "torch", "torchvision", "timm", "onnxruntime", "nvidia-ml-py"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
