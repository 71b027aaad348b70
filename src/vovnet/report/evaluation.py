"""An evaluation as files: metrics, curves, confusion matrix, and the images with the most errors."""

from __future__ import annotations

from pathlib import Path

from torchvision.transforms.v2.functional import to_pil_image

from vovnet.data.images import read_image
from vovnet.engine.drawing import draw_detections
from vovnet.engine.evaluate import Evaluation
from vovnet.files import file_name, image_content, json_text, write_files
from vovnet.metrics.coco import to_coco_results
from vovnet.report.plots import plot_confusion, plot_precision_recall
from vovnet.report.plotting import figure_content


def write_evaluation(evaluation: Evaluation, folder: Path, *, worst: int = 10) -> None:
    """Write evaluation.json, detections.json (COCO results), two plots and `worst` annotated images into `folder`.

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

    error_counts = evaluation.errors.sum(axis=1)
    order = [index for index in (-error_counts).argsort(kind="stable")[:worst] if error_counts[index]]
    for rank, index in enumerate(order, start=1):
        sample, detections = dataset[int(index)], evaluation.detections[index]
        annotated = draw_detections(
            read_image(sample.image_path),
            detections[detections.scores >= evaluation.score_threshold],
            names,
            target=sample.target,
        )
        path = folder / "worst" / file_name(f"{rank:02d}_{sample.image_path.stem}", ".jpg")
        files[path] = image_content(path, to_pil_image(annotated), quality=92)
    write_files(files)
    for path in set((folder / "worst").glob("[0-9][0-9]*_*.jpg")) - files.keys():
        path.unlink()
