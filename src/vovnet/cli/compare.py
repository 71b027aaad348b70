"""`vovnet compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vovnet.cli.app import app
from vovnet.cli.options import Device, Fraction, Json, Positive, Runtime, Several, Split, Threads, TopK
from vovnet.cli.output import Output, complain, make_folder, need, set_threads, show_progress
from vovnet.errors import UsageError, counted, describe
from vovnet.folder_lock import folder_lock

if TYPE_CHECKING:
    from vovnet.report.comparison import ComparedImage, Drawer, ImageSource


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
    runtime: Runtime | None = None,
    device: Device = "auto",
    threads: Threads = None,
    json_file: Json = None,
) -> int:
    """Compare the detections of several detectors on the same images, side by side; write a figure and an HTML page.

    Parameters
    ----------
    weights:
        One detector per column: bundled weights by name, files, folders of runs, URLs, hf:OWNER/NAME, or
        exported detectors.
    images:
        Images, folders, glob patterns, or http(s) URLs of images; with --data, names of images in that dataset.
    data:
        Folder of a dataset: the first column shows its ground truth, and errors are marked.
    limit:
        Show at most this many images; by default 4 with --data, all with --images.
    names:
        Column headings, one per detector.
    output:
        Folder for figure.jpg and comparison.html.
    score_threshold:
        Leave out detections with a lower score.
    runtime:
        What runs the networks; by default PyTorch, and for an exported file the runtime that it was made for.
    """
    out = Output(json_file)
    if split is not None and data is None:
        raise UsageError("--split is a split of a dataset: give --data DIR too")
    need("markdown_it", "matplotlib", *([] if data is None else ["hotcoco"]))

    from vovnet.engine.detector import load
    from vovnet.report.comparison import Annotator, Comparison, Drawer, choose_images, detector_names, open_ground_truth
    from vovnet.report.comparison_files import write_figure, write_page

    set_threads(threads)
    headings = detector_names(weights, names)
    detectors = [load(argument, device, runtime=runtime, threads=threads) for argument in weights]
    truth = None
    if data is not None:
        truth = open_ground_truth(data, split, masks=any(detector.masks for detector in detectors))
    sources = choose_images(images or [], truth, limit, output=output)
    make_folder(output)
    with folder_lock(output):
        drawer = Drawer(detectors, truth.class_names if truth else None, score_threshold, top_k)
        annotators = [
            Annotator(heading, argument, detector.running)
            for heading, argument, detector in zip(headings, weights, detectors, strict=True)
        ]
        annotators = [Annotator("ground truth", None), *annotators] if truth else annotators
        compared, failures = _draw_all(sources, drawer)
        comparison = Comparison(tuple(annotators), tuple(compared), score_threshold)
        if compared:
            write_figure(comparison, output / "figure.jpg")
            write_page(comparison, output / "comparison.html")
    out.table(
        ["column", "weights", "in all images"],
        [
            [annotator.name, annotator.source, annotator.caption(total)]
            for annotator, total in zip(annotators, comparison.totals(), strict=True)
        ],
    )
    for detector, heading in zip(detectors, headings, strict=True):
        if truth and not drawer.marks_errors(detector):
            out.say(f"{heading}: errors are not marked, because its classes differ from those of {data}")
    files = f"figure.jpg and comparison.html in {output}" if compared else "nothing is written"
    out.say(f"{counted(len(compared), 'image')}; {files}")
    if failures:
        out.say(f"{len(failures)} of {len(sources)} images could not be read (see above)")
    out.json({**comparison.to_dict(), "failures": failures, "output": str(output)})
    return 1 if failures else 0


def _draw_all(sources: Sequence[ImageSource], drawer: Drawer) -> tuple[list[ComparedImage], list[dict[str, str]]]:
    """The images that could be read, and the sources and reasons of the others."""
    from vovnet.report.comparison import ComparedImage, image_names

    compared, failures = [], []
    names = image_names([image.source for image in sources])
    with show_progress() as progress:
        for image, name in progress.track(list(zip(sources, names, strict=True)), description="images"):
            try:
                compared.append(ComparedImage(name, image.source, drawer.draw(image.read(), image.target)))
            except (ValueError, OSError) as error:
                reason = describe(error)
                reason = reason if image.source in reason else f"{image.source}: {reason}"
                failures.append({"source": image.source, "reason": reason})
                complain(reason)
    return compared, failures
