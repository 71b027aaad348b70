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
    import jinja2  # noqa: F401
    import matplotlib  # noqa: F401

    from vovnet.engine.detector import load
    from vovnet.report.comparison import Column, Comparison, Drawer, Row
    from vovnet.report.comparison_figure import write_figure
    from vovnet.report.comparison_inputs import choose_shots, detector_names, open_truth, picture_names
    from vovnet.report.comparison_page import write_page

    set_threads(threads)
    headings = detector_names(weights, names)
    detectors = [load(one, device) for one in weights]
    truth = None
    if data is not None:
        import hotcoco  # noqa: F401

        truth = open_truth(data, split, masks=any(detector.model.masks for detector in detectors))
    shots = choose_shots(images or [], truth, limit)
    make_folder(output)
    drawer = Drawer(detectors, truth.class_names if truth else None, score_threshold, top_k)
    columns = [Column(heading, one) for heading, one in zip(headings, weights, strict=True)]
    columns = [Column("ground truth", None), *columns] if truth else columns
    rows, failures = [], []
    with show_progress() as progress:
        called = picture_names([shot.source for shot in shots])
        for shot, name in progress.track(list(zip(shots, called, strict=True)), description="pictures"):
            try:
                rows.append(Row(name, shot.source, drawer.draw(shot.read(), shot.target)))
            except (ValueError, OSError) as error:
                reason = str(error) if shot.source in str(error) else f"{shot.source}: {error}"
                failures.append({"source": shot.source, "reason": reason})
                complain(reason)
    comparison = Comparison(tuple(columns), tuple(rows), score_threshold)
    if rows:
        write_figure(comparison, output / "figure.jpg")
        write_page(comparison, output / "comparison.html")
    out.table(
        ["column", "weights", "in all pictures"],
        [
            [column.name, column.weights or "", column.caption(total)]
            for column, total in zip(columns, comparison.totals(), strict=True)
        ],
    )
    for detector, heading in zip(detectors, headings, strict=True):
        if truth and not drawer.marks_mistakes(detector):
            out.say(f"{heading}: mistakes are not marked, for its classes are not those of {data}")
    out.say(f"{len(rows)} pictures; {f'figure.jpg and comparison.html in {output}' if rows else 'nothing is written'}")
    if failures:
        out.say(f"{len(failures)} of {len(shots)} pictures could not be read (see above)")
    out.json({**comparison.to_dict(), "failures": failures, "output": str(output)})
    return 1 if failures else 0
