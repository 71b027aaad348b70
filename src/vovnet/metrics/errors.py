"""What average precision is lost to: TIDE's six kinds of errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vovnet.metrics.coco import make_evaluation
from vovnet.metrics.inputs import IOU_THRESHOLD
from vovnet.structures import Detections, Target

BACKGROUND_IOU = 0.1
# Our name of each kind, and hotcoco's.
_KINDS = {
    "class": "Cls",
    "location": "Loc",
    "class_and_location": "Both",
    "duplicate": "Dupe",
    "background": "Bkg",
    "missed": "Miss",
}


@dataclass(frozen=True)
class ErrorKind:
    """One kind of errors. count: how many there are. lost_ap: by how much AP50 would rise without them, alone."""

    name: str
    count: int
    lost_ap: float


@dataclass(frozen=True)
class ErrorAnalysis:
    """AP50, and the kinds of errors that keep it below 1.

    lost_to_false_positives, lost_to_missed: by how much AP50 would rise without false positives, and without missed
        objects, of all kinds together.
    """

    ap50: float
    kinds: tuple[ErrorKind, ...]
    lost_to_false_positives: float
    lost_to_missed: float

    @property
    def largest(self) -> ErrorKind:
        return max(self.kinds, key=lambda kind: kind.lost_ap)

    def to_dict(self) -> dict[str, Any]:
        return {
            "ap50": self.ap50,
            "kinds": {kind.name: {"count": kind.count, "lost_ap": kind.lost_ap} for kind in self.kinds},
            "lost_to_false_positives": self.lost_to_false_positives,
            "lost_to_missed": self.lost_to_missed,
        }


def analyse_errors(
    detections: Sequence[Detections], targets: Sequence[Target], num_classes: int
) -> ErrorAnalysis | None:
    """TIDE's error analysis of boxes by hotcoco; None if there is no object to detect.

    Each false positive at IoU 0.5 is an error of one kind, the first that holds: "location": an object of its class
    overlaps it by 0.1 to 0.5. "class": an object of another class overlaps it by at least 0.5. "duplicate": an object
    of its class does, and is found by a better detection. "background": no object overlaps it by 0.1.
    "class_and_location": the rest. "missed": objects that are neither found nor the object of a class or location
    error. Difficult objects and crowds are ignored, as by COCO.

    Source: Bolya et al., TIDE, ECCV 2020.
    """
    if not any(bool((~(target.difficult | target.crowd)).any()) for target in targets):
        return None
    evaluation = make_evaluation(detections, targets, num_classes)
    evaluation.evaluate()
    found = evaluation.tide_errors(pos_thr=IOU_THRESHOLD, bg_thr=BACKGROUND_IOU)
    lost, counts = found["delta_ap"], found["counts"]
    return ErrorAnalysis(
        float(found["ap_base"]),
        tuple(ErrorKind(name, int(counts[key]), float(lost[key])) for name, key in _KINDS.items()),
        float(lost["FP"]),
        float(lost["FN"]),
    )
