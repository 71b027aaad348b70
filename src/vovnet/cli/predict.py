"""`vovnet predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vovnet.cli.app import app
from vovnet.cli.output import Classes, Fraction, Json, Output, Positive, complain, set_threads, show_progress
from vovnet.errors import UsageError


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
    from vovnet.engine.detector import load
    from vovnet.engine.prediction import Failure
    from vovnet.engine.prediction_files import PredictionWriter

    if not sources:
        raise UsageError("say what to predict on: images, folders, patterns, videos or addresses")
    set_threads(threads)
    detector = load(weights, device)
    if contours and not detector.model.masks:
        raise UsageError(f"--contours is for detectors that give masks; {weights} gives boxes only: leave it out")
    try:
        results = detector.stream(
            list(sources),
            score_threshold=score_threshold,
            top_k=top_k,
            classes=classes,
            batch_size=batch_size,
            keep_images=draw,
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
