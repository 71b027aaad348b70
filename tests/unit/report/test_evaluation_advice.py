"""Each sentence follows from the numbers: one evaluation for each loss."""

from __future__ import annotations

import re

import pytest

from vovnet.engine.evaluate import Evaluation
from vovnet.report import evaluation_advice as advice
from vovnet.structures import Detections, Target

from ..metrics.made import detections_of, random_scene
from .evaluated import evaluated

NAMES = ("cat", "dog")
OBJECT, OTHER, FREE = [0, 0, 100, 100], [120, 120, 160, 160], [110, 0, 150, 40]
SMALL = [[float(x), 0, x + 10.0, 10] for x in range(0, 60, 20)]


def lost(items: list[tuple[list[float], int, float]], boxes: list[list[float]], labels: list[int]) -> str:
    return advice.on_losses(evaluated([detections_of(*items)], [Target.make(boxes, labels)], NAMES))


def test_missed_small_objects() -> None:
    text = lost([(OBJECT, 0, 0.9)], [OBJECT, *SMALL], [0] * 4)
    assert text == (
        "Most is lost to objects that are not found: without them AP50 would be 1.000 instead of 0.257. 3 of 3 "
        "objects that no score finds are small: try tiles (`--tiles`), or a detector with a larger input."
    )


def test_missed_objects_of_an_odd_shape_and_of_none() -> None:
    wide = [[0.0, y, 150, y + 30.0] for y in (0, 60, 120)]
    assert "3 of 3 objects that no score finds are very wide: try default boxes that fit the data" in lost(
        [], wide, [0] * 3
    )
    squares = [[0.0, 0, 60, 60], [100.0, 0, 170, 70]]
    assert lost([], squares, [0, 0]) == (
        "AP50 is 0.000. No score finds 2 objects: train longer, and label more images like the worst ones."
    )


def test_false_positives() -> None:
    text = lost([(FREE, 1, 0.9), (OBJECT, 1, 0.6), (OTHER, 0, 0.5)], [OBJECT, OTHER], [1, 0])
    assert text.startswith(
        "Most is lost to detections where there is no object: without them AP50 would be 1.000 instead"
    )
    assert "Scores of at least 0.5 have 1 false positive, 1 of them dog" in text


def test_wrong_class() -> None:
    text = lost([(OBJECT, 1, 0.9), (OTHER, 1, 0.5)], [OBJECT, OTHER], [0, 1])
    assert text.startswith("Most is lost to objects that are found as another class")
    assert text.endswith(
        "Most often cat is taken for dog, 1 time: check the labels of both, and train with more of them."
    )


def test_wrong_place() -> None:
    text = lost([([0, 0, 100, 40], 0, 0.9), (OTHER, 0, 0.5)], [OBJECT, OTHER], [0, 0])
    assert text.startswith("Most is lost to boxes that are not quite in place")
    assert "At IoU 0.75 the AP is 0.252: train longer" in text


def test_duplicates() -> None:
    text = lost([(OBJECT, 0, 0.9), (OBJECT, 0, 0.8), (OTHER, 0, 0.5)], [OBJECT, OTHER], [0, 0])
    assert text.startswith("Most is lost to objects that are found twice")
    assert text.endswith("There is 1: `vovnet data check` finds objects that are labelled twice.")


def test_nothing_is_lost_and_nothing_there() -> None:
    assert lost([(OBJECT, 0, 0.9)], [OBJECT], [0]) == (
        "No kind of error costs more than 0.005 of AP50, which is 1.000."
    )
    nothing = evaluated([detections_of()], [Target.make()], NAMES)
    assert advice.on_losses(nothing) == "There is no object to find, so nothing can be lost."
    assert advice.on_classes(nothing) == "No class has objects."
    assert advice.on_thresholds(nothing).startswith("No class has a best threshold")
    assert advice.on_calibration(nothing.analysis.calibration).startswith("No bin has 50 detections")
    for item in nothing.analysis.properties:
        assert advice.on_property(item) == "Fewer than two groups have at least 20 objects, too few to compare them."


def test_thresholds() -> None:
    items = [(OBJECT, 0, 0.9), (FREE, 0, 0.4)]
    gained = evaluated([detections_of(*items)], [Target.make([OBJECT], [0])], NAMES)
    assert advice.on_thresholds(gained).startswith(
        "The mean F1 of the classes is 1.000 at their best thresholds and 0.667 at 0.3, the default. Predictions use "
        "the best thresholds once they are stored in the weights: `vovnet train DIR` stores those of val"
    )
    same = evaluated([detections_of(*items[:1])], [Target.make([OBJECT], [0])], NAMES)
    assert advice.on_thresholds(same).endswith("and 1.000 at 0.3, the default, which is as good.")


def many(small_found: bool) -> Evaluation:
    """Twenty-five images of a small and a large object."""
    small, large = [0, 0, 20, 20], [50, 50, 190, 190]
    items = [(large, 0, 0.9), *([(small, 0, 0.8)] if small_found else [])]
    return evaluated([detections_of(*items)] * 25, [Target.make([small, large], [0, 0])] * 25, NAMES)


def test_properties() -> None:
    size, shape, _ = many(small_found=False).analysis.properties
    assert advice.on_property(size) == (
        "AP50 is 0.000 for small objects and 1.000 for large objects: try tiles (`--tiles`), or a detector with a "
        "larger input."
    )
    assert advice.on_property(shape).startswith("Fewer than two groups")
    size, _, _ = many(small_found=True).analysis.properties
    assert advice.on_property(size) == "AP50 is 1.000 for all groups of at least 20 objects."


def test_calibration() -> None:
    text = advice.on_calibration(many(small_found=True).analysis.calibration)
    assert "scores of 0.8 to 0.9, which promise too little: 100% of those 50 detections are right." in text
    detections: list[Detections] = [detections_of((FREE, 0, 0.85), (OBJECT, 0, 0.8))] * 40
    over = evaluated(detections, [Target.make([OBJECT], [0])] * 40, NAMES)
    assert advice.on_calibration(over.analysis.calibration) == (
        "The expected calibration error is 0.325 in 10 bins. It is largest for scores of 0.8 to 0.9, which promise too "
        "much: 50% of those 80 detections are right."
    )


@pytest.mark.parametrize("seed", range(5))
def test_numbers_of_the_confusion(seed: int) -> None:
    detections, targets = random_scene(seed)
    evaluation = evaluated(detections, targets, ("a", "b", "c"))
    numbers = [
        int(text.replace(",", ""))
        for text in re.findall(r"(?<![.\d])\d[\d,]*(?![.\d])", advice.on_confusion(evaluation))
    ]
    missed, false, confused = evaluation.errors.sum(axis=0).tolist()
    assert numbers[:4] == [missed, evaluation.confusion[:-1].sum(), confused, false + 0]
