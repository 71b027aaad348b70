"""`vovnet predict`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

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
from vovnet.errors import UsageError, counted, describe
from vovnet.folder_lock import folder_lock

if TYPE_CHECKING:
    from vovnet.engine.predicting.prediction import Prediction
    from vovnet.media.prediction_files import PredictionWriter
    from vovnet.media.results import Failure


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
    with folder_lock(output), PredictionWriter(output, draw=draw, contours=contours) as writer:
        done = _write_all(results, writer, detector.class_names)
    counts = done.counts
    out.table(["class", "detections"], [[name, str(count)] for name, count in counts.items()])
    out.say(
        f"{counted(done.images, 'image or frame', 'images and frames')}, "
        f"{counted(sum(counts.values()), 'detection')}; results in {output}"
    )
    if done.failures:
        out.say(f"{len(done.failures)} of {done.images + done.unread} sources could not be read or drawn (see above)")
    record = {"running": detector.running.to_dict(), "images": done.images, "detections": counts}
    out.json({**record, "failures": done.failures, "output": str(output)})
    return 1 if done.failures else 0


@dataclass
class _Done:
    """What was predicted and written. failures: source and reason of what could not be read or drawn."""

    counts: dict[str, int]
    images: int = 0
    unread: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)


def _write_all(results: Iterable[Prediction | Failure], writer: PredictionWriter, class_names: Sequence[str]) -> _Done:
    from vovnet.files import is_full
    from vovnet.media.results import Failure

    done = _Done(dict.fromkeys(class_names, 0))
    with show_progress() as progress:
        task = progress.add_task("images", total=None)
        for result in results:
            progress.advance(task)
            if isinstance(result, Failure):
                done.failures.append({"source": result.source, "reason": result.reason})
                complain(result.reason)
                done.unread += 1
                continue
            try:
                writer.write(result)
            except (ValueError, OSError) as error:
                if is_full(error):
                    raise
                done.failures.append({"source": result.source, "reason": describe(error)})
                complain(describe(error))
            done.images += 1
            for name in result.names:
                done.counts[name] += 1
    return done
