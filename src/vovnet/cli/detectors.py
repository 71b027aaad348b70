"""The main job: predict, train, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vovnet.cli.app import app
from vovnet.cli.output import (
    Classes,
    Count,
    Fraction,
    Json,
    Output,
    Positive,
    complain,
    figure,
    is_main,
    make_folder,
    set_threads,
    show_progress,
)
from vovnet.errors import UsageError

if TYPE_CHECKING:
    from vovnet.engine.evaluate import Evaluation


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
    set_threads(threads)
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
    with PredictionWriter(output, draw=draw, contours=contours) as writer, show_progress() as progress:
        task = progress.add_task("images", total=None)
        for result in results:
            progress.advance(task)
            if isinstance(result, Failure):
                failures.append({"source": result.source, "reason": result.reason})
                complain(result.reason)
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
    if is_main():
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

    set_threads(threads)
    loaded = load_weights(weights)
    test = published_multi_scale(loaded.model, multi_scale) if multi_scale else None
    dataset = open_dataset(root, split, class_names=loaded.info.class_names, masks=loaded.model.masks)
    make_folder(output)
    with show_progress() as progress:
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
    if not is_main():
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
        rows.append([name, str(by_voc.n_objects), *map(figure, values)])
    objects = sum(result.n_objects for result in voc.classes)
    mean = [voc.mean_ap11, voc.mean_ap_area, figures["AP"], figures["AP50"]]
    mask_mean = [masks.figures["AP"], masks.figures["AP50"]] if masks else []
    rows.append(["all (mean)", str(objects), *map(figure, mean), "", "", "", *map(figure, mask_mean)])
    header = ["class", "objects", "VOC07 AP", "area AP", "COCO AP", "AP50", "small", "medium", "large"]
    out.table(header + (["mask AP", "mask AP50"] if masks else []), rows)
    by_kind = {"boxes": figures, "masks": masks.figures} if masks else {"": figures}
    for part in (list(figures)[:6], list(figures)[6:]):
        out.table(["COCO", *part], [[kind, *(figure(of[name]) for name in part)] for kind, of in by_kind.items()])
