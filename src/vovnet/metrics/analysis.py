"""Why accuracy is what it is: errors by kind, average precision by property of the objects, calibration of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vovnet.metrics.calibration import Calibration, calibrate_all, calibrate_class
from vovnet.metrics.errors import ErrorAnalysis, analyse_errors
from vovnet.metrics.properties import Property, evaluate_by_property
from vovnet.metrics.voc import VocResult
from vovnet.structures import Detections, Target


@dataclass(frozen=True)
class Analysis:
    """errors: None without objects. calibration: of all classes. classes: of each, in label order."""

    errors: ErrorAnalysis | None
    properties: tuple[Property, ...]
    calibration: Calibration
    classes: tuple[Calibration, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "errors": self.errors.to_dict() if self.errors else None,
            "by_property": {item.title: item.to_dict() for item in self.properties},
            "calibration": self.calibration.to_dict(),
        }


def analyse(detections: Sequence[Detections], targets: Sequence[Target], voc: VocResult) -> Analysis:
    """The analysis of boxes. voc: the VOC result of the same detections and targets."""
    num_classes = len(voc.classes)
    return Analysis(
        analyse_errors(detections, targets, num_classes),
        evaluate_by_property(detections, targets, num_classes),
        calibrate_all(voc),
        tuple(map(calibrate_class, voc.classes)),
    )
