"""COCO's figures against pycocotools, and the results format."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vovnet.metrics.coco import evaluate_coco, to_coco_results
from vovnet.structures import Detections, Target

NUM_CLASSES = 5


def perturbed_images(seed: int, n_images: int = 60) -> tuple[list[Detections], list[Target]]:
    """Objects of all three sizes, found with noise, twice, with a wrong label, or not; class 4 has no object."""
    generator = np.random.default_rng(seed)
    detections, targets = [], []
    for image in range(n_images):
        count = int(generator.integers(0, 12))
        corner = generator.uniform(0, 400, (count, 2))
        boxes = np.concatenate([corner, corner + generator.uniform(8, 180, (count, 2))], 1)
        labels = generator.integers(0, NUM_CLASSES - 1, count)
        crowd = generator.random(count) < 0.1
        difficult = generator.random(count) < 0.1
        area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) * generator.uniform(0.3, 1, count)  # as of masks
        targets.append(Target.make(boxes.astype(np.float32), labels, difficult, crowd, area))

        copies = generator.integers(0, 3, count) if image % 7 else np.zeros(count, dtype=int)
        noisy = np.repeat(boxes, copies, axis=0)
        size = (noisy[:, 2:] - noisy[:, :2]).mean(axis=1, keepdims=True)
        noisy = noisy + generator.normal(0, 0.06, noisy.shape) * size
        noisy_labels = np.repeat(labels, copies)
        mistaken = generator.random(len(noisy)) < 0.1
        noisy_labels[mistaken] = generator.integers(0, NUM_CLASSES, mistaken.sum())
        detections.append(
            Detections(
                torch.from_numpy(noisy.astype(np.float32)),
                torch.from_numpy(noisy_labels),
                torch.from_numpy(generator.random(len(noisy)).round(2).astype(np.float32)),  # with ties
                (600, 600),
            )
        )
    return detections, targets


def pycocotools_evaluation(detections: list[Detections], targets: list[Target]) -> COCOeval:
    def xywh(boxes: torch.Tensor) -> list[list[float]]:
        boxes = boxes.double()
        return torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).tolist()

    annotations = [
        {"image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": int(ignored)}
        for image, t in enumerate(targets, 1)
        for box, label, area, ignored in zip(
            xywh(t.boxes), t.labels.tolist(), t.area.tolist(), (t.crowd | t.difficult).tolist(), strict=True
        )
    ]
    results = [
        {"image_id": image, "category_id": label, "bbox": box, "score": score}
        for image, d in enumerate(detections, 1)
        for box, label, score in zip(xywh(d.boxes), d.labels.tolist(), d.scores.tolist(), strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(1, len(targets) + 1)],
            "categories": [{"id": label, "name": str(label)} for label in range(NUM_CLASSES)],
            "annotations": [{"id": number, **annotation} for number, annotation in enumerate(annotations, 1)],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("seed", range(3))
def test_equals_pycocotools(seed: int, capfd: pytest.CaptureFixture[str]) -> None:
    detections, targets = perturbed_images(seed)
    assert sum(len(t) for t in targets) > 250
    oracle = pycocotools_evaluation(detections, targets)
    result = evaluate_coco(detections, targets, NUM_CLASSES)
    assert capfd.readouterr().out == ""

    names = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
    assert list(result.figures) == names
    for name, expected in zip(names, oracle.stats, strict=True):
        assert 0 < expected < 1
        assert result.figures[name] == pytest.approx(expected, abs=1e-6), name

    precision = oracle.eval["precision"][..., -1]  # (IoU, recall, class, size)
    for label, c in enumerate(result.classes[:-1]):
        assert c.ap == pytest.approx(precision[:, :, label, 0].mean(), abs=1e-6)
        at_half = precision[0, :, label].mean(axis=0)
        assert [c.ap50, c.ap50_small, c.ap50_medium, c.ap50_large] == pytest.approx(at_half.tolist(), abs=1e-6)
    assert result.classes[-1].ap is None


def one_image(scores: list[float], box: list[float]) -> Detections:
    boxes = torch.tensor([box] * len(scores)).reshape(-1, 4)
    return Detections(boxes, torch.zeros(len(scores), dtype=torch.int64), torch.tensor(scores), (100, 100))


def test_nothing_found_and_nothing_to_find() -> None:
    box = [0.0, 0.0, 10.0, 10.0]
    nothing_found = evaluate_coco([one_image([], box)], [Target.make([box], [0])], 1)
    assert (nothing_found.figures["AP"], nothing_found.figures["ARs"]) == (0.0, 0.0)
    assert nothing_found.figures["APl"] is None  # the only object is small
    nothing_to_find = evaluate_coco([one_image([0.9], box)], [Target.make()], 1)
    assert set(nothing_to_find.figures.values()) == {None}
    assert set(evaluate_coco([], [], 1).figures.values()) == {None}


@pytest.mark.parametrize("flag", ["difficult", "crowd"])
def test_difficult_objects_and_crowds_are_matched_freely(flag: str) -> None:
    box, other = [0.0, 0.0, 40.0, 40.0], [50.0, 50.0, 90.0, 90.0]
    target = Target.make([box, other], [0, 0], **{flag: [True, False]})
    hits = one_image([0.9, 0.8], box)
    both = Detections(
        torch.cat([hits.boxes, torch.tensor([other])]), torch.zeros(3).long(), torch.tensor([0.9, 0.8, 0.7]), (100, 100)
    )
    assert evaluate_coco([both], [target], 1).figures["AP"] == pytest.approx(1.0)
    assert evaluate_coco([hits], [target], 1).figures["AR100"] == 0.0


def test_results_format() -> None:
    detections = [
        Detections(torch.tensor([[1.0, 2.0, 11.0004, 22.5]]), torch.tensor([1]), torch.tensor([0.1234567]), (30, 30)),
        Detections(torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0), (30, 30)),
    ]
    results = to_coco_results(detections, [42, "000012"], [7, 90])
    assert results == [{"image_id": 42, "category_id": 90, "bbox": [1.0, 2.0, 10.0, 20.5], "score": 0.123457}]
    assert json.loads(json.dumps(results)) == results
    with pytest.raises(ValueError, match="zip"):
        to_coco_results(detections, [42], [7, 90])
