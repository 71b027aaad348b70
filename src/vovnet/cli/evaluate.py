"""`vovnet evaluate`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vovnet.cli.app import app
from vovnet.cli.options import (
    BatchSize,
    Count,
    Device,
    Fraction,
    Json,
    Overlap,
    Runtime,
    Split,
    Switch,
    Threads,
    Tiles,
    Weights,
)
from vovnet.cli.output import Output, is_main, make_folder, metric, need, set_threads, show_progress
from vovnet.errors import UsageError, counted
from vovnet.folder_lock import folder_lock

if TYPE_CHECKING:
    from vovnet.engine.evaluate import Evaluation
    from vovnet.engine.predicting.predictor import Predictor


@app.command
def evaluate(
    weights: Weights,
    root: Path,
    *,
    split: Split = None,
    output: Path = Path("runs/evaluate"),
    score_threshold: Fraction = 0.5,
    soft_nms: Switch = False,
    multi_scale: Literal["voc", "coco"] | None = None,
    tiles: Tiles = None,
    overlap: Overlap = None,
    store_thresholds: Switch = False,
    worst: Count = 10,
    batch_size: BatchSize = 8,
    workers: Count = 2,
    runtime: Runtime | None = None,
    device: Device = "auto",
    threads: Threads = None,
    json_file: Json = None,
) -> int:
    """Measure accuracy and what is lost; write a page, VOC and COCO metrics, curves, and the worst images.

    Parameters
    ----------
    root:
        Folder of a dataset in any format that is read.
    output:
        Folder for evaluation.html, evaluation.json, detections.json, the plots and worst/.
    score_threshold:
        Lowest score that counts in the confusion matrix and the worst images; average precision uses all scores.
    soft_nms:
        Apply linear soft-NMS after NMS, as in RefineDet's COCO results at one scale.
    multi_scale:
        Run RefineDet's published multi-scale test for VOC or COCO, with box voting, one image at a time.
    store_thresholds:
        Write the score threshold of each class that maximises F1 into the weights; predictions use it from then on.
    worst:
        Number of images to draw, ordered by their number of errors.
    workers:
        Processes that read images.
    runtime:
        What runs the network; by default PyTorch, and for an exported file the runtime that it was made for.
    """
    out = Output(json_file)
    need("hotcoco", "matplotlib")
    from vovnet.data.formats import open_dataset, require_objects
    from vovnet.engine.detector import load
    from vovnet.engine.evaluate import evaluate as run
    from vovnet.engine.multi_scale import published_multi_scale
    from vovnet.report.evaluation import write_evaluation
    from vovnet.runtime.tiles import tiling_of
    from vovnet.weights import detector as files

    if store_thresholds and (soft_nms or multi_scale):
        raise UsageError(_other_test("--soft-nms" if soft_nms else "--multi-scale"))
    tiling = tiling_of(tiles, overlap)
    set_threads(threads)
    file = files.file_to_change(weights) if store_thresholds else None
    changing = files.lock_for_change(file) if file is not None and is_main() else nullcontext()
    with changing, folder_lock(output) if is_main() else nullcontext():
        detector = load(weights, device, runtime=runtime, threads=threads)
        test = published_multi_scale(detector.model, multi_scale) if multi_scale else None
        dataset = open_dataset(root, split, class_names=detector.class_names, masks=detector.masks)
        require_objects(dataset)
        make_folder(output)
        with show_progress() as progress:
            task = progress.add_task("images", total=len(dataset))
            evaluation = run(
                detector,
                dataset,
                batch_size=batch_size,
                workers=workers,
                score_threshold=score_threshold,
                soft_nms=soft_nms,
                multi_scale=test,
                tiling=tiling,
                on_image=lambda count: progress.update(task, completed=count),
            )
        if not is_main():
            return 0
        _say_what_ran(detector, weights, tiles, out)
        out.say(f"{counted(len(dataset), 'image')} of {root}, split {dataset.split}")
        print_evaluation(evaluation, out)
        write_evaluation(evaluation, output, worst=worst)
        if file is not None:
            files.store_thresholds(file, evaluation.score_thresholds)
            out.say(f"score thresholds stored in {file}: predictions use them, and exports made from now on carry them")
        out.say(f"results in {output}")
        out.json(evaluation.to_dict())
        return 0


def _other_test(option: str) -> str:
    return (
        f"--store-thresholds is for predictions, which have no {option}: the scores would not be theirs; leave out one "
        "of them"
    )


def _say_what_ran(detector: Predictor, weights: str, tiles: int | None, out: Output) -> None:
    from vovnet.engine.predicting.runtimes import describe_running
    from vovnet.runtime.tiles import tiles_hint
    from vovnet.weights.find import find_weights

    if (last := Path(weights) / "last.safetensors").is_file():
        out.say(f"weights: {find_weights(weights)}, the best on val of the run; {last} has its last ones")
    for sentence in (describe_running(detector, weights), tiles_hint(detector.metadata, tiles)):
        if sentence:
            out.say(sentence)


def print_evaluation(evaluation: Evaluation, out: Output) -> None:
    """Print the metrics of each class (small, medium, large: AP50 by COCO's object sizes), then COCO's twelve metrics
    of the boxes and, if there are any, of the masks."""
    voc, figures, masks = evaluation.voc, evaluation.coco.figures, evaluation.coco_masks
    rows = []
    for name, by_voc, by_coco, by_mask in evaluation.classes():
        sizes = [by_coco.ap50_small, by_coco.ap50_medium, by_coco.ap50_large]
        values = [by_voc.ap11, by_voc.ap_area, by_coco.ap, by_coco.ap50, *sizes]
        values += [by_mask.ap, by_mask.ap50] if by_mask else []
        rows.append([name, str(by_voc.n_objects), *map(metric, values)])
    objects = sum(result.n_objects for result in voc.classes)
    mean = [voc.mean_ap11, voc.mean_ap_area, figures["AP"], figures["AP50"]]
    mask_mean = [masks.figures["AP"], masks.figures["AP50"]] if masks else []
    rows.append(["all (mean)", str(objects), *map(metric, mean), "", "", "", *map(metric, mask_mean)])
    header = ["class", "objects", "VOC07 AP", "area AP", "COCO AP", "AP50", "small", "medium", "large"]
    out.table(header + (["mask AP", "mask AP50"] if masks else []), rows)
    by_kind = {"boxes": figures, "masks": masks.figures} if masks else {"": figures}
    for part in (list(figures)[:6], list(figures)[6:]):
        out.table(["COCO", *part], [[kind, *(metric(of[name]) for name in part)] for kind, of in by_kind.items()])
    print_analysis(evaluation, out)


def print_analysis(evaluation: Evaluation, out: Output) -> None:
    """Print the best score threshold of each class, what AP50 is lost to, and a sentence on the largest loss."""
    from vovnet.report.evaluation_advice import KINDS, on_losses

    rows = []
    for name, best in zip(evaluation.dataset.class_names, evaluation.best_thresholds, strict=True):
        values = [metric(best.f1), metric(best.precision), metric(best.recall)] if best else ["–"] * 3
        rows.append([name, f"{best.threshold:g}" if best else "–", *values])
    out.table(["class", "best threshold", "F1", "precision", "recall"], rows)
    if errors := evaluation.analysis.errors:
        lost = [metric(kind.lost_ap) for kind in errors.kinds]
        out.table(["AP50 lost to", *(KINDS[kind.name] for kind in errors.kinds)], [["", *lost]])
    out.say(on_losses(evaluation).replace("`", ""))
