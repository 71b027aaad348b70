"""What the gate found, for people, programs and the exported file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vovnet.export.parity import Parity


@dataclass(frozen=True, kw_only=True)
class AccuracyChange:
    """A metric of the PyTorch model and of the exported file, each from image files to detections. Fractions."""

    metric: str
    before: float
    after: float

    @property
    def drop(self) -> float:
        return self.before - self.after


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """The verdict on an exported file, and what it rests on.

    reasons: why it did not pass; empty if it passed.
    weights: as the user named them.
    data, split: the name of the folder of the images and their split; None for the images that ship with vovnet.
    calibration_images: on which the ranges of int8 rest; none of them is among `images`.
    threshold: lowest score that `parity` compares.
    exact: whether `parity` decides: in float32. Else it informs, and accuracy decides.
    max_drop: largest drop of a metric that passes.
    blank_boxes: how many boxes PyTorch finds in the image without objects; 0 if the trial showed only that the file
        finds nothing there either, None if it failed.
    ms_before, ms_after: median time of one resized image to its boxes, in turn with the other, on a machine that may do
        other things: rough.
    bytes_before, bytes_after: of the weights in memory, and of the exported file or folder.
    threads: CPU threads; None is the choice of each runtime.
    instruction_set: of the processor that judged; int8 may compute otherwise on another.
    """

    passed: bool
    reasons: tuple[str, ...]
    weights: str
    detector: str
    weights_sha256: str
    runtime: str
    precision: str
    data: str | None
    split: str | None
    images: int
    calibration_images: int
    threshold: float
    exact: bool
    parity: Parity
    accuracy: tuple[AccuracyChange, ...]
    max_drop: float
    blank_boxes: int | None
    ms_before: float | None
    ms_after: float | None
    bytes_before: int
    bytes_after: int
    threads: int | None
    instruction_set: str
    machine: str
    versions: Mapping[str, str]
    date: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        changes = [asdict(change) | {"drop": change.drop} for change in self.accuracy]
        return asdict(self) | {"reasons": list(self.reasons), "accuracy": changes}

    def summary(self) -> dict[str, Any]:
        """What the exported file says of its test: no folder of this machine is named."""
        return {
            "date": self.date,
            "data": self.data,
            "split": self.split,
            "images": self.images,
            "compared": self.parity.compared,
            "worst_score": self.parity.worst_score,
            "worst_iou": self.parity.worst_iou,
            "accuracy": {change.metric: [change.before, change.after] for change in self.accuracy},
            "runtime": self.runtime,
            "instruction_set": self.instruction_set,
            "machine": self.machine,
        }
