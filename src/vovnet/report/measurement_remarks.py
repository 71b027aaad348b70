"""What the tables of measurements hold for, in sentences: machine, software, methods, what is missing and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vovnet.printing import CELL, PARAGRAPH, line
from vovnet.profiling.measurement import Measurement
from vovnet.profiling.runs import Run
from vovnet.report.model_tables import shape_text, uncounted_text

_RUNS: dict[Run, str] = {"eager": "run eagerly", "graph": "run as a CUDA graph", "compile": "compiled by torch.compile"}


def remarks(rows: Sequence[Measurement]) -> list[str]:
    """Sentences, each for all models unless it names some; the warnings last."""
    runs = {row.conditions.run: row.conditions for row in rows}
    sentences: list[str] = []
    for run, conditions in runs.items():
        software = ", ".join(f"{name} {version}" for name, version in conditions.software.items())
        threads = f"{conditions.threads} thread{'' if conditions.threads == 1 else 's'}"
        device = f"{conditions.device_name} ({conditions.device}), {threads}, {conditions.system}; {software}"
        sentences.append(f"Measured on {device}; {conditions.date}, run {run}.")
        if peak := conditions.peak:
            speeds = f"{peak.gflop_per_s:.4g} GFLOP/s and {peak.gbyte_per_s:.4g} GB/s"
            sentences.append(f"Peak of this device, measured in {peak.precision}: {speeds}.")
    if len(runs) > 1:
        sentences.append("The models were measured in several runs; compare times only within one run.")
    sentences += _for_each(rows, _what_ran)
    sentences += _for_each(rows, _other_inputs)
    sentences += _for_each(rows, _ratio)
    sentences += _for_each(rows, _run_ratio)
    sentences += _for_each(rows, _cudnn)
    sentences.append("Counts are for the whole batch.")
    sentences += _for_each(rows, _intervals)
    sentences += _for_each(rows, lambda m: m.cost.note and f"counts: {m.cost.note}.")
    sentences += _for_each(rows, _uncounted)
    sentences += _for_each(rows, _memory)
    sentences += [part for sentence in _for_each(rows, _energy) for part in sentence.split("\n")]
    sentences += _for_each(rows, _estimate)
    warnings = [warning for conditions in runs.values() for warning in conditions.surroundings.doubts]
    sentences += [f"Warning: {warning}" for warning in warnings]
    return [line(sentence, PARAGRAPH) for sentence in sentences]


def is_warning(remark: str) -> bool:
    return remark.startswith("Warning:") or "disputed" in remark


def _for_each(rows: Sequence[Measurement], sentence_of: Callable[[Measurement], str | None]) -> list[str]:
    """The sentence of each model: once if it is the same for all, otherwise after the names it holds for."""
    names: dict[str, list[str]] = {}
    for row in rows:
        if sentence := sentence_of(row):
            names.setdefault(sentence, []).append(line(row.name, CELL))
    return [
        sentence[0].upper() + sentence[1:] if len(models) == len(rows) else f"{', '.join(models)}: {sentence}"
        for sentence, models in names.items()
    ]


def _other_inputs(measurement: Measurement) -> str | None:
    inputs = ", ".join(f"{name} ({shape})" for name, shape in (measurement.other_inputs or {}).items())
    return f"inputs that take no images were given ones: {inputs}." if inputs else None


def _what_ran(measurement: Measurement) -> str:
    only_eager = measurement.run == "eager" and measurement.run_ratio is None
    run = "" if only_eager else f", {_RUNS[measurement.run]}"
    return f"{measurement.runtime}, {measurement.precision}{run}, input {shape_text(measurement.input_shape)}."


def _ratio(measurement: Measurement) -> str:
    both = "" if measurement.run_ratio is None else f", both {_RUNS[measurement.run]}"
    return f"× first: latency over that of {measurement.ratio_to}{both}, median over pairs of passes."


def _run_ratio(measurement: Measurement) -> str | None:
    if measurement.run_ratio_to is None:
        return None
    return f"× first run: latency over that of the same model {_RUNS[measurement.run_ratio_to]}."


def _cudnn(measurement: Measurement) -> str | None:
    if measurement.conditions.cudnn_benchmark is None:
        return None
    how = "after trying each" if measurement.conditions.cudnn_benchmark else "without trying them"
    return f"algorithms of convolutions: cuDNN chose them in the warm-up {how}, in all runs alike."


def _intervals(measurement: Measurement) -> str:
    passes = len(measurement.latency.seconds)
    if passes < 6:  # see `median_interval`
        return f"in parentheses: for times the range of all {passes} passes, too few for a 95 % interval."
    return "in parentheses: 95 % intervals."


def _uncounted(measurement: Measurement) -> str | None:
    calls = uncounted_text(measurement)
    return f"arithmetic not counted: {calls}; values with ≥ are lower bounds." if calls else None


def _estimate(measurement: Measurement) -> str | None:
    if measurement.estimate is None:
        return None
    limit = "; a lower bound, since some arithmetic is not counted" if measurement.cost.is_lower_bound else ""
    return f"{measurement.estimate}{limit}"


def _memory(measurement: Measurement) -> str | None:
    memory = measurement.memory
    if memory is None:
        return None
    missing = f"; no peak: {memory.reason}" if memory.peak_mib is None else ""
    return f"memory: {memory.method}{missing}."


def _energy(measurement: Measurement) -> str:
    energy = measurement.energy
    if energy is None:
        return "energy was not measured: it was not requested."
    return f"{energy}" if energy.figure is None else f"energy: {energy}"
