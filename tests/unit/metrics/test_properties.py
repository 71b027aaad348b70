"""Average precision by size, shape and neighbours, against plain loops over COCO's rules."""

from __future__ import annotations

import numpy as np
import pytest

from vovnet.metrics.coco import evaluate_coco
from vovnet.metrics.properties import NEIGHBOURS, SHAPES, SIZES, evaluate_by_property
from vovnet.structures import Detections, Target

from .made import detections_of, random_scene

Box = list[float]


def overlap(first: Box, second: Box) -> float:
    """Area of the intersection."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return width * height if width > 0 and height > 0 else 0.0


def area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def groups_of(title: str, box: Box, others: list[Box]) -> list[str]:
    """The groups of a box. others: the objects of its image that count, its own among them if it is one."""
    if title == "size":
        return [name for name, (low, high) in SIZES.items() if low <= area(box) <= high]
    if title == "shape":
        ratio = (box[2] - box[0]) / (box[3] - box[1])
        return [SHAPES[sum(ratio > limit for limit in (0.5, 0.8, 1.25, 2.0))]]
    count = sum(overlap(box, other) > 0 for other in others)
    return [NEIGHBOURS[min(3, max(0, count - 1))]]


def plain_ap(
    detections: list[Detections], targets: list[Target], label: int, title: str, group: str, iou: float
) -> float | None:
    """COCO's matching in loops: (score, counts for, counts against) of each detection, then 101 recall levels."""
    found: list[tuple[float, bool]] = []
    total = 0
    for item, target in zip(detections, targets, strict=True):
        excluded = (target.difficult | target.crowd).tolist()
        every = [box for box, out in zip(target.boxes.tolist(), excluded, strict=True) if not out]
        objects = []
        for box, own, out in zip(target.boxes.tolist(), target.labels.tolist(), excluded, strict=True):
            if own == label:
                objects.append((box, out, out or group not in groups_of(title, box, every)))
        total += sum(not ignored for _, _, ignored in objects)
        objects.sort(key=lambda row: row[2])  # those that count first
        taken: set[int] = set()
        rows = [row for row in zip(item.scores.tolist(), item.boxes.tolist(), item.labels.tolist(), strict=True)]
        own_rows = sorted((row for row in rows if row[2] == label), key=lambda row: -row[0])
        for score, box, _ in own_rows:
            best, chosen = min(iou, 1 - 1e-10), -1
            for number, (other, crowd, ignored) in enumerate(objects):
                if number in taken and not crowd:
                    continue
                if chosen >= 0 and not objects[chosen][2] and ignored:
                    break
                shared = overlap(box, other)
                value = shared / (area(box) if crowd else area(box) + area(other) - shared)
                if value >= best:
                    best, chosen = value, number
            if chosen >= 0:
                taken.add(chosen)
                if not objects[chosen][2]:
                    found.append((score, True))
            elif group in groups_of(title, box, every):
                found.append((score, False))
    if not total:
        return None
    found.sort(key=lambda row: -row[0])
    right = np.cumsum([hit for _, hit in found]) if found else np.zeros(0)
    precision = right / np.arange(1, len(found) + 1)
    levels = []
    for level in np.linspace(0, 1, 101):
        reached = precision[right / total >= level - 1e-12] if len(found) else precision
        levels.append(reached.max() if len(reached) else 0.0)
    return float(np.mean(levels))


@pytest.mark.parametrize("seed", range(8))
def test_against_plain_loops(seed: int) -> None:
    detections, targets = random_scene(seed)
    for item in evaluate_by_property(detections, targets, 3):
        for group in item.groups:
            values = [plain_ap(detections, targets, label, item.title, group.name, 0.5) for label in range(3)]
            defined = [value for value in values if value is not None]
            expected = np.mean(defined) if defined else None
            assert group.ap50 == (None if expected is None else pytest.approx(expected)), (item.title, group.name)


@pytest.mark.parametrize("seed", range(8))
def test_groups_add_up(seed: int) -> None:
    detections, targets = random_scene(seed)
    objects = sum(int((~(target.difficult | target.crowd)).sum()) for target in targets)
    size, shape, neighbours = evaluate_by_property(detections, targets, 3)
    for item in (shape, neighbours):
        assert sum(group.objects for group in item.groups) == objects
    assert all(0 <= group.missed <= group.objects for item in (size, shape, neighbours) for group in item.groups)
    assert all((group.ap is None) == (group.objects == 0) for group in size.groups)


@pytest.mark.parametrize("seed", range(4))
def test_sizes_are_those_of_coco(seed: int) -> None:
    detections, targets = random_scene(seed)
    figures = evaluate_coco(detections, targets, 3).figures
    size, _, _ = evaluate_by_property(detections, targets, 3)
    for group, name in zip(size.groups, ("APs", "APm", "APl"), strict=True):
        assert group.ap == (None if figures[name] is None else pytest.approx(figures[name]))


def test_by_hand() -> None:
    """A square alone, which is found; a wide object over a tall one, of which one is missed; a small false positive."""
    square, wide, tall = [0, 0, 40, 40], [60, 60, 180, 90], [100, 50, 120, 130]
    target = Target.make([square, wide, tall], [0, 0, 0])
    items = [(square, 0, 0.9), ([150, 0, 160, 10], 0, 0.8), (tall, 0, 0.7)]
    size, shape, neighbours = evaluate_by_property([detections_of(*items)], [target], 1)
    assert [(group.objects, group.missed, group.ap50) for group in size.groups] == [
        (0, 0, None),
        (3, 1, pytest.approx(67 / 101)),  # two of three; the false positive is small
        (0, 0, None),
    ]
    assert {group.name: (group.objects, group.missed) for group in shape.groups if group.objects} == {
        "very tall": (1, 0),
        "square": (1, 0),
        "very wide": (1, 1),
    }
    values = {group.name: group.ap50 for group in shape.groups}
    assert [values[name] for name in ("very tall", "square", "very wide")] == pytest.approx([1, 1, 0])
    assert [(group.objects, group.missed) for group in neighbours.groups] == [(1, 0), (2, 1), (0, 0), (0, 0)]
    assert [group.is_few for group in neighbours.groups] == [True] * 4


def test_a_second_detection_of_a_crowded_place() -> None:
    """An unmatched detection counts by its own neighbours: this one overlaps two objects, so it has one besides."""
    first, second = [0, 0, 40, 40], [30, 0, 70, 40]
    items = [([15, 0, 55, 40], 0, 0.9), (first, 0, 0.8), (second, 0, 0.7)]
    *_, neighbours = evaluate_by_property([detections_of(*items)], [Target.make([first, second], [0, 0])], 1)
    assert [group.ap50 for group in neighbours.groups[:2]] == [None, pytest.approx(2 / 3)]


def test_nothing() -> None:
    for item in evaluate_by_property([], [], 2):
        assert [(group.objects, group.ap) for group in item.groups] == [(0, None)] * len(item.groups)
