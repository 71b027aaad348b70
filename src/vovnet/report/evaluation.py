"""An evaluation as files: figures, curves, confusion matrix, the images with the most mistakes."""

from __future__ import annotations

import json
from pathlib import Path

from torchvision.transforms.v2.functional import to_pil_image

from vovnet.data.images import read_image
from vovnet.engine.drawing import draw_detections
from vovnet.engine.evaluate import Evaluation
from vovnet.files import replacing
from vovnet.metrics.coco import to_coco_results
from vovnet.report.plots import plot_confusion, plot_precision_recall


def write_evaluation(evaluation: Evaluation, folder: Path, *, worst: int = 10) -> None:
    """Write evaluation.json, detections.json (COCO results), two plots, and `worst` drawn images into `folder`.

    What an earlier evaluation left there is replaced.
    """
    dataset, names = evaluation.dataset, evaluation.dataset.class_names
    ids = [sample.image_id for sample in dataset]
    results = to_coco_results(evaluation.detections, ids, dataset.category_ids)
    with replacing(folder / "evaluation.json") as temporary:
        temporary.write_text(json.dumps(evaluation.to_dict(), indent=1))
    with replacing(folder / "detections.json") as temporary:
        temporary.write_text("[\n" + ",\n".join(map(json.dumps, results)) + "\n]\n")
    for suffix in (".png", ".svg"):
        with replacing(folder / f"precision_recall{suffix}") as temporary:
            plot_precision_recall(evaluation.voc, names, temporary)
        with replacing(folder / f"confusion{suffix}") as temporary:
            plot_confusion(evaluation.confusion, names, temporary)

    for path in (folder / "worst").glob("[0-9][0-9]*_*.jpg"):
        path.unlink()
    mistakes = evaluation.errors.sum(axis=1)
    order = [index for index in (-mistakes).argsort(kind="stable")[:worst] if mistakes[index]]
    for place, index in enumerate(order, start=1):
        sample, found = dataset[int(index)], evaluation.detections[index]
        picture = draw_detections(
            read_image(sample.image_path),
            found[found.scores >= evaluation.score_threshold],
            names,
            target=sample.target,
        )
        with replacing(folder / "worst" / f"{place:02d}_{sample.image_path.stem}.jpg") as temporary:
            to_pil_image(picture).save(temporary, quality=92)
