"""The paper's detectors on a GPU, from the record of the stage tables of `make gpu`: answers, ratios, a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from vovnet.paper.answers import Answer
from vovnet.paper.gpu_records import (
    FOLDER,
    Joules,
    Kernels,
    Memory,
    Operations,
    Result,
    Times,
    card_of,
    measured_results,
    read_stage,
)
from vovnet.paper.published import TABLES, PublishedRow
from vovnet.paper.wording import foreign
from vovnet.profiling.intervals import difference_interval
from vovnet.profiling.speed import Latency, MeasuredValue, median_ratio
from vovnet.records import first_fault
from vovnet.report.document import Table

PAPERS_DEVICE = "TITAN X (Pascal)"
FILE = f"{FOLDER}/tables.json"
SINGLE = ("float32", 1, "eager")  # precision, batch and run like the paper's
GRAPH = ("float32", 1, "graph")
WORDS = {"eager": "eager", "graph": "CUDA graph", "compile": "compiled"}
MISSING = Answer("needs", note=f"`make gpu`, which goes on with what {FILE} lacks")
Way = tuple[str, int, str]


@dataclass(frozen=True)
class GpuTables:
    """The measurements by model and way: (precision, batch, run).

    kernels: at batch 1 in float32.
    cards: by run.
    """

    times: Mapping[tuple[str, Way], Times]
    joules: Mapping[tuple[str, Way], Joules]
    memory: Mapping[str, Memory]
    multiply_adds: Mapping[str, int]
    kernels: Mapping[str, Kernels]
    cards: Mapping[str, str]

    def ways(self, model: str) -> list[Way]:
        """The ways in which a model was timed, batch 1 in float32 first."""
        ways = [way for name, way in self.times if name == model]
        return sorted(ways, key=lambda way: (way[1] > 1, way[0] != "float32", way[2] != "eager", way))

    def latency(self, model: str, way: Way) -> Latency:
        return Latency(tuple(self.times[model, way].models[model].times_s))

    def time_ratio(self, model: str, reference: str, way: Way) -> MeasuredValue | None:
        """How many times as long `model` takes as `reference`; None unless both were timed in one run."""
        times = self.times.get((model, way))
        if times is None or times is not self.times.get((reference, way)):
            return None
        return median_ratio(self.latency(model, way), self.latency(reference, way))

    def joule_ratio(self, model: str, reference: str, way: Way) -> tuple[float, tuple[float, float] | None] | None:
        """How many times the joules `model` takes, with a 95 % interval; None unless the two can be compared.

        The models were measured one after the other, so their trials are no pairs.
        """
        first, second = self.joules.get((model, way)), self.joules.get((reference, way))
        if first is None or second is None or not self.comparable(first, second):
            return None
        interval = difference_interval(*([math.log(joules) for joules in of.trials_j] for of in (first, second)))
        ends = None if interval is None else (math.exp(interval[0]), math.exp(interval[1]))
        return first.j_per_image / second.j_per_image, ends

    def comparable(self, first: Result, second: Result) -> bool:
        """Whether both were measured on the same card with the same code."""
        return first.key == second.key and self.cards[first.run] == self.cards[second.run]

    def card(self, model: str, way: Way) -> str:
        return self.cards[self.times[model, way].run]


def read_gpu_tables(records: Path | None) -> GpuTables | None:
    """The record in a folder of records; None if there is none, or nothing was measured yet."""
    content = read_stage(records, "tables")
    if content is None or not (results := measured_results(content)):
        return None
    times = dict[tuple[str, Way], Times]()
    joules = dict[tuple[str, Way], Joules]()
    memory, multiply_adds, kernels = dict[str, Memory](), dict[str, int](), dict[str, Kernels]()
    for name, result in results.items():
        try:
            kind = name.partition(" ")[0]
            if kind == "time":
                timed = Times.model_validate(result)
                times |= {(model, (timed.precision, timed.batch, timed.run_mode)): timed for model in timed.models}
            elif kind == "energy":
                of_model = Joules.model_validate(result)
                joules[of_model.model, (of_model.precision, of_model.batch, of_model.run_mode)] = of_model
            elif kind == "memory":
                use = Memory.model_validate(result)
                memory[use.model] = use
            elif kind == "kernels":
                profiled = Kernels.model_validate(result)
                kernels[profiled.model] = profiled
            elif kind == "count":
                counted = Operations.model_validate(result)
                multiply_adds[counted.model] = counted.multiply_adds
        except ValidationError as error:
            raise ValueError(f"{FILE} has a faulty result {foreign(name, 100)}: {first_fault(error)}") from None
    cards = {result["run"]: card_of(content, result) for result in results.values()}
    return GpuTables(times, joules, memory, multiply_adds, kernels, cards)


def gpu_answer(gpu: GpuTables | None, model: str, column: str) -> Answer | None:
    """The value of one of the columns fps, time, memory, energy and efficiency in float32 at batch 1.

    Both eager and as a graph where both were measured; the answer's value is the eager one. What is still missing of a
    model that was timed needs another run. None if it was not timed, so that another record may be used.
    """
    if gpu is None or (model, SINGLE) not in gpu.times:
        return None
    if column == "memory":
        use = gpu.memory.get(model)
        if use is None or use.peak_mib is None:
            return MISSING
        note = f"MiB: {foreign(use.method)}; {FILE}; {foreign(gpu.cards[use.run])}"
        return Answer("measured", f"{use.peak_mib:.0f}", use.peak_mib, note, remark="MiB")
    values = {way: _value(gpu, model, column, way) for way in (SINGLE, GRAPH)}
    first = values[SINGLE]
    if first is None:
        return MISSING
    text = f"{_short(first)} eager"
    if (second := values[GRAPH]) is not None:
        text += f", {_short(second)} graph"
    return Answer("measured", text, first, _note(gpu, model, column))


def gpu_speed_ratio(gpu: GpuTables | None, model: str, reference: str) -> Answer | None:
    """The speed of a model relative to `reference` at batch 1 in float32, eager; None if it was not measured."""
    ratio = None if gpu is None else gpu.time_ratio(reference, model, SINGLE)
    if gpu is None or ratio is None:
        return None
    note = _note(gpu, model, "fps")
    if model == reference:
        return Answer("measured", "1.00", 1.0, note)
    low, high = ratio.interval
    return Answer("measured", f"{ratio.median:.2f} ({low:.2f} – {high:.2f})", ratio.median, f"eager; {note}")


def _value(gpu: GpuTables, model: str, column: str, way: Way) -> float | None:
    if column == "energy":
        return None if (joules := gpu.joules.get((model, way))) is None else joules.j_per_image
    if (times := gpu.times.get((model, way))) is None:
        return None
    of_model = times.models[model]
    if column == "efficiency":
        multiply_adds = gpu.multiply_adds.get(model)
        return None if multiply_adds is None else multiply_adds * of_model.images_per_s / 1e9
    return of_model.median_ms if column == "time" else of_model.images_per_s


def _short(value: float) -> str:
    return f"{value:#.3g}" if value < 100 else f"{value:.0f}"


def _note(gpu: GpuTables, model: str, column: str) -> str:
    passes = len(gpu.times[model, SINGLE].models[model].times_s)
    how = f"method {gpu.joules[model, SINGLE].method}" if column == "energy" else f"median of {passes} passes"
    return (
        f"{foreign(gpu.card(model, SINGLE))}, batch 1, float32 without TF32, network only, {how}; eager: kernels are "
        f"launched anew, graph: replayed from a CUDA graph; {FILE}; the paper used a {PAPERS_DEVICE}"
    )


def gpu_table(table: str, gpu: GpuTables) -> Table | None:
    """A table's models on a GPU, in every way that was measured, below what the paper prints; None if none was.

    The ratios are to the VoVNet that was timed in the same run, with 95 % intervals.
    """
    rows, cards, passes, used = list[list[str]](), list[str](), list[int](), list[Result]()
    for row in TABLES[table].rows:
        if not row.model or not (ways := gpu.ways(row.model)):
            continue
        rows.append([row.name, "paper", *(row.values.get(key, "") for key in ("fps", "time"))])
        rows[-1] += [
            "",
            row.values.get("energy", ""),
            "",
            row.values.get("efficiency", ""),
            row.values.get("memory", ""),
        ]
        for way in ways:
            rows.append(["", way_text(way), *_cells(gpu, row.model, way)])
            cards.append(foreign(gpu.card(row.model, way)))
            passes.append(len(gpu.times[row.model, way].models[row.model].times_s))
            found = gpu.times.get((row.model, way)), gpu.joules.get((row.model, way)), gpu.memory.get(row.model)
            used += [result for result in found if result is not None]
    if not rows:
        return None
    fewest, most = min(passes), max(passes)
    count = f"{most}" if fewest == most else f"{fewest} to {most}"
    header = ["model", "run", "images/s", "time (ms)", "time, ratio to the VoVNet", "J/image"]
    header += ["joules, ratio to the VoVNet", "multiply-adds (G/s)", "memory (MiB; paper: MB)"]
    notes = [
        f"measured on {' / '.join(dict.fromkeys(cards))} with random weights, network only; float32 without TF32; "
        f"{FILE}; the paper used a {PAPERS_DEVICE}",
        f"time: median of {count} passes, the models of a group interleaved in one run; "
        "ratios: with 95 % intervals; joules: windows of at least 2.5 s, by the energy counter if there is one",
        "time of a batch is of the whole batch; memory at batch 1, eager",
        f"measured in {runs_text(used)}; ratios only between values of the same card and code",
        *_left_out(TABLES[table].rows, gpu),
        *_checks(gpu),
        *_kernels(TABLES[table].rows, gpu),
    ]
    return Table(header, rows, "On a GPU (measured)", notes)


def way_text(way: Way) -> str:
    precision, batch, run = way
    return f"{precision}, batch {batch}, {WORDS[run]}"


def _cells(gpu: GpuTables, model: str, way: Way) -> list[str]:
    times = gpu.times[model, way]
    of_model, reference = times.models[model], times.reference
    if "vovnet" not in reference:  # which could not be run in this way
        reference = ""
    time_ratio, joule_ratio = gpu.time_ratio(model, reference, way), gpu.joule_ratio(model, reference, way)
    joules, use = gpu.joules.get((model, way)), gpu.memory.get(model)
    efficiency = _value(gpu, model, "efficiency", way)
    return [
        _short(of_model.images_per_s),
        _short(of_model.median_ms),
        "1" if model == reference else ratio_text(time_ratio.median, time_ratio.interval) if time_ratio else "",
        "needs `make gpu`" if joules is None else f"{joules.j_per_image:.3g}{' (disputed)' if joules.disputed else ''}",
        "1" if joules and model == reference else "" if joule_ratio is None else ratio_text(*joule_ratio),
        "" if efficiency is None else _short(efficiency),
        f"{use.peak_mib:.0f}" if use and use.peak_mib is not None and way == (use.precision, 1, "eager") else "",
    ]


def ratio_text(ratio: float, interval: tuple[float, float] | None) -> str:
    return f"{ratio:.2f}" if interval is None else f"{ratio:.2f} ({interval[0]:.2f} – {interval[1]:.2f})"


def runs_text(results: Iterable[Result]) -> str:
    """The runs of `make gpu` that made these results, as the record names them."""
    names = list(dict.fromkeys(foreign(result.run, 40) for result in results))
    return f"{'run' if len(names) == 1 else 'runs'} {', '.join(names)} of {FILE}"


def _left_out(rows: Sequence[PublishedRow], gpu: GpuTables) -> Iterator[str]:
    """The models that could not be run in a way in which others of their group were."""
    titles = {row.model: row.name for row in rows if row.model}
    groups = {id(times): (times, way) for (_, way), times in gpu.times.items()}
    for times, way in groups.values():
        for model, reason in times.left_out.items():
            if model in titles:
                yield f"{titles[model]}, {way_text(way)}: could not be run ({foreign(reason)})"


def _kernels(rows: Sequence[PublishedRow], gpu: GpuTables) -> Iterator[str]:
    """How much longer a pass takes than its kernels by themselves."""
    for row in rows:
        times, kernels = gpu.times.get((row.model, GRAPH)), gpu.kernels.get(row.model)
        if times is not None and kernels is not None and gpu.comparable(times, kernels):
            graph_ms, kernels_ms = times.models[row.model].median_ms, kernels.kernels_ms
            yield (
                f"{row.name}: the kernels of a pass take {_short(kernels_ms)} ms by themselves, a pass as a graph "
                f"{graph_ms / kernels_ms:.2f} × that"
            )


def _checks(gpu: GpuTables) -> Iterator[str]:
    """How far the two methods of measuring joules are apart."""
    checked = [(joules.j_per_image, joules.check.j_per_image) for joules in gpu.joules.values() if joules.check]
    apart = [abs(by_other / by_counter - 1) for by_counter, by_other in checked]
    if apart:
        yield f"joules by the counter and by sampled power differ by at most {max(apart):.1%} in the same windows"
