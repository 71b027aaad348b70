"""The command `vovnet`: parse, call, print. Imports wait until a command runs, so that --help is quick."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number

from vovnet import __version__
from vovnet.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress

    from vovnet.data.check import Report
    from vovnet.engine.evaluate import Evaluation


def _file_or_dash(_: object, value: str | None) -> None:
    if value is not None and value.startswith("-") and value != "-":
        raise ValueError(f'expected a file or "-", got {value}')


Json = Annotated[str | None, Parameter(name="--json", allow_leading_hyphen=True, validator=_file_or_dash)]
Classes = Annotated[list[str] | None, Parameter(negative="")]
Fraction = Annotated[float, Parameter(validator=Number(gte=0, lte=1))]
Count = Annotated[int, Parameter(validator=Number(gte=0))]
Positive = Annotated[int, Parameter(validator=Number(gte=1))]

app = App(
    name="vovnet",
    help="Object detection in real time, and what it costs.",
    help_epilogue="An error is one sentence; with --debug it is the whole traceback.",
    version=__version__,
    help_format="markdown",
    suppress_keyboard_interrupt=False,
)
data = App(name="data", help="Look at data sets.")
app.command(data)
weights_app = App(name="weights", help="Take over weights of others.")
app.command(weights_app)


@app.command
def predict(
    *sources: str,
    weights: str = "bccd",
    output: Path = Path("runs/predict"),
    score_threshold: Fraction = 0.3,
    top_k: Positive = 100,
    classes: Classes = None,
    batch_size: Positive = 8,
    device: str = "auto",
    threads: Positive | None = None,
    draw: bool = True,
    contours: Annotated[bool, Parameter(negative="")] = False,
    json_file: Json = None,
) -> int:
    """Detect objects: drawn images or videos, COCO results and CSV.

    Parameters
    ----------
    sources:
        Images, folders, patterns, videos, http(s) addresses of images.
    weights:
        Name of shipped weights, a file, or an address.
    output:
        Folder for drawn/, detections.json and detections.csv.
    score_threshold:
        Leave out detections that score below it.
    top_k:
        Keep at most so many detections an image.
    classes:
        Keep these classes only; give the option once for each.
    batch_size:
        Images in one pass of the network.
    device:
        auto, cpu, cuda, cuda:N or mps.
    threads:
        CPU threads of the network.
    draw:
        Write the drawn images.
    contours:
        Write masks as polygons into detections.json, instead of as run-length codes.
    json_file:
        Write a summary as JSON to this file, or "-" for standard output.
    """
    out = Output(json_file)
    from vovnet.engine.outputs import PredictionWriter
    from vovnet.engine.predict import Failure
    from vovnet.engine.weights import load

    if not sources:
        raise UsageError("say what to predict on: images, folders, patterns, videos or addresses")
    _set_threads(threads)
    detector = load(weights, device)
    if contours and not detector.model.masks:
        raise UsageError(f"--contours is for detectors that give masks; {weights} gives boxes only: leave it out")
    try:
        results = detector.stream(
            list(sources), score_threshold=score_threshold, top_k=top_k, classes=classes, batch_size=batch_size
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    counts: dict[str, int] = dict.fromkeys(detector.class_names, 0)
    images, failures = 0, []
    with PredictionWriter(output, draw=draw, contours=contours) as writer, _progress() as progress:
        task = progress.add_task("images", total=None)
        for result in results:
            progress.advance(task)
            if isinstance(result, Failure):
                failures.append({"source": result.source, "reason": result.reason})
                _complain(result.reason)
                continue
            writer.write(result)
            images += 1
            for name in result.names:
                counts[name] += 1
    out.table(["class", "detections"], [[name, str(count)] for name, count in counts.items()])
    out.say(f"{images} images and frames, {sum(counts.values())} detections; results in {output}")
    if failures:
        out.say(f"{len(failures)} of {images + len(failures)} sources could not be read (see above)")
    out.json({"images": images, "detections": counts, "failures": failures, "output": str(output)})
    return 1 if failures else 0


@app.command
def train(config: Path, *settings: str, json_file: Json = None) -> int:
    """Train a detector. Under `torchrun --nproc-per-node N -m vovnet train …` it uses N processes.

    Parameters
    ----------
    config:
        YAML file; the published ones are in configs/.
    settings:
        key=value for this run, with dots into sections: optimizer.learning_rate=1e-3, resume=true.
    json_file:
        Write a summary as JSON to this file, or "-" for standard output.
    """
    out = Output(json_file)
    from vovnet.engine.config import load_config
    from vovnet.engine.train import train as run

    result = run(load_config(config, settings))
    if _is_main():
        best = "" if result.best is None else f", best on val {result.best:.4f}"
        if result.finished:
            out.say(f"finished after {result.steps} steps{best}; results in {result.output}")
        else:
            out.say(f"stopped after {result.steps} steps{best}; go on with resume=true; results in {result.output}")
        out.json(
            {"output": str(result.output), "steps": result.steps, "best": result.best, "finished": result.finished},
        )
    return 0 if result.finished else 130


@app.command
def evaluate(
    weights: str,
    root: Path,
    *,
    split: str | None = None,
    output: Path = Path("runs/evaluate"),
    score_threshold: Fraction = 0.5,
    soft_nms: Annotated[bool, Parameter(negative="")] = False,
    multi_scale: Literal["voc", "coco"] | None = None,
    worst: Count = 10,
    batch_size: Positive = 8,
    workers: Count = 2,
    device: str = "auto",
    threads: Positive | None = None,
    json_file: Json = None,
) -> int:
    """Measure accuracy: VOC and COCO figures, curves, confusion matrix, the worst images.

    Parameters
    ----------
    weights:
        Name of shipped weights, a file, or an address.
    root:
        Folder of a data set in VOC, COCO or YOLO form.
    split:
        Its split, such as test.
    output:
        Folder for evaluation.json, detections.json, the plots and worst/.
    score_threshold:
        Working point of the confusion matrix and the drawn images.
    soft_nms:
        Linear soft-NMS after the usual NMS, as RefineDet's figures on COCO have it; for one scale.
    multi_scale:
        RefineDet's published test at many scales with box voting, as for this data set; images go one by one.
    worst:
        Draw so many images, those with the most mistakes first.
    batch_size:
        Images in one pass of the network.
    workers:
        Processes that read images.
    device:
        auto, cpu, cuda, cuda:N or mps.
    threads:
        CPU threads of the network.
    json_file:
        Write the figures as JSON to this file, or "-" for standard output.
    """
    out = Output(json_file)
    # What would be missing at the end is missed now, and no hour of detections is lost.
    import hotcoco  # noqa: F401
    import matplotlib  # noqa: F401

    from vovnet.data.formats import open_dataset
    from vovnet.engine.evaluate import evaluate as run
    from vovnet.engine.multiscale import published_multi_scale
    from vovnet.engine.weights import load_weights
    from vovnet.report.evaluation import write_evaluation

    _set_threads(threads)
    loaded = load_weights(weights)
    test = published_multi_scale(loaded.model, multi_scale) if multi_scale else None
    dataset = open_dataset(root, split, class_names=loaded.info.class_names, masks=loaded.model.masks)
    _make_folder(output)
    with _progress() as progress:
        task = progress.add_task("images", total=len(dataset))
        evaluation = run(
            loaded.model,
            dataset,
            device=device,
            batch_size=batch_size,
            workers=workers,
            score_threshold=score_threshold,
            soft_nms=soft_nms,
            multi_scale=test,
            on_image=lambda count: progress.update(task, completed=count),
        )
    if not _is_main():
        return 0
    out.say(f"{len(dataset)} images of {root}, split {dataset.split}")
    print_evaluation(evaluation, out)
    write_evaluation(evaluation, output, worst=worst)
    out.say(f"results in {output}")
    out.json(evaluation.to_dict())
    return 0


def print_evaluation(evaluation: Evaluation, out: Output) -> None:
    """Print an `Evaluation` as tables: each class (small to large are AP50 by COCO's sizes), COCO's twelve figures of
    boxes and, if there are any, of masks."""
    voc, figures, masks = evaluation.voc, evaluation.coco.figures, evaluation.coco_masks
    rows = []
    for name, by_voc, by_coco, by_mask in evaluation.classes():
        sizes = [by_coco.ap50_small, by_coco.ap50_medium, by_coco.ap50_large]
        values = [by_voc.ap11, by_voc.ap_area, by_coco.ap, by_coco.ap50, *sizes]
        values += [by_mask.ap, by_mask.ap50] if by_mask else []
        rows.append([name, str(by_voc.n_objects), *map(_figure, values)])
    objects = sum(result.n_objects for result in voc.classes)
    mean = [voc.mean_ap11, voc.mean_ap_area, figures["AP"], figures["AP50"]]
    mask_mean = [masks.figures["AP"], masks.figures["AP50"]] if masks else []
    rows.append(["all (mean)", str(objects), *map(_figure, mean), "", "", "", *map(_figure, mask_mean)])
    header = ["class", "objects", "VOC07 AP", "area AP", "COCO AP", "AP50", "small", "medium", "large"]
    out.table(header + (["mask AP", "mask AP50"] if masks else []), rows)
    by_kind = {"boxes": figures, "masks": masks.figures} if masks else {"": figures}
    for part in (list(figures)[:6], list(figures)[6:]):
        out.table(["COCO", *part], [[kind, *(_figure(of[name]) for name in part)] for kind, of in by_kind.items()])


@data.command
def check(
    root: Path,
    *,
    fix: Path | None = None,
    classes: Classes = None,
    workers: Positive | None = None,
    json_file: Json = None,
) -> int:
    """Find the faults of a data set; exit status 1 if there are any.

    Parameters
    ----------
    root:
        Folder of a data set in VOC, COCO or YOLO form.
    fix:
        Write a copy without the faults to this new folder; the original is only read.
    classes:
        The known classes, where the data's own are not to be trusted; give the option once for each.
    workers:
        Threads that decode images.
    json_file:
        Write everything found as JSON to this file, or "-" for standard output.
    """
    out = Output(json_file)
    from vovnet.data.check import KINDS, check_dataset, fix_dataset

    with _progress() as progress:
        task = progress.add_task("images", total=None)
        report = check_dataset(
            root,
            class_names=classes,
            workers=workers,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    print_statistics(report, out)
    for fault in report.faults[:20]:
        where = " ".join(part for part in (fault.split, fault.image) if part)
        out.say(f"{fault.kind}: {where}: {fault.detail}")
    if len(report.faults) > 20:
        out.say(f"… and {len(report.faults) - 20} more (all of them with --json)")
    if report.faults:
        counts = report.count_by_kind()
        out.table(["fault", "found", "what --fix does"], [[kind, str(counts[kind]), KINDS[kind][1]] for kind in counts])
    out.say(f"{len(report.faults)} {'fault' if len(report.faults) == 1 else 'faults'} in {root}")
    if fix is not None:
        fix_dataset(report, fix)
        out.say(f"cleaned copy in {fix}")
    out.json(report.to_dict())
    return 1 if report.faults else 0


def print_statistics(report: Report, out: Output) -> None:
    """Print how many objects of which class and size a data set has."""
    statistics = report.statistics
    splits, boxes = statistics.splits, statistics.boxes
    out.table(
        ["split", "images", "of them empty", "objects"],
        [[s.split, str(s.images), str(s.images_without_objects), str(s.objects)] for s in splits],
    )
    names = dict.fromkeys(name for split in splits for name in split.objects_per_class)
    out.table(
        ["objects of class", *(f"in {split.split}" for split in splits)],
        [[name, *(str(split.objects_per_class.get(name, 0)) for split in splits)] for name in names],
    )
    percentiles = list(boxes.relative_size)
    out.table(
        ["boxes", *(f"{p} %" for p in percentiles)],
        [
            ["√(area / image area)", *(f"{boxes.relative_size[p]:.3f}" for p in percentiles)],
            ["width / height", *(f"{boxes.aspect_ratio[p]:.2f}" for p in percentiles)],
        ],
    )
    out.say(f"by COCO's sizes: {boxes.small} small, {boxes.medium} medium, {boxes.large} large boxes")


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
    from vovnet.engine.compare import compare
    from vovnet.engine.train import source_commit
    from vovnet.measure.pareto import cheapest, pareto_front
    from vovnet.report.measurement import layer_table, part_table, remarks, tables

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
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
        import plotly  # noqa: F401

        _make_folder(output)
    _set_threads(threads)
    with _progress() as progress:
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
    for table in tables(measured):
        out.say(table.title)
        out.table(table.header, table.rows)
    for more in (part_table(measured), layer_table(measured) if layers else None):
        if more is not None and more.items:
            out.say(more.title)
            out.table(more.header, more.rows)
    for remark in remarks(measured):
        out.say(remark)
    if output is not None:
        from vovnet.report.measurement import write_measurement_report

        write_measurement_report(measured, output)
        out.say(f"report in {output}")
    content: dict[str, object] = {
        "command": shlex.join(["vovnet", *sys.argv[1:]]),
        "commit": source_commit(),
        "date": measured[0].conditions.date[:10],
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


@weights_app.command(name="import")
def import_weights(source: str, *, output: Path, json_file: Json = None) -> int:
    """Translate a VoVNet checkpoint of others into a file of ours; refused if anything is missing or left over.

    Of VoVNet-Detectron, whole Faster and Mask R-CNNs become detectors; of all else the backbone is taken.

    Parameters
    ----------
    source:
        A file (.pth, .safetensors, .npz with Caffe's names), an address, or a name on the hub, timm/NAME. Known are the
        names of the original code, of its detectors, of detectron2's and timm's VoVNets, and of Caffe.
    output:
        The file to write, .safetensors.
    json_file:
        Write what was found as JSON to this file, or "-" for standard output.
    """
    out = Output(json_file)
    from dataclasses import asdict

    from vovnet.engine.importing import import_weights as run

    report = run(source, output)
    options, pixels, aside = (
        ", ".join(f"{key} {value}" for key, value in part.items())
        for part in (report.options, report.pixels, report.set_aside)
    )
    out.table(
        ["found", ""],
        [
            ["names as in", report.scheme],
            ["model", f"{report.model}: {options}"],
            ["norm", report.norm],
            ["images", pixels],
            ["classes", _figure(None) if report.num_classes is None else str(report.num_classes)],
            ["tensors", f"{report.tensors}, {report.parameters:,} parameters"],
            ["set aside", aside or "nothing"],
            ["SHA-256 of the source", report.source_sha256],
        ],
    )
    whole = report.kind == "detector"
    use = f"vovnet predict SOURCE --weights {report.output}" if whole else f"backbone_weights={report.output}"
    out.say(f"weights in {report.output}; {'use' if whole else 'start from'} them with {use}")
    out.json(asdict(report))
    return 0


@app.command(name="list")
def list_names(*, json_file: Json = None) -> int:
    """Models, backbones and shipped weights.

    Parameters
    ----------
    json_file:
        Write the names as JSON to this file, or "-" for standard output.
    """
    out = Output(json_file)
    from vovnet.engine.weights import shipped_weights
    from vovnet.models.zoo import BACKBONES, DETECTORS

    names = {"models": sorted(DETECTORS), "backbones": sorted(BACKBONES), "weights": sorted(shipped_weights())}
    out.table(["kind", "names"], [[kind, "\n".join(items)] for kind, items in names.items()])
    out.json(names)
    return 0


class Output:
    """What a command prints for people, on stdout unless the JSON goes there, and the JSON for programs."""

    def __init__(self, json_file: str | None = None) -> None:
        self.json_file = json_file
        self.stream = sys.stderr if json_file == "-" else sys.stdout

    def say(self, text: str) -> None:
        print(_printable(text), file=self.stream, flush=True)

    def table(self, header: list[str], rows: list[list[str]]) -> None:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table

        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
        for title, *cells in zip(header, *rows, strict=True):
            numbers = bool(cells) and all(re.fullmatch(r"[\d.,–]*", cell) for cell in cells)
            table.add_column(title, justify="right" if numbers else "left")
        for row in rows:
            table.add_row(*map(_printable, row))
        # As wide as it needs to be: where the window is narrow a line breaks, but no number is cut. And a class may be
        # called [red].
        Console(file=self.stream, width=1000, markup=False, emoji=False, highlight=False).print(table, "")

    def json(self, content: object) -> None:
        if self.json_file == "-":
            print(json.dumps(content))
        elif self.json_file is not None:
            from vovnet.files import replacing

            with replacing(self.json_file) as temporary:
                temporary.write_text(json.dumps(content, indent=1) + "\n")


def _make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot write into {output} ({error.strerror}); choose another --output") from None


def _is_main() -> bool:
    """Whether this is the process that reports, of those that torchrun may have started."""
    return os.environ.get("RANK", "0") == "0"


def _printable(text: str) -> str:
    """Without the control characters by which a name in a stranger's file could steer the terminal."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\N{REPLACEMENT CHARACTER}", text)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _complain(text: str) -> None:
    print(f"vovnet: {_printable(text)}", file=sys.stderr, flush=True)


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def main() -> None:
    """Run the command line; an error is one sentence, unless --debug asks for the traceback."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    if debug:
        arguments.remove("--debug")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without "√" still gets its table
    logging.basicConfig(format="vovnet: %(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        status = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except KeyboardInterrupt:
        _complain("interrupted")
        status = 130
    except (CycloptsError, UsageError) as error:
        if debug:
            raise
        _complain(_one_line(str(error)) + (" See vovnet --help." if isinstance(error, CycloptsError) else ""))
        status = 2
    except Exception as error:
        if debug:
            raise
        _complain(_one_sentence(error, arguments[0]))
        status = 1
    sys.exit(status if isinstance(status, int) else 0)


_LESS_MEMORY = {
    "train": "micro_batch_size",
    "evaluate": "--batch-size (or --workers)",
    "predict": "--batch-size",
    "data": "--workers",
    "measure": "--batch-size or --input-size",
}


_OF_EXTRAS = {"av", "hotcoco", "jinja2", "matplotlib", "onnx", "onnxruntime", "plotly", "pynvml", "tensorboard"}


def _one_sentence(error: Exception, command: str) -> str:
    text = str(error)
    if " in DataLoader worker process" in text:  # its text is the worker's whole traceback, which ends with the error
        text = text.strip().rsplit("\n", 1)[-1].partition(": ")[2]
    text = _one_line(text)
    if isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate memory" in text:
        return (
            f"out of memory; lower {_LESS_MEMORY.get(command, 'the batch size')} or use a smaller model ({text[:160]})"
        )
    if isinstance(error, ImportError):
        ours = (error.name or "").partition(".")[0] in _OF_EXTRAS and "pip install" not in text
        return f"{text}; this needs an extra: pip install 'vovnet[all]'" if ours else text
    expected = isinstance(error, ValueError | OSError | FloatingPointError)
    return text if expected else f"{type(error).__name__}: {text} (run again with --debug for the traceback)"


def _one_line(text: str) -> str:
    return " ".join(text.split())
