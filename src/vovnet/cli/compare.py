"""`vovnet compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vovnet.cli.app import app
from vovnet.cli.output import Fraction, Json, Output, Positive, complain, make_folder, set_threads, show_progress
from vovnet.errors import UsageError

Several = Annotated[list[str] | None, Parameter(negative="", consume_multiple=True)]


@app.command
def compare(
    *weights: str,
    images: Several = None,
    data: Path | None = None,
    split: str | None = None,
    limit: Positive | None = None,
    names: Several = None,
    output: Path = Path("runs/compare"),
    score_threshold: Fraction = 0.6,
    top_k: Positive = 100,
    device: str = "auto",
    threads: Positive | None = None,
    json_file: Json = None,
) -> int:
    """Draw what several detectors find on the same pictures, side by side: one figure and one page.

    Parameters
    ----------
    weights:
        Names of shipped weights, files, folders of runs, or addresses: one column each.
    images:
        Images, folders, patterns, http(s) addresses of images; with --data, stems or files of that data set.
    data:
        Folder of a data set: its ground truth is the first column, and mistakes are marked.
    split:
        Its split, such as test.
    limit:
        Show at most so many pictures; by default 4 of a data set, all of --images.
    names:
        Headings of the columns, one a detector.
    output:
        Folder for figure.jpg and comparison.html.
    score_threshold:
        Leave out detections that score below it.
    top_k:
        Keep at most so many detections a picture.
    device:
        auto, cpu, cuda, cuda:N or mps.
    threads:
        CPU threads of the networks.
    json_file:
        Write a summary as JSON to this file, or "-" for standard output.
    """
    out = Output(json_file)
    if split is not None and data is None:
        raise UsageError("--split is that of a data set: give --data DIR too")
    # What would be missing at the end is missed now.
    import markdown_it  # noqa: F401
    import matplotlib  # noqa: F401

    from vovnet.report.comparison import (
        Annotator,
        ComparedImage,
        Comparison,
        Drawer,
        choose_images,
        detector_names,
        image_names,
        open_ground_truth,
    )
    from vovnet.report.comparison_files import write_figure, write_page
    from vovnet.weights.shipped import load

    set_threads(threads)
    headings = detector_names(weights, names)
    detectors = [load(one, device) for one in weights]
    truth = None
    if data is not None:
        import hotcoco  # noqa: F401

        truth = open_ground_truth(data, split, masks=any(detector.model.masks for detector in detectors))
    sources = choose_images(images or [], truth, limit)
    make_folder(output)
    drawer = Drawer(detectors, truth.class_names if truth else None, score_threshold, top_k)
    annotators = [Annotator(heading, argument) for heading, argument in zip(headings, weights, strict=True)]
    annotators = [Annotator("ground truth", None), *annotators] if truth else annotators
    compared, failures = [], []
    with show_progress() as progress:
        file_names = image_names([image.source for image in sources])
        for image, name in progress.track(list(zip(sources, file_names, strict=True)), description="images"):
            try:
                compared.append(ComparedImage(name, image.source, drawer.draw(image.read(), image.target)))
            except (ValueError, OSError) as error:
                reason = str(error) if image.source in str(error) else f"{image.source}: {error}"
                failures.append({"source": image.source, "reason": reason})
                complain(reason)
    comparison = Comparison(tuple(annotators), tuple(compared), score_threshold)
    if compared:
        write_figure(comparison, output / "figure.jpg")
        write_page(comparison, output / "comparison.html")
    out.table(
        ["column", "weights", "in all pictures"],
        [
            [annotator.name, annotator.weights or "", annotator.caption(total)]
            for annotator, total in zip(annotators, comparison.totals(), strict=True)
        ],
    )
    for detector, heading in zip(detectors, headings, strict=True):
        if truth and not drawer.marks_mistakes(detector):
            out.say(f"{heading}: mistakes are not marked, for its classes are not those of {data}")
    files = f"figure.jpg and comparison.html in {output}" if compared else "nothing is written"
    out.say(f"{len(compared)} pictures; {files}")
    if failures:
        out.say(f"{len(failures)} of {len(sources)} pictures could not be read (see above)")
    out.json({**comparison.to_dict(), "failures": failures, "output": str(output)})
    return 1 if failures else 0
