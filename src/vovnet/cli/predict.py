"""`vovnet predict`."""

from __future__ import annotations

from pathlib import Path

from vovnet.cli.app import app
from vovnet.cli.options import BatchSize, Device, Fraction, Json, Repeated, Switch, Threads, TopK, Weights
from vovnet.cli.output import Output, complain, set_threads, show_progress
from vovnet.errors import UsageError, counted, describe
from vovnet.folder_lock import folder_lock


@app.command
def predict(
    *sources: str,
    weights: Weights = "bccd",
    output: Path = Path("runs/predict"),
    score_threshold: Fraction = 0.3,
    top_k: TopK = 100,
    classes: Repeated = None,
    batch_size: BatchSize = 8,
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
        Leave out detections with a lower score.
    classes:
        Keep only this class; repeat the option for more.
    draw:
        Write images and videos with drawn detections.
    contours:
        Write masks to detections.json as polygons instead of run-length codes.
    """
    out = Output(json_file)
    from vovnet.engine.detector import load
    from vovnet.files import is_full
    from vovnet.media.prediction_files import PredictionWriter
    from vovnet.media.results import Failure

    if not sources:
        raise UsageError("name images, folders, glob patterns, videos or URLs to predict on")
    set_threads(threads)
    detector = load(weights, device)
    if contours and not detector.model.masks:
        raise UsageError(f"--contours needs a detector with masks; {weights} predicts boxes only: leave it out")
    try:
        results = detector.stream(
            list(sources),
            score_threshold=score_threshold,
            top_k=top_k,
            classes=classes,
            batch_size=batch_size,
            keep_images=draw,
            output=output,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    counts: dict[str, int] = dict.fromkeys(detector.class_names, 0)
    images, unread, failures = 0, 0, []
    with (
        folder_lock(output),
        PredictionWriter(output, draw=draw, contours=contours) as writer,
        show_progress() as progress,
    ):
        task = progress.add_task("images", total=None)
        for result in results:
            progress.advance(task)
            if isinstance(result, Failure):
                failures.append({"source": result.source, "reason": result.reason})
                complain(result.reason)
                unread += 1
                continue
            try:
                writer.write(result)
            except (ValueError, OSError) as error:
                if is_full(error):
                    raise
                failures.append({"source": result.source, "reason": describe(error)})
                complain(describe(error))
            images += 1
            for name in result.names:
                counts[name] += 1
    out.table(["class", "detections"], [[name, str(count)] for name, count in counts.items()])
    out.say(
        f"{counted(images, 'image or frame', 'images and frames')}, {counted(sum(counts.values()), 'detection')}; "
        f"results in {output}"
    )
    if failures:
        out.say(f"{len(failures)} of {images + unread} sources could not be read or drawn (see above)")
    out.json({"images": images, "detections": counts, "failures": failures, "output": str(output)})
    return 1 if failures else 0
