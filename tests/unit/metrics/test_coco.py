"""COCO's metrics against pycocotools, the results format, and matching by masks."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vovnet.masks import RleMasks, decode, encode, from_coco
from vovnet.metrics.coco import evaluate_coco, to_coco_results
from vovnet.metrics.confusion import FALSE_POSITIVE, IGNORED, match_objects
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
        targets.append(Target.make(boxes.astype(np.float32), labels, difficult=difficult, crowd=crowd, area=area))

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


def pycocotools_evaluation(detections: list[Detections], targets: list[Target], masks: bool = False) -> COCOeval:
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
    if masks:
        for annotation, mask in zip(annotations, (m for t in targets for m in t.masks.to_coco()), strict=True):
            annotation["segmentation"] = mask
        for result, mask in zip(results, (m for d in detections for m in d.masks.to_coco()), strict=True):
            result["segmentation"] = mask
            del result["bbox"]  # otherwise the size of a detection would be that of its box
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [
                {"id": image, "height": d.image_size[0], "width": d.image_size[1]}
                for image, d in enumerate(detections, 1)
            ],
            "categories": [{"id": label, "name": str(label)} for label in range(NUM_CLASSES)],
            "annotations": [{"id": number, **annotation} for number, annotation in enumerate(annotations, 1)],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "segm" if masks else "bbox")
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


def masked_images(seed: int, n_images: int = 40) -> tuple[list[Detections], list[Target]]:
    """Polygons and pixel noise of all three sizes, crowds, ties and images without objects, detections or both."""
    generator = np.random.default_rng(seed)
    detections, targets = [], []
    for image in range(n_images):
        size = (int(generator.integers(150, 260)), int(generator.integers(150, 260)))
        count = 0 if image % 9 == 0 else int(generator.integers(1, 7))
        truth, predicted, labels, predicted_labels = [], [], [], []
        for _ in range(count):
            centre, radius = generator.uniform(0, 200, 2), generator.choice([12, 45, 110]) * generator.uniform(0.8, 1.2)
            angles = np.sort(generator.uniform(0, 2 * np.pi, 9))
            polygon = centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            truth.append(from_coco([polygon.ravel().tolist()], size))
            labels.append(int(generator.integers(0, NUM_CLASSES - 1)))
            for _ in range(int(generator.integers(0, 3)) if image % 7 else 0):
                noisy = polygon + generator.normal(0, 0.1, polygon.shape) * radius * generator.choice([0.3, 1, 2])
                predicted.append(from_coco([noisy.ravel().tolist()], size))
                predicted_labels.append(
                    labels[-1] if generator.random() < 0.9 else int(generator.integers(0, NUM_CLASSES))
                )
        truth_masks, predicted_masks = RleMasks(tuple(truth), size), RleMasks(tuple(predicted), size)
        difficult, crowd = generator.random((2, count)) < 0.1
        area = truth_masks.areas() * generator.uniform(0.9, 1.1)
        targets.append(
            Target.make(truth_masks.boxes(), labels, difficult=difficult, crowd=crowd, area=area, masks=truth_masks)
        )
        scores = torch.from_numpy(generator.random(len(predicted)).round(1).astype(np.float32))
        predicted_labels_t = torch.tensor(predicted_labels, dtype=torch.int64)
        # boxes that do not fit the masks, because no result may depend on them
        boxes = predicted_masks.boxes() * 0.5
        detections.append(Detections(boxes, predicted_labels_t, scores, size, predicted_masks))
    return detections, targets


@pytest.mark.parametrize("seed", range(3))
def test_masks_equal_pycocotools(seed: int) -> None:
    detections, targets = masked_images(seed)
    assert sum(t.crowd.sum() for t in targets) > 5
    assert any(not len(d) and len(t) for d, t in zip(detections, targets, strict=True))
    assert any(not len(d) and not len(t) for d, t in zip(detections, targets, strict=True))
    oracle = pycocotools_evaluation(detections, targets, masks=True)
    result = evaluate_coco(detections, targets, NUM_CLASSES, masks=True)
    for (name, value), expected in zip(result.figures.items(), oracle.stats, strict=True):
        assert 0 < expected < 1
        assert value == pytest.approx(expected, abs=1e-9), name
    precision = oracle.eval["precision"][..., -1]
    for label, c in enumerate(result.classes[:-1]):
        assert c.ap == pytest.approx(precision[:, :, label, 0].mean(), abs=1e-9)
        means = [np.mean(values[values > -1]) if (values > -1).any() else None for values in precision[0, :, label].T]
        assert [c.ap50, c.ap50_small, c.ap50_medium, c.ap50_large] == pytest.approx(means, abs=1e-9)
    assert result.figures != evaluate_coco(detections, targets, NUM_CLASSES).figures


def test_masks_that_are_not_there() -> None:
    detections, targets = masked_images(0, 6)
    with_objects = next(image for image in range(6) if len(detections[image]) and len(targets[image]))

    def without(items: list, **changes: object) -> list:
        return [replace(item, **changes) if image == with_objects else item for image, item in enumerate(items)]

    with pytest.raises(ValueError, match=f"detections of image {with_objects}: use a model that predicts masks"):
        evaluate_coco(without(detections, masks=None), targets, NUM_CLASSES, masks=True)
    with pytest.raises(ValueError, match=f"target of image {with_objects}: use a dataset with masks"):
        evaluate_coco(detections, without(targets, masks=None), NUM_CLASSES, masks=True)
    bitmaps = decode(targets[with_objects].masks)
    with pytest.raises(ValueError, match=f"target of image {with_objects}"):
        evaluate_coco(detections, without(targets, masks=bitmaps), NUM_CLASSES, masks=True)
    with pytest.raises(ValueError, match=rf"got \(\d+, \d+\) in the detections of image {with_objects}"):
        evaluate_coco(without(detections, image_size=(7, 9)), targets, NUM_CLASSES, masks=True)


def test_nothing_found_and_nothing_to_find_of_masks() -> None:
    masks = encode(torch.ones(1, 100, 100, dtype=torch.bool))
    box = [0.0, 0.0, 100.0, 100.0]
    detections, target = replace(one_image([0.9], box), masks=masks), Target.make([box], [0], masks=masks)
    assert evaluate_coco([detections], [target], 1, masks=True).figures["APl"] == pytest.approx(1.0)
    assert evaluate_coco([one_image([], box)], [target], 1, masks=True).figures["AP"] == 0.0
    assert set(evaluate_coco([detections], [Target.make()], 1, masks=True).figures.values()) == {None}
    assert set(evaluate_coco([], [], 1, masks=True).figures.values()) == {None}


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


def test_results_with_masks() -> None:
    bitmaps = torch.zeros(2, 20, 30, dtype=torch.uint8)
    bitmaps[0, 2:5, 3:9] = 1
    masks = encode(bitmaps)  # the second has no pixels
    detections = Detections(torch.zeros(2, 4), torch.tensor([0, 1]), torch.tensor([0.9, 0.5]), (20, 30), masks)
    results = to_coco_results([detections], [1], [5, 6])
    assert json.loads(json.dumps(results)) == results
    assert [from_coco(result["segmentation"], (20, 30)) for result in results] == list(masks.counts)
    assert [sorted(result) for result in results] == [["bbox", "category_id", "image_id", "score", "segmentation"]] * 2
    with_contours = to_coco_results([detections], [1], [5, 6], contours=True)
    assert with_contours[0]["segmentation"] == [[3, 2, 9, 2, 9, 5, 3, 5]]
    assert with_contours[1]["segmentation"] == []
    assert json.loads(json.dumps(with_contours)) == with_contours


def test_objects_are_matched_by_masks_where_both_have_them() -> None:
    """Two objects and two detections in the same box, told apart by their masks."""
    bitmaps = torch.zeros(3, 20, 20, dtype=torch.bool)
    bitmaps[0, :10], bitmaps[1, 10:], bitmaps[2, :, :5] = True, True, True
    masks = encode(bitmaps)
    boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0]]).repeat(3, 1)
    target = Target.make(boxes[:2], [0, 0], masks=masks[torch.tensor([1, 0])])
    detections = Detections(boxes, torch.zeros(3).long(), torch.tensor([0.9, 0.8, 0.7]), (20, 20), masks)
    assert match_objects(detections, target).tolist() == [1, 0, FALSE_POSITIVE]
    assert sorted(match_objects(detections, replace(target, masks=None)).tolist()) == [FALSE_POSITIVE, 0, 1]
    crowd = Target.make(boxes[:1], [0], crowd=[True], masks=masks[torch.tensor([0])])
    # Half of the third lies in the crowd.
    assert match_objects(detections, crowd).tolist() == [IGNORED, FALSE_POSITIVE, IGNORED]
    nothing = detections[torch.zeros(0, dtype=torch.int64)]
    assert match_objects(nothing, target).shape == (0,)
    assert match_objects(detections, target[torch.zeros(0, dtype=torch.int64)]).tolist() == [FALSE_POSITIVE] * 3
