"""An evaluation as files: metrics, curves, confusion matrix, and the images with the most errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL.Image import Image
from torchvision.transforms.v2.functional import to_pil_image

from vovnet.data.images import read_image
from vovnet.engine.evaluate import Evaluation
from vovnet.engine.predicting.drawing import draw_detections
from vovnet.errors import counted
from vovnet.files import file_name, image_content, json_text, write_files
from vovnet.metrics.coco import to_coco_results
from vovnet.report.evaluation_page import evaluation_page, small_copy
from vovnet.report.plots import plot_confusion, plot_precision_recall
from vovnet.report.plotting import figure_content


def write_evaluation(evaluation: Evaluation, folder: Path, *, worst: int = 10) -> None:
    """Write evaluation.html, evaluation.json, detections.json (COCO results), plots and `worst` annotated images.

    Files of an earlier evaluation there are replaced or removed, once all the new ones have been written.
    """
    dataset, names = evaluation.dataset, evaluation.dataset.class_names
    ids = [sample.image_id for sample in dataset]
    results = to_coco_results(evaluation.detections, ids, dataset.category_ids)
    files = {
        folder / "evaluation.json": json_text(evaluation.to_dict(), indent=1).encode() + b"\n",
        folder / "detections.json": ("[\n" + ",\n".join(map(json_text, results)) + "\n]\n").encode(),
    }
    figures = {
        "precision_recall": plot_precision_recall(evaluation.voc, names),
        "confusion": plot_confusion(evaluation.confusion, names),
    }
    for name, figure in figures.items():
        for suffix in ("png", "svg"):
            files[folder / f"{name}.{suffix}"] = figure_content(figure, suffix)

    shown = []  # the images themselves would fill the memory
    for rank, (name, errors, image) in enumerate(_worst_images(evaluation, worst), start=1):
        path = folder / "worst" / file_name(f"{rank:02d}_{Path(name).stem}", ".jpg")
        files[path] = image_content(path, image, quality=92)
        shown.append((name, errors, small_copy(image)))
    files[folder / "evaluation.html"] = evaluation_page(evaluation, files[folder / "confusion.svg"], shown)
    write_files(files)
    for path in set((folder / "worst").glob("[0-9][0-9]*_*.jpg")) - files.keys():
        path.unlink()


def _worst_images(evaluation: Evaluation, most: int) -> Iterator[tuple[str, str, Image]]:
    """Name, errors in words, and annotated copy of the images with the most errors, most first."""
    totals = evaluation.errors.sum(axis=1)
    for index in (-totals).argsort(kind="stable")[:most].tolist():
        if not totals[index]:
            break
        sample, detections = evaluation.dataset[index], evaluation.detections[index]
        annotated = draw_detections(
            read_image(sample.image_path),
            detections[detections.scores >= evaluation.score_threshold],
            evaluation.dataset.class_names,
            target=sample.target,
        )
        missed, false, confused = evaluation.errors[index].tolist()
        errors = f"{missed} missed, {counted(false, 'false positive')}, {confused} found as another class"
        yield sample.image_path.name, errors, to_pil_image(annotated)
