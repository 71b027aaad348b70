"""Measuring models by one protocol: cost, peak of the device, speed, layer times, memory, energy.

Several models are measured in one run, since only times of one run can be compared.
"""

from __future__ import annotations

import platform
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from vovnet.freed_memory import keep_freed_memory
from vovnet.profiling.energy.find_sensor import find_sensor
from vovnet.profiling.energy.measured import AnyMethod, EnergyResult, measure_energy
from vovnet.profiling.energy.meter import Meter
from vovnet.profiling.energy.recording import Timeline
from vovnet.profiling.energy.sensors import NoSensor, Sensor
from vovnet.profiling.measurement import Conditions, Measurement
from vovnet.profiling.memory import MemoryUse
from vovnet.profiling.model_copy import copy_model, unwrapped
from vovnet.profiling.number_format import Precision, matmul_precision
from vovnet.profiling.peak import DevicePeak, measure_peak
from vovnet.profiling.runs import CudaGraphs, Run, check_runs, choosing_algorithms
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
    run: Run = "eager",
    timeline: Timeline | None = None,
) -> Measurement:
    """What one forward pass of a module costs: operations, memory access, time, memory and, on request, energy.

    A copy of the model is measured, so the model is not changed.

    input_size: (height, width), or one number for both.
    device: None is the device of the model's parameters.
    run: how the passes are run; `measure_models` measures several runs side by side.

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
        runs=(run,),
        timeline=timeline,
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
    runs: Sequence[Run] = ("eager",),
    timeline: Timeline | None = None,
    on_step: Callable[[str], object] = lambda step: None,
) -> list[Measurement]:
    """Measure all models together, in eval mode and channels_last, on random images; their runs one after the other.

    modules: moved to `device` and cast to `precision`; an exported model keeps its own device and number format.
    input_shapes: (N, C, H, W) by name of the model.
    repetitions: timed passes of each model.
    batch_sizes: further batch sizes to time.
    memory: measure the peak memory, which on a CPU takes seconds per model.
    energy: method to measure joules per image, see `energy.py`; takes minutes per model. Without it, a machine that has
        no sensor still gives the reason.
    meter: CSV log of an external meter, for the method "meter".
    estimated: also estimate joules per image from the counts.
    runs: how the passes are run, see `runs.py`; each model is measured in each of them. Graphs need CUDA.
    timeline: how long each part of the measurement of energy takes.
    on_step: called with a description of each step as it begins.

    Raises ValueError if a model cannot take its input, or cannot run in this precision or in one of the runs.
    """
    check_runs(runs, device)
    if not modules:
        raise ValueError("expected at least one model to measure, got none")
    if (meter is not None) != (energy == "meter"):
        raise ValueError('energy="meter" and the log of a meter must be given together')
    if min([shape[0] for shape in input_shapes.values()] + list(batch_sizes)) < 1:
        raise ValueError("a batch must have at least one image")
    keep_freed_memory()  # otherwise a pass would be slow or fast by what was freed before it
    sensor = Meter(meter) if meter is not None else find_sensor(device)
    with matmul_precision(precision), choosing_algorithms(device) as benchmark:
        models: list[Subject] = []
        for name, module in modules.items():
            on_step(f"{name}: operations")
            shape = input_shapes[name]
            models.append(prepare(name, module, shape, batch_sizes=batch_sizes, device=device, precision=precision))
        subjects = _in_runs(models, runs, CudaGraphs(device), on_step)
        on_step("peak of this device")
        peak = measure_peak(device, precision)
        watching = watch(device)
        times = _time_all(subjects, batch_sizes, device, repetitions, watching, on_step)
        conditions = _conditions(device, peak, watching.result(), benchmark)
        memory_use: list[MemoryUse | None] = []
        for subject in subjects if memory else ():
            on_step(f"{subject.title}: memory")
            memory_use.append(subject.measure_memory())
        energies: list[EnergyResult | None] = []
        for subject in subjects if energy is not None or isinstance(sensor, NoSensor) else ():
            energies.append(_measure_energy(subject, sensor, energy or "auto", timeline, on_step))
    return [
        replace(
            _measurement(index, subjects, times, conditions, runs),
            memory=memory_use[index] if memory_use else None,
            energy=energies[index] if energies else None,
            estimate=subject.estimate_energy() if estimated else None,
        )
        for index, subject in enumerate(subjects)
    ]


class _Times(NamedTuple):
    """What was timed of each subject, in their order. batches: batch size → time of each."""

    latencies: list[Latency]
    batches: dict[int, list[Latency]]
    layer_seconds: list[tuple[float, ...] | None]


def _time_all(
    subjects: Sequence[Subject],
    batch_sizes: Sequence[int],
    device: torch.device,
    repetitions: int,
    watching: Watch,
    on_step: Callable[[str], object],
) -> _Times:
    on_step("time")
    latencies = _time(subjects, device, repetitions, watching)
    batches: dict[int, list[Latency]] = {}
    for size in batch_sizes:
        on_step(f"time at batch size {size}")
        graphs = CudaGraphs(device)  # without the memory of the size before
        batches[size] = _time([s.with_batch(size, graphs) for s in subjects], device, repetitions, watching)
    layer_seconds: list[tuple[float, ...] | None] = []
    with watching:
        for subject in subjects:
            on_step(f"{subject.title}: layers")
            layer_seconds.append(subject.time_layers())
    return _Times(latencies, batches, layer_seconds)


def _measurement(
    index: int, subjects: Sequence[Subject], times: _Times, conditions: Conditions, runs: Sequence[Run]
) -> Measurement:
    """The counts and times of a subject. Models follow one another, each in all runs."""
    subject, latency = subjects[index], times.latencies[index]
    same_run_of_first_model, first_run = times.latencies[index % len(runs)], times.latencies[index - index % len(runs)]
    several = len(runs) > 1
    return Measurement(
        name=subject.name,
        runtime="ONNX Runtime" if subject.exported else "PyTorch",
        input_shape=subject.input_shape,
        precision=subject.precision,
        cost=subject.cost,
        latency=latency,
        ratio_to=subjects[0].name,
        ratio=median_ratio(latency, same_run_of_first_model),
        conditions=conditions,
        layer_seconds=times.layer_seconds[index],
        batches={size: latencies[index] for size, latencies in times.batches.items()} or None,
        other_inputs=subject.other_inputs,
        run=subject.run_name,
        run_ratio=median_ratio(latency, first_run) if several else None,
        run_ratio_to=runs[0] if several else None,
        compile_s=subject.made.compile_s if subject.made else None,
    )


def _in_runs(
    models: Sequence[Subject], runs: Sequence[Run], graphs: CudaGraphs, on_step: Callable[[str], object]
) -> list[Subject]:
    """Each model in each run, so that one that cannot run in it fails before any is timed."""
    subjects = []
    for model in models:
        for run in runs:
            if run != "eager":
                on_step(f"{model.name}: {run}")
            subjects.append(model.in_run(run, graphs))
    return subjects


def _copy(model: nn.Module) -> nn.Module:
    if any(part._compiled_call_impl is not None for part in model.modules()):
        raise ValueError("a model that was compiled in place cannot be copied; measure torch.compile(model) instead")
    return copy_model(model)


def _resolve_device(device: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: PyTorch without CUDA
        raise ValueError(f"there is no device {device} to measure on ({first_line(error)})") from error


def _time(subjects: Sequence[Subject], device: torch.device, repetitions: int, watching: Watch) -> list[Latency]:
    runs = {str(index): subject.run for index, subject in enumerate(subjects)}
    return list(time_interleaved(runs, repetitions=repetitions, device=device, during=watching).values())


def _measure_energy(
    subject: Subject,
    sensor: Sensor | Meter | NoSensor,
    method: AnyMethod,
    timeline: Timeline | None,
    on_step: Callable[[str], object],
) -> EnergyResult:
    def on_trial(finished: int) -> None:
        on_step(f"{subject.title}: energy, {finished} trials finished")

    on_step(f"{subject.title}: energy")
    return measure_energy(subject.run_and_wait, sensor, method=method, timeline=timeline, on_trial=on_trial)


def _conditions(
    device: torch.device, peak: DevicePeak, surroundings: Surroundings, cudnn_benchmark: bool | None
) -> Conditions:
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
        cudnn_benchmark=cudnn_benchmark,
    )
