"""`vovnet measure`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from vovnet.cli.app import app
from vovnet.cli.output import Fraction, Json, Output, Positive, make_folder, set_threads, show_progress
from vovnet.errors import UsageError


@app.command
def measure(
    *models: str,
    input_size: Positive | None = None,
    batch_size: Positive = 1,
    batches: Annotated[list[Positive] | None, Parameter(negative="", consume_multiple=True)] = None,
    repetitions: Annotated[int, Parameter(validator=Number(gte=2))] = 100,
    precision: Literal["float32", "tf32", "bfloat16", "float16"] = "float32",
    device: str = "auto",
    threads: Positive | None = None,
    memory: bool = True,
    energy: Literal["auto", "counter", "sampled", "paper", "rapl", "meter"] | None = None,
    meter: Path | None = None,
    estimate: Annotated[bool, Parameter(negative="")] = False,
    layers: Annotated[bool, Parameter(negative="")] = False,
    images: Annotated[list[str] | None, Parameter(negative="", consume_multiple=True)] = None,
    data: Path | None = None,
    split: str | None = None,
    pareto: Annotated[bool, Parameter(negative="")] = False,
    min_ap: Fraction | None = None,
    max_p99_ms: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    accuracy: Literal["AP", "AP50", "VOC07"] | None = None,
    by: Literal["energy", "time", "multiply_adds", "parameters", "memory"] | None = None,
    output: Path | None = None,
    json_file: Json = None,
) -> int:
    """Count and measure what any models cost, in one run: operations, memory access, time, memory, energy.

    Parameters
    ----------
    models:
        Ours (see `vovnet list`), trained weights, FILE.onnx, timm:NAME, torchvision:NAME, package.module:function, or
        the .json record of an earlier run.
    input_size:
        Height and width of the images; by default what a detector or an exported file expects, else 224.
    batch_size:
        Images in one pass of the network.
    batches:
        Time these batch sizes too.
    repetitions:
        Timed passes of each model, in turn with the others.
    precision:
        Number format of weights and activations; tf32 is for CUDA only.
    device:
        auto, cpu, cuda, cuda:N or mps.
    threads:
        CPU threads of the network.
    memory:
        Measure the peak of memory; on a CPU that takes seconds a model.
    energy:
        Measure joules an image by this method where there is a sensor; takes minutes a model.
    meter:
        The CSV that an external power meter writes meanwhile: timestamp, watts.
    estimate:
        Also estimate joules from the counts; always labelled as estimated.
    layers:
        Also print the cost of every layer.
    images:
        Real images: time each stage of trained detectors, from the file to the drawn picture.
    data:
        Folder of a data set: measure the accuracy of trained detectors too.
    split:
        Its split, such as test.
    pareto:
        Say which models no other beats in accuracy and cost, and which is the cheapest within the limits.
    min_ap:
        The least accuracy, 0…1.
    max_p99_ms:
        The most milliseconds of a pass of batch-size images, at the 99th percentile; give it 100 repetitions or more.
    accuracy:
        The figure that min-ap and pareto mean; by default VOC07.
    by:
        The cost that pareto means; by default energy where it was measured, else time.
    output:
        Write a report into this folder: JSON, CSV, Markdown, plots, one HTML page.
    json_file:
        Write everything measured as JSON to this file, or "-" for standard output.
    """
    out = Output(json_file)
    from vovnet.data.sources import expand_sources, is_url, is_video
    from vovnet.engine.measure_by_name import compare
    from vovnet.profiling.pareto import cheapest, pareto_front
    from vovnet.provenance import command_line, record_header
    from vovnet.report.layer_tables import layer_table
    from vovnet.report.measurement_remarks import remarks
    from vovnet.report.model_tables import label_measurements, model_tables
    from vovnet.report.part_tables import part_table

    if not models:
        raise UsageError("say which models to measure; `vovnet list` names ours")
    pareto = pareto or min_ap is not None or max_p99_ms is not None
    records = [name for name in models if name.endswith(".json")]
    if pareto and data is None and not records:
        raise UsageError("pareto compares accuracy with cost: give --data, or the .json record of a run that had it")
    if pareto and records and len(records) < len(models) and by not in ("multiply_adds", "parameters"):
        raise UsageError("times of an earlier record and of now cannot be compared: measure the models in one run")
    if not pareto and (by or accuracy):
        raise UsageError("--by and --accuracy say what --pareto, --min-ap and --max-p99-ms mean; give one of these")
    if len(records) == len(models) and (energy or batches or estimate or images or data):
        raise UsageError("a record is shown as it is: it cannot get energy, batches, an estimate, stages or accuracy")
    if (meter is not None) != (energy == "meter"):
        raise UsageError("--energy meter and --meter FILE go together")
    paths = expand_sources(images or ())
    if foreign := [path for path in paths if is_url(path) or is_video(path)]:
        raise UsageError(f"stages are timed on image files, not on {foreign[0]}")
    if output is not None:
        import markdown_it  # noqa: F401
        import matplotlib  # noqa: F401

        make_folder(output)
    set_threads(threads)
    with show_progress() as progress:
        task = progress.add_task("", total=None)
        measured = compare(
            models,
            input_size=input_size,
            batch_size=batch_size,
            batch_sizes=batches or (),
            device=device,
            precision=precision,
            repetitions=repetitions,
            memory=memory,
            energy=energy,
            meter=meter,
            estimated=estimate,
            image_paths=[Path(path) for path in paths],
            data=data,
            split=split,
            on_step=lambda what: progress.update(task, description=what),
        )
    rows = label_measurements(measured)
    for table in (*model_tables(rows), part_table(rows), *([layer_table(rows)] if layers else [])):
        if table.rows:
            out.say(table.title)
            out.table(list(table.header), [list(row) for row in table.rows])
    for remark in remarks(rows):
        out.say(remark)
    if output is not None:
        from vovnet.report.measurement_report import write_measurement_report

        write_measurement_report(measured, output)
        out.say(f"report in {output}")
    content: dict[str, object] = {
        **record_header(command_line()),
        "measurements": [one.to_dict() for one in measured],
    }
    status = 0
    if pareto:
        choice = cheapest(measured, accuracy=accuracy or "VOC07", min_ap=min_ap, max_p99_ms=max_p99_ms, by=by)
        front = [one.name for one in pareto_front(measured, accuracy or "VOC07", choice.by)]
        out.say(f"\nBest by {accuracy or 'VOC07'} and {choice.by}, cheapest first: {', '.join(front) or 'none'}")
        out.say(str(choice))
        content |= {"pareto": {"front": front, "choice": choice.to_dict()}}
        status = 0 if choice.winner is not None else 1
    out.json(content)
    return status
