"""`vovnet measure`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from vovnet.cli.app import app
from vovnet.cli.measure_runtimes import RUNTIMES_TAKE, measure_in_runtimes
from vovnet.cli.options import BatchSize, Device, Fraction, Json, Positive, Repetitions, Several, Split, Switch, Threads
from vovnet.cli.output import Output, make_folder, need, set_threads, show_progress
from vovnet.errors import UsageError
from vovnet.folder_lock import folder_lock
from vovnet.printing import line

if TYPE_CHECKING:
    from vovnet.profiling.measurement import Measurement

NumberFormat = Literal["float32", "tf32", "bfloat16", "float16"]
EnergyMethod = Literal["auto", "counter", "sampled", "paper", "rapl", "meter"]
RunName = Literal["eager", "graph", "compile"]
Metric = Literal["AP", "AP50", "VOC07"]
CostName = Literal["energy", "time", "multiply_adds", "parameters", "memory"]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Energy:
    """Whether and how joules are measured.

    Parameters
    ----------
    energy:
        Measure joules per image by this method, if there is a sensor; takes minutes per model.
    meter:
        CSV log of an external power meter, written during the run (columns timestamp, watts).
    estimate:
        Also estimate joules from the counts; always labelled as an estimate.
    """

    energy: EnergyMethod | None = None
    meter: Path | None = None
    estimate: Switch = False

    def check(self) -> None:
        if (self.meter is not None) != (self.energy == "meter"):
            raise UsageError("--energy meter and --meter FILE go together")

    def options(self) -> dict[str, Any]:
        """For `measure_by_name`."""
        return {"energy": self.energy, "meter": self.meter, "estimated": self.estimate}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Images:
    """What trained detectors are run on.

    Parameters
    ----------
    images:
        Time each stage of a trained detector on these images, from reading the file to drawing the detections.
    data:
        Folder of a dataset: also measure the accuracy of trained detectors.
    """

    images: Several = None
    data: Path | None = None
    split: Split = None

    def paths(self) -> list[Path]:
        from vovnet.engine.predicting.sources import expand_sources
        from vovnet.media.finding import is_video
        from vovnet.urls import is_url

        paths = expand_sources(self.images or ())
        if unsuitable := [path for path in paths if is_url(path) or is_video(path)]:
            raise UsageError(f"stages are timed on image files, not on {unsuitable[0]}")
        return [Path(path) for path in paths]

    def options(self) -> dict[str, Any]:
        """For `measure_by_name`."""
        return {"image_paths": self.paths(), "data": self.data, "split": self.split}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Choice:
    """How to choose between the measured models.

    Parameters
    ----------
    pareto:
        Print the Pareto front of accuracy and cost, and the cheapest model within the limits.
    min_ap:
        Lowest acceptable accuracy, 0…1.
    max_p99_ms:
        Highest acceptable 99th percentile of the latency in ms; use 100 repetitions or more.
    accuracy:
        Accuracy metric of the choice; VOC07 by default.
    by:
        Cost that the choice minimises; by default energy if it was measured, else time.
    """

    pareto: Switch = False
    min_ap: Fraction | None = None
    max_p99_ms: Annotated[float | None, Parameter(validator=Number(gt=0))] = None
    accuracy: Metric | None = None
    by: CostName | None = None

    def __bool__(self) -> bool:
        return self.pareto or self.min_ap is not None or self.max_p99_ms is not None

    def check(self, models: Sequence[str], data: Path | None) -> None:
        """UsageError before anything is measured, if there will be nothing to choose from."""
        records = [name for name in models if name.endswith(".json")]
        if not self:
            if self.by or self.accuracy:
                raise UsageError("--by and --accuracy need --pareto, --min-ap or --max-p99-ms: add one of these")
            return
        if data is None and not records:
            raise UsageError("a choice compares accuracy with cost: give --data, or a .json record that has accuracy")
        if records and len(records) < len(models) and self.by not in ("multiply_adds", "parameters"):
            raise UsageError("times of an earlier record and of now cannot be compared: measure the models in one run")

    def report(self, measurements: Sequence[Measurement], out: Output) -> tuple[dict[str, Any], bool]:
        """Print the front and the choice; the JSON of both, and whether a model is within the limits."""
        from vovnet.profiling.pareto import cheapest, pareto_front

        metric = self.accuracy or "VOC07"
        choice = cheapest(measurements, accuracy=metric, min_ap=self.min_ap, max_p99_ms=self.max_p99_ms, by=self.by)
        front = [measurement.name for measurement in pareto_front(measurements, metric, choice.by)]
        out.say()
        out.say(f"Best by {metric} and {choice.by}, cheapest first: {', '.join(map(line, front)) or 'none'}")
        for sentence in choice.sentences():
            out.say(sentence)
        return {"front": front, "choice": choice.to_dict()}, choice.winner is not None


@app.command
def measure(
    *models: str,
    input_size: Positive | None = None,
    batch_size: BatchSize | None = None,
    batches: Annotated[list[Positive] | None, Parameter(negative="", consume_multiple=True)] = None,
    repetitions: Repetitions = 100,
    precision: NumberFormat = "float32",
    run: Annotated[list[RunName] | None, Parameter(negative="", consume_multiple=True)] = None,
    device: Device = "auto",
    threads: Threads = None,
    memory: bool = True,
    energy: Energy = Energy(),
    layers: Switch = False,
    images: Images = Images(),
    choice: Choice = Choice(),
    runtimes: Several = None,
    output: Path | None = None,
    json_file: Json = None,
) -> int:
    """Measure what models cost, all in one run: operations, memory access, time, memory, energy.

    Parameters
    ----------
    models:
        Names from `vovnet list`, trained weights, FILE.onnx, timm:NAME, torchvision:NAME, package.module:function, or
        the .json record of an earlier run.
    input_size:
        Height and width of the images; by default what a detector or an exported file expects, else 224.
    batches:
        Additional batch sizes to time.
    repetitions:
        Timed passes per model, interleaved with those of the other models.
    precision:
        Number format of weights and activations; tf32 is for CUDA only.
    run:
        How to run each model, side by side if several: eager (default), graph (CUDA graph), compile (torch.compile).
    memory:
        Measure peak memory; takes seconds per model on a CPU.
    layers:
        Also print the cost of every layer.
    runtimes:
        Measure one detector in these instead: torch, onnxruntime, openvino, mnn; also RUNTIME:bf16 and RUNTIME:int8.
    output:
        Write a report to this folder: JSON, CSV, Markdown, plots, one HTML page.
    """
    out = Output(json_file)
    if not models:
        raise UsageError("name the models to measure; `vovnet list` names ours")
    energy.check()
    if runtimes is not None:
        others = (input_size, batch_size, batches, run, layers, choice, energy.estimate, not memory)
        if len(models) != 1 or any(others) or precision != "float32" or device not in ("auto", "cpu"):
            raise UsageError(RUNTIMES_TAKE)
        plan: dict[str, Any] = {"threads": threads, "repetitions": repetitions, "image_paths": images.paths()}
        plan |= {"data": images.data, "split": images.split, "energy": energy.energy, "meter": energy.meter}
        return measure_in_runtimes(models[0], runtimes, plan, output, out)
    choice.check(models, images.data)
    if batches or run or energy != Energy() or images.images or images.data:
        _check_additions(models)
    sources = images.options()
    if output is not None:
        need("markdown_it", "matplotlib")
        make_folder(output)
    set_threads(threads)
    from vovnet.engine.measure_by_name import measure_by_name

    with nullcontext() if output is None else folder_lock(output):
        with show_progress() as progress:
            task = progress.add_task("", total=None)
            measurements = measure_by_name(
                models,
                input_size=input_size,
                batch_size=batch_size,
                batch_sizes=batches or (),
                device=device,
                precision=precision,
                repetitions=repetitions,
                runs=tuple(run or ("eager",)),
                memory=memory,
                **energy.options(),
                **sources,
                on_step=lambda what: progress.update(task, description=line(what)),
            )
        _print(measurements, out, layers=layers)
        if output is not None:
            from vovnet.report.measurement_report import write_measurement_report

            write_measurement_report(measurements, output)
            out.say(f"report in {output}")
    return _choose(measurements, choice, out)


def _check_additions(models: Sequence[str]) -> None:
    if all(name.endswith(".json") for name in models):
        raise UsageError(
            "a record is shown as it is: energy, batches, runs, an estimate, stages or accuracy cannot be added"
        )


def _choose(measurements: Sequence[Measurement], choice: Choice, out: Output) -> int:
    """Print the choice and write the JSON; the status."""
    from vovnet.provenance import command_line, record_header

    content = {
        **record_header(command_line()),
        "measurements": [measurement.to_dict() for measurement in measurements],
    }
    chosen = True
    if choice:
        from vovnet.report.model_tables import label_measurements

        several = len({measurement.run for measurement in measurements}) > 1
        rows = label_measurements(measurements) if several else measurements  # else runs have the same name
        content["pareto"], chosen = choice.report(rows, out)
    out.json(content)
    return 0 if chosen else 1


def _print(measurements: Sequence[Measurement], out: Output, *, layers: bool) -> None:
    from vovnet.report.layer_tables import layer_table, with_own_layers
    from vovnet.report.measurement_remarks import remarks
    from vovnet.report.model_tables import label_measurements, model_tables

    rows = label_measurements(measurements)
    for table in (*model_tables(rows), *([layer_table(with_own_layers(rows))] if layers else [])):
        if table.rows:
            out.say(table.title)
            out.table(list(table.header), [list(row) for row in table.rows])
    for remark in remarks(rows):
        out.say(remark)
