"""The pictures of the documents, each by the function that draws it from a record or from what ships; `make results`
writes them.

Those of docs/reproduction are drawn by `vovnet.paper`. docs/records/figure5.jpg is a record: its weights do not ship.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from bccd_front import plot_front
from PIL import Image
from shared import RECORDS, ROOT, read_entries

from vovnet.engine.detector import load
from vovnet.profiling.measurement import read_measurements
from vovnet.report.comparison import Annotator, ComparedImage, Comparison, Drawer, choose_images, open_ground_truth
from vovnet.report.comparison_files import draw_figure
from vovnet.report.measurement_plots import plot_tradeoffs
from vovnet.report.model_tables import label_measurements
from vovnet.report.plots import plot_training
from vovnet.report.plotting import Plot, figure_content
from vovnet.report.roofline import plot_roofline

NARROW = (960, 460)  # of a figure that stands in a page


def beside_truth(image: str, size: tuple[int, int] | None = None) -> bytes:
    """A test image of BCCD with its ground truth and the detections of `bccd`, as `vovnet compare` draws it."""
    detector, threshold = load("bccd", "cpu"), 0.6
    truth = open_ground_truth(ROOT / "samples/bccd", "test", masks=False)
    drawer = Drawer([detector], truth.class_names, threshold, 100)
    compared = [
        ComparedImage(Path(source.source).name, source.source, drawer.draw(source.read(), source.target))
        for source in choose_images([image], truth)
    ]
    annotators = (Annotator("ground truth", None), Annotator("bccd", "bccd", detector.running))
    figure = draw_figure(Comparison(annotators, tuple(compared), threshold))
    content = io.BytesIO()
    if size is not None:
        figure = figure.resize(size, Image.Resampling.LANCZOS)
    figure.save(content, "JPEG", quality=90, subsampling=0)
    return content.getvalue()


def training_curve(name: str) -> bytes:
    """The losses and the validation metric of a recorded run."""
    return figure_content(plot_training(read_entries(RECORDS / f"{name}.log.jsonl")), "png")


def of_backbones(plot: Callable[..., Plot | None]) -> bytes:
    """A plot of the measured backbones."""
    drawn = plot(label_measurements(read_measurements(RECORDS / "backbones.json")))
    assert drawn is not None
    return drawn.png()


PICTURES: Mapping[str, Callable[[], bytes]] = {
    "docs/detections.jpg": partial(beside_truth, "BloodImage_00385"),
    "docs/compare.jpg": partial(beside_truth, "BloodImage_00015", NARROW),
    "docs/records/bccd_front.png": lambda: plot_front(RECORDS).png(),
    "docs/records/backbones_tradeoffs.png": partial(of_backbones, plot_tradeoffs),
    "docs/records/backbones_roofline.png": partial(of_backbones, plot_roofline),
    **{
        f"docs/records/{name}.png": partial(training_curve, name)
        for name in ("bccd", "bccd_small", "bccd_refinedet320", "penn_fudan")
    },
}
"""What draws each file."""
