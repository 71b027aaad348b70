"""`vovnet predict`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from vovnet.cli.app import app
from vovnet.cli.options import (
    BatchSize,
    Device,
    Fraction,
    Json,
    Overlap,
    Repeated,
    Runtime,
    Switch,
    Threads,
    Tiles,
    TopK,
    Weights,
)
from vovnet.cli.output import Output, complain, set_threads, show_progress
from vovnet.errors import UsageError
from vovnet.folder_lock import folder_lock

if TYPE_CHECKING:
    from rich.progress import Progress

Result = TypeVar("Result")


@app.command
def predict(
    *sources: str,
    weights: Weights = "bccd",
    output: Path = Path("runs/predict"),
    score_threshold: Fraction | None = None,
    top_k: TopK = 100,
    classes: Repeated = None,
    tiles: Tiles = None,
    overlap: Overlap = None,
    batch_size: BatchSize = 8,
    runtime: Runtime = "auto",
    device: Device = "auto",
    threads: Threads = None,
    draw: bool = True,
    contours: Switch = False,
    json_file: Json = None,
) -> int:
    """Detect objects in images and videos; write images with drawn detections, COCO JSON and CSV.

    Parameters
    ----------
    sources:
        Images, folders, glob patterns, videos, or http(s) URLs of images.
    output:
        Folder for drawn/, detections.json and detections.csv.
    score_threshold:
        Leave out detections with a lower score; by default the threshold of each class that is stored in the weights,
        and 0.3 without stored ones.
    classes:
        Keep only this class; repeat the option for more.
    runtime:
        What runs the network; auto is the fastest export of the weights that passed its test on this machine, else
        PyTorch. An exported file runs in the runtime that it was made for, or in one that reads it too.
    draw:
        Write images and videos with drawn detections.
    contours:
        Write masks to detections.json as polygons instead of run-length codes.
    """
    out = Output(json_file)
    from vovnet.engine.detector import load
    from vovnet.engine.predicting.runtimes import describe_running
    from vovnet.media.prediction_files import PredictionWriter
    from vovnet.media.prediction_run import write_all
    from vovnet.runtime.options import shown_thresholds
    from vovnet.runtime.tiles import tiles_hint

    if not sources:
        raise UsageError("name images, folders, glob patterns, videos or URLs to predict on")
    set_threads(threads)
    detector = load(weights, device, runtime=runtime, threads=threads)
    if contours and not detector.masks:
        raise UsageError(f"--contours needs a detector with masks; {weights} predicts boxes only: leave it out")
    if sentence := describe_running(detector, weights):
        out.say(sentence)
    if sentence := tiles_hint(detector.metadata, tiles):
        out.say(sentence)
    if score_threshold is None and detector.score_thresholds is not None:
        out.say(shown_thresholds(detector.score_thresholds, detector.class_names))
    try:
        results = detector.stream(
            list(sources),
            score_threshold=score_threshold,
            top_k=top_k,
            classes=classes,
            batch_size=batch_size,
            tiles=tiles,
            overlap=overlap,
            keep_images=draw,
            output=output,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    with (
        folder_lock(output),
        PredictionWriter(output, draw=draw, contours=contours) as writer,
        show_progress() as progress,
    ):
        done = write_all(_shown(results, progress), writer, detector.class_names, complain)
    out.table(["class", "detections"], [[name, str(count)] for name, count in done.detections.items()])
    for sentence in done.sentences(output):
        out.say(sentence)
    out.json({"running": detector.running.to_dict(), **done.to_dict(), "output": str(output)})
    return 1 if done.failures else 0


def _shown(results: Iterable[Result], progress: Progress) -> Iterator[Result]:
    """The results, with a count of them on the terminal."""
    task = progress.add_task("images", total=None)
    for result in results:
        progress.advance(task)
        yield result
