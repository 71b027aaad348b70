"""Speed, joules per image, memory and operations of the detectors of Tables 2, 3, 4 and 7.

At batch 1 eager and as a CUDA graph, and at the batch that fills the card; in float32 without TF32, and in half
precision. The models of a group are timed interleaved, so that their ratios hold. The most valuable measurements come
first: VoVNet-27-slim against DenseNet-67, then VoVNet-39 against DenseNet-161.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from gpu_stages.joules import ENERGY, JouleMeter
from gpu_stages.networks import Networks, one_pass, passes_that_work
from gpu_stages.record import StageRecord
from gpu_stages.rehearsed import RehearsedGraphs
from gpu_stages.stage import Options, Stage, free_memory
from gpu_stages.table_plan import Step, groups, half_of, plan, rehearsed
from vovnet.paper.recomputed import detector_cost
from vovnet.profiling.memory import measure_memory
from vovnet.profiling.number_format import Precision, matmul_precision
from vovnet.profiling.runs import CudaGraphs, choosing_algorithms
from vovnet.profiling.speed import Latency, median_ratio, synchronize, time_interleaved
from vovnet.profiling.surroundings import watch

SECONDS, LEAST_S = 200.0, 25.0
BY_CARD = True
# What decides a speed, joules or memory. Reading ONNX files, which profiling/ also does, is no part of it.
_PROFILING = ("clock", "cost", "cost_types", "dispatch", "intervals", "live_tensors", "machine", "memory", "model_copy")
_PROFILING += ("module_calls", "number_format", "operation_cost", "own_process", "runs", "speed", "surroundings")
_ENERGY = ("find_sensor", "measured", "nvml", "nvml_calls", "recording", "sensors")
_OWN = ("joules", "networks", "table_plan", "tables")
SOURCES = ("src/vovnet/models", "src/vovnet/zoo.py", "src/vovnet/constants.py", "src/vovnet/paper/recomputed.py")
SOURCES += tuple(f"src/vovnet/profiling/{name}.py" for name in _PROFILING)
SOURCES += tuple(f"src/vovnet/profiling/energy/{name}.py" for name in _ENERGY)
SOURCES += tuple(f"benchmarks/gpu_stages/{name}.py" for name in _OWN)

REPETITIONS = {"one": 100, "fill": 30}
BATCHES = (8, 16, 32, 64, 128, 256)
FILLED = 1.05  # doubling the batch gives less than this: the card is full


def settings(options: Options) -> dict[str, Any]:
    return {"energy": asdict(ENERGY), "repetitions": REPETITIONS, "half": half_of(options.device)}


def steps_of(options: Options) -> list[Step]:
    half = half_of(options.device)
    return rehearsed(plan(half), half) if options.rehearse else plan(half)


def is_done(record: StageRecord, key: str) -> bool:
    half: Precision = "bfloat16" if record.content["rehearsal"] else "float16"
    steps = rehearsed(plan(half), half) if record.content["rehearsal"] else plan(half)
    return all(record.get(step.name, key) is not None for step in steps)


def run(stage: Stage) -> None:
    networks = Networks(stage.device)
    joules = JouleMeter(stage.device, rehearse=stage.rehearse)

    def energy(stage: Stage, networks: Networks, step: Step, batch: int) -> dict[str, Any]:
        how = {"precision": step.precision, "batch": batch, "run": step.run, "graphs": _graphs(stage)}
        with one_pass(networks, step.what, **how) as start:
            return {**_how(step, batch), "model": step.what, **joules.measure(start)}

    measure = {"time": _time, "fill": _fill, "energy": energy, "memory": _memory, "count": _count}
    measure |= {"kernels": _kernels}
    for step in steps_of(stage.options):
        batch = 1
        if step.batch == "fill":
            group = next(group for group in groups().values() if step.what in (group.name, *group.models))
            filled = stage.record.get(Step("fill", group.name, step.precision).name, stage.key)
            if filled is None:
                stage.miss(step.name, "the batch that fills the card is not known")
                continue
            batch = filled["batch"]

        def measured(step: Step = step, batch: int = batch) -> Mapping[str, Any]:
            with matmul_precision("float32"), choosing_algorithms(stage.device):
                return measure[step.kind](stage, networks, step, batch)

        show = {"time": _times_text, "energy": _energy_text}.get(step.kind)
        stage.measure(step.name, measured, least_s=0 if stage.rehearse else step.least_s, show=show)


def _times_text(values: Mapping[str, Any]) -> str:
    ratios = values["time_ratios"]
    texts = [f"{name} {one['median_ms']:.3f} ms" for name, one in values["models"].items()]
    texts = [f"{text} ({ratios[name]['median']:.2f} ×)" for text, name in zip(texts, ratios, strict=True)]
    texts += [f"{name} left out: {reason}" for name, reason in values["left_out"].items()]
    return f"batch {values['batch']}: " + ", ".join(texts)


def _energy_text(values: Mapping[str, Any]) -> str:
    check, disputed = values["check"], ", disputed" if values["disputed"] else ""
    other = f", {check['j_per_image']:.4g} by {check['method']}" if check else ""
    return f"batch {values['batch']}: {values['j_per_image']:.4g} J/image by {values['method']}{other}{disputed}"


def _time(stage: Stage, networks: Networks, step: Step, batch: int) -> dict[str, Any]:
    """Times of the group's models, and how many times as long each takes as the first.

    A model that cannot be run in this way, or has no memory left, is left out, and the record says why.
    """
    models = groups()[step.what].models[: 2 if stage.rehearse else None]
    watching, graphs = watch(stage.device), _graphs(stage)
    how = {"precision": step.precision, "batch": batch, "run": step.run, "graphs": graphs}
    with ExitStack() as kept:
        runs, left_out = passes_that_work(kept, networks, models, **how)
        times = time_interleaved(
            runs,
            repetitions=2 if stage.rehearse else REPETITIONS[step.batch],
            device=stage.device,
            warmup_limit_s=0.0 if stage.rehearse else 3.0,
            during=watching,
        )
    reference = next(iter(runs))
    first = times[reference]
    return {
        **_how(step, batch),
        "reference": reference,
        "left_out": left_out,
        "models": {model: _latency(latency, batch) for model, latency in times.items()},
        "time_ratios": {model: asdict(median_ratio(latency, first)) for model, latency in times.items()},
        "surroundings": asdict(watching.result()),
    }


def _graphs(stage: Stage) -> CudaGraphs:
    return RehearsedGraphs(stage.device) if stage.rehearse else CudaGraphs(stage.device)


def _how(step: Step, batch: int) -> dict[str, Any]:
    settings = {"tf32": False, "cudnn_benchmark": torch.backends.cudnn.benchmark}
    return {"precision": step.precision, "batch": batch, "run_mode": step.run, **settings}


def _latency(latency: Latency, batch: int) -> dict[str, Any]:
    speed = latency.throughput(batch)
    return {
        "median_ms": latency.median_ms,
        "interval_ms": latency.interval_ms,
        "images_per_s": speed.median,
        "images_per_s_interval": speed.interval,
        "times_s": [round(seconds, 8) for seconds in latency.seconds],
    }


def _fill(stage: Stage, networks: Networks, step: Step, batch: int) -> dict[str, Any]:
    """The smallest batch after which doubling it hardly helps either model of the pair, and the speeds that say so."""
    pair, tried = groups()[step.what].models[:2], dict[int, dict[str, float]]()
    chosen = 1
    for size in BATCHES[: 2 if stage.rehearse else None]:
        size = max(1, size // 8) if stage.rehearse else size
        try:
            with _any_algorithm():
                tried[size] = {model: _quick_speed(networks, model, step, size) for model in pair}
        except torch.OutOfMemoryError:
            break
        finally:
            free_memory()
        if tried.get(chosen) and all(tried[size][model] < FILLED * tried[chosen][model] for model in pair):
            break
        chosen = size
    return {
        "precision": step.precision,
        "batch": chosen,
        "images_per_s": {str(n): speeds for n, speeds in tried.items()},
    }


@contextmanager
def _any_algorithm() -> Iterator[None]:
    """Without cuDNN's search for the fastest algorithm, which would take minutes over all batches."""
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _quick_speed(networks: Networks, model: str, step: Step, batch: int) -> float:
    graphs = CudaGraphs(networks.device)
    with one_pass(networks, model, precision=step.precision, batch=batch, run="eager", graphs=graphs) as start:
        times = time_interleaved({model: start}, repetitions=3, device=networks.device, warmup_limit_s=0.0)
    return times[model].throughput(batch).median


def _kernels(stage: Stage, networks: Networks, step: Step, batch: int) -> dict[str, Any]:
    """Milliseconds that the kernels of a pass take by themselves, by PyTorch's profiler; on a CPU its operations."""
    cuda, passes = stage.device.type == "cuda", 2 if stage.rehearse else 10
    kind = DeviceType.CUDA if cuda else DeviceType.CPU
    activity = ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU
    how = {"precision": step.precision, "batch": batch, "run": step.run, "graphs": _graphs(stage)}
    with one_pass(networks, step.what, **how) as start, profile(activities=[activity]) as profiled:
        for _ in range(passes):
            start()
        synchronize(stage.device)
    total_ms, count = kernel_total(profiled.key_averages(), kind)
    values = {"model": step.what, "kernels_ms": total_ms / passes, "kernels": count / passes}
    return {**_how(step, batch), **values}


def kernel_total(averages: Iterable[Any], kind: DeviceType) -> tuple[float, int]:
    """Milliseconds and number of what ran on the device itself. ValueError if the profiler saw nothing there.

    With kernels the profiler also lists the calls that start them or wait for them, to which it adds the same times.
    """
    seen = [one for one in averages if one.device_type == kind and not getattr(one, "is_user_annotation", False)]
    times_us = [one.self_cpu_time_total if kind == DeviceType.CPU else one.self_device_time_total for one in seen]
    if not sum(times_us) > 0:
        raise ValueError("the profiler saw no kernel: it may not be allowed to, or another profiler may be attached")
    return sum(times_us) / 1e3, sum(one.count for one in seen)


def _memory(stage: Stage, networks: Networks, step: Step, batch: int) -> dict[str, Any]:
    module = networks.get(step.what, step.precision)
    use = measure_memory(module, networks.images(step.what, step.precision, batch))
    return {**_how(step, batch), "model": step.what, **asdict(use)}


def _count(stage: Stage, networks: Networks, step: Step, batch: int) -> dict[str, Any]:
    return {"model": step.what, "multiply_adds": detector_cost(step.what).multiply_adds}
