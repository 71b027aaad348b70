"""`vovnet compare`."""

from __future__ import annotations

from pathlib import Path

from vovnet.cli.app import app
from vovnet.cli.options import Device, Fraction, Json, Positive, Several, Split, Threads, TopK
from vovnet.cli.output import Output, complain, make_folder, need, set_threads, show_progress
from vovnet.errors import UsageError


@app.command
def compare(
    *weights: str,
    images: Several = None,
    data: Path | None = None,
    split: Split = None,
    limit: Positive | None = None,
    names: Several = None,
    output: Path = Path("runs/compare"),
    score_threshold: Fraction = 0.6,
    top_k: TopK = 100,
    device: Device = "auto",
    threads: Threads = None,
    json_file: Json = None,
) -> int:
    """Show what several detectors find in the same images, side by side: one figure and one page.

    Parameters
    ----------
    weights:
        One detector per column: shipped weights by name, files, folders of runs, or URLs.
    images:
        Images, folders, glob patterns, or http(s) URLs of images; with --data, names of images in that dataset.
    data:
        Folder of a dataset: the first column shows its ground truth, and errors are marked.
    limit:
        Show at most this many images; by default 4 of a dataset, all of --images.
    names:
        Headings of the columns, one per detector.
    output:
        Folder for figure.jpg and comparison.html.
    score_threshold:
        Leave out detections with a lower score.
    """
    out = Output(json_file)
    if split is not None and data is None:
        raise UsageError("--split is a split of a dataset: give --data DIR too")
    need("jinja2", "matplotlib", *([] if data is None else ["hotcoco"]))

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
