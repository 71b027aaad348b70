"""Measuring models by one protocol: cost, peak of the device, speed, layer times, memory, energy.

Several models are measured in one run, since only times of one run can be compared.
"""

from __future__ import annotations

import platform
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import nn

from vovnet.profiling.energy import AnyMethod, EnergyResult, measure_energy
from vovnet.profiling.find_sensor import find_sensor
from vovnet.profiling.measurement import Conditions, Measurement
from vovnet.profiling.meter import Meter
from vovnet.profiling.model_copy import copy_model, unwrapped
from vovnet.profiling.number_format import Precision, matmul_precision
from vovnet.profiling.peak import DevicePeak, measure_peak
from vovnet.profiling.sensors import NoSensor, Sensor
from vovnet.profiling.speed import Latency, median_ratio, time_interleaved
from vovnet.profiling.subject import InputShape, Subject, first_line, prepare
from vovnet.profiling.surroundings import Surroundings, Watch, watch
from vovnet.provenance import device_name, installed_versions

PACKAGES = ("vovnet", "torch", "torchvision", "timm", "onnxruntime", "nvidia-ml-py")


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
    energy: AnyMethod | None = None,
    meter: str | Path | None = None,
    estimated: bool = False,
) -> Measurement:
    """What one forward pass of a module costs: operations, memory access, time, memory and, on request, energy.

    A copy of the model is measured, so the model is not changed.

    input_size: (height, width), or one number for both.
    device: None is the device of the model's parameters.

    The other arguments are those of `measure_models`. Raises ValueError for a model that cannot be measured.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"expected a torch.nn.Module to measure, got {type(model).__name__}")
    size = tuple(input_size) if isinstance(input_size, Sequence) else (input_size, input_size)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f"input_size must be (height, width) or one side in pixels, got {input_size!r}")
    model = unwrapped(model)
    parameter = next(model.parameters(), None)
    name = type(model).__name__
    (measurement,) = measure_models(
        {name: _copy(model)},
        {name: (batch_size, channels, *size)},
        device=_resolve_device(device or ("cpu" if parameter is None else parameter.device)),
        precision=precision,
        repetitions=repetitions,
        batch_sizes=batch_sizes,
        memory=memory,
        energy=energy,
        meter=meter,
        estimated=estimated,
    )
    return measurement


@torch.inference_mode(False)  # the caller's would make inference tensors of the weights, and a pass has its own
def measure_models(
    modules: Mapping[str, nn.Module],
    input_shapes: Mapping[str, InputShape],
    *,
    device: torch.device,
    precision: Precision = "float32",
    repetitions: int = 100,
    batch_sizes: Sequence[int] = (),
    memory: bool = True,
    energy: AnyMethod | None = None,
    meter: str | Path | None = None,
    estimated: bool = False,
    on_step: Callable[[str], object] = lambda step: None,
) -> list[Measurement]:
    """Measure all models in one run, in eval mode and channels_last, on random images.

    modules: moved to `device` and cast to `precision`; an exported model keeps its own device and number format.
    input_shapes: (N, C, H, W) by name of the model.
    repetitions: timed passes of each model.
    batch_sizes: further batch sizes to time.
    memory: measure the peak memory, which on a CPU takes seconds per model.
    energy: method to measure joules per image, see `energy.py`; takes minutes per model. Without it, a machine that has
        no sensor still gives the reason.
    meter: CSV log of an external meter, for the method "meter".
    estimated: also estimate joules per image from the counts.
    on_step: called with a description of each step as it begins.

    Raises ValueError if a model cannot take its input or cannot run in this precision.
    """
    if not modules:
        raise ValueError("expected at least one model to measure, got none")
    if (meter is not None) != (energy == "meter"):
        raise ValueError('energy="meter" and the log of a meter must be given together')
    if min([shape[0] for shape in input_shapes.values()] + list(batch_sizes)) < 1:
        raise ValueError("a batch must have at least one image")
    sensor = Meter(meter) if meter is not None else find_sensor(device)
    with matmul_precision(precision):
        subjects: list[Subject] = []
        for name, module in modules.items():
            on_step(f"{name}: operations")
            shape = input_shapes[name]
            subjects.append(prepare(name, module, shape, batch_sizes=batch_sizes, device=device, precision=precision))
        on_step("peak of this device")
        peak = measure_peak(device, precision)

        watching = watch(device)
        on_step("time")
        latencies = _time(subjects, device, repetitions, watching)
        batches: dict[int, dict[str, Latency]] = {}
        for size in batch_sizes:
            on_step(f"time at batch size {size}")
            batches[size] = _time([subject.with_batch(size) for subject in subjects], device, repetitions, watching)

        layer_seconds, memory_use, energies = {}, {}, {}
        with watching:
            for subject in subjects:
                on_step(f"{subject.name}: layers")
                layer_seconds[subject.name] = subject.time_layers()
        conditions = _conditions(device, peak, watching.result())
        for subject in subjects if memory else ():
            on_step(f"{subject.name}: memory")
            memory_use[subject.name] = subject.measure_memory()
        for subject in subjects if energy is not None or isinstance(sensor, NoSensor) else ():
            on_step(f"{subject.name}: energy")
            energies[subject.name] = _measure_energy(subject, sensor, energy or "auto", on_step)
    first = subjects[0].name
    return [
        Measurement(
            name=subject.name,
            runtime="ONNX Runtime" if subject.exported else "PyTorch",
            input_shape=input_shapes[subject.name],
            precision=subject.precision,
            cost=subject.cost,
            latency=latencies[subject.name],
            ratio_to=first,
            ratio=median_ratio(latencies[subject.name], latencies[first]),
            conditions=conditions,
            layer_seconds=layer_seconds[subject.name],
            memory=memory_use.get(subject.name),
            energy=energies.get(subject.name),
            estimate=subject.estimate_energy() if estimated else None,
            batches={size: times[subject.name] for size, times in batches.items()} or None,
            other_inputs=subject.other_inputs,
        )
        for subject in subjects
    ]


def _copy(model: nn.Module) -> nn.Module:
    if any(part._compiled_call_impl is not None for part in model.modules()):
        raise ValueError("a model that was compiled in place cannot be copied; measure torch.compile(model) instead")
    return copy_model(model)


def _resolve_device(device: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: PyTorch without CUDA
        raise ValueError(f"there is no device {device} to measure on ({first_line(error)})") from error


def _time(subjects: Sequence[Subject], device: torch.device, repetitions: int, watching: Watch) -> dict[str, Latency]:
    runs = {subject.name: subject.run for subject in subjects}
    return time_interleaved(runs, repetitions=repetitions, device=device, during=watching)


def _measure_energy(
    subject: Subject, sensor: Sensor | Meter | NoSensor, method: AnyMethod, on_step: Callable[[str], object]
) -> EnergyResult:
    def on_trial(finished: int) -> None:
        on_step(f"{subject.name}: energy, {finished} trials finished")

    return measure_energy(subject.run_and_wait, sensor, method=method, on_trial=on_trial)


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
