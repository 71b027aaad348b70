"""Kinds of errors by hand: one false positive or missed object at a time."""

from __future__ import annotations

import pytest

from vovnet.metrics.errors import ErrorAnalysis, analyse_errors
from vovnet.structures import Detections, Target

from .made import detections_of

OBJECT, OTHER, FREE = [0, 0, 100, 100], [120, 120, 160, 160], [110, 0, 120, 20]
FOUND = (OTHER, 0, 0.5)  # a right detection behind the one in question
TARGET = Target.make([OBJECT, OTHER], [0, 0])


def part(share: float) -> list[float]:
    """A box that has this IoU with OBJECT."""
    return [0, 0, 100, 100 * share]


def analyse(detections: Detections, target: Target = TARGET) -> ErrorAnalysis:
    analysis = analyse_errors([detections], [target], 2)
    assert analysis is not None
    return analysis


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ((part(0.4), 0, 0.9), {"location": 1}),
        ((part(0.1), 0, 0.9), {"location": 1}),
        ((part(0.09), 0, 0.9), {"background": 1, "missed": 1}),
        ((FREE, 0, 0.9), {"background": 1, "missed": 1}),
        ((OBJECT, 1, 0.9), {"class": 1}),
        ((part(0.4), 1, 0.9), {"class_and_location": 1, "missed": 1}),
        ((part(0.5), 0, 0.9), {}),
    ],
)
def test_each_kind(item: tuple[list[float], int, float], expected: dict[str, int]) -> None:
    analysis = analyse(detections_of(item, FOUND))
    assert {kind.name: kind.count for kind in analysis.kinds if kind.count} == expected


def test_duplicate_and_missed() -> None:
    twice = analyse(detections_of((OBJECT, 0, 0.9), (part(0.9), 0, 0.8), FOUND))
    assert {kind.name: kind.count for kind in twice.kinds if kind.count} == {"duplicate": 1}
    missed = analyse(detections_of(FOUND))
    assert {kind.name: kind.count for kind in missed.kinds if kind.count} == {"missed": 1}


def test_a_place_comes_before_a_class() -> None:
    """It overlaps an object of its class by 0.3 and one of another by 0.6."""
    target = Target.make([part(0.3), part(0.6), OTHER], [0, 1, 0])
    kinds = {kind.name: kind.count for kind in analyse(detections_of((OBJECT, 0, 0.9), FOUND), target).kinds}
    assert (kinds["location"], kinds["class"]) == (1, 0)


def test_what_each_kind_costs() -> None:
    """AP50 with its 101 recall levels: of two objects the second is found, behind what is wrong."""
    half = 51 / 101  # recall 0.5 is reached by 51 of the levels
    background = analyse(detections_of((FREE, 0, 0.9), (OBJECT, 0, 0.6), FOUND))
    costs = {kind.name: kind.lost_ap for kind in background.kinds if kind.count}
    assert background.ap50 == pytest.approx(2 / 3)
    assert costs == {"background": pytest.approx(1 / 3)}
    assert background.largest.name == "background"
    assert (background.lost_to_false_positives, background.lost_to_missed) == (pytest.approx(1 / 3), 0)

    location = analyse(detections_of((part(0.4), 0, 0.9), FOUND))
    assert location.ap50 == pytest.approx(half / 2)
    assert location.largest.lost_ap == pytest.approx(1 - half / 2)  # in its place it would find the object
    missed = analyse(detections_of(FOUND))
    assert missed.ap50 == pytest.approx(half)
    assert missed.largest.lost_ap == pytest.approx(1 - half) == missed.lost_to_missed
    assert missed.to_dict()["kinds"]["missed"] == {"count": 1, "lost_ap": missed.largest.lost_ap}


@pytest.mark.parametrize("flags", [{"difficult": [True, False]}, {"crowd": [True, False]}])
def test_ignored_objects(flags: dict[str, list[bool]]) -> None:
    """Found or not, they are no error."""
    target = Target.make([OBJECT, OTHER], [0, 0], **flags)
    for items in ([(OBJECT, 0, 0.9), FOUND], [FOUND]):
        analysis = analyse(detections_of(*items), target)
        assert not any(kind.count for kind in analysis.kinds)


def test_nothing_to_analyse() -> None:
    assert analyse_errors([detections_of((OBJECT, 0, 0.9))], [Target.make([OBJECT], [0], crowd=[True])], 1) is None
    assert analyse_errors([], [], 1) is None
