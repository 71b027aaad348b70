"""The same pictures by several detectors: what each of them draws, finds, misses and gets wrong.

Classes go by their names: one that several detectors know has one colour in all columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from vovnet.engine.detector import Detector
from vovnet.engine.drawing import draw_detections, draw_target
from vovnet.masks import RleMasks, decode, encode
from vovnet.structures import Detections, Target

if TYPE_CHECKING:
    from PIL.Image import Image

Item = TypeVar("Item", Detections, Target)
PANEL_SIZE = 640  # pixels of a panel's longer side


@dataclass(frozen=True)
class Tally:
    """How many of each class there are; missed and wrong are what is marked "missed" and "?", None where nothing is."""

    classes: Counter[str]
    missed: int | None = None
    wrong: int | None = None

    @property
    def found(self) -> int:
        return self.classes.total()

    def to_dict(self) -> dict[str, Any]:
        return {"found": self.found, "classes": dict(self.classes), "missed": self.missed, "wrong": self.wrong}


@dataclass(frozen=True)
class Column:
    """weights: as the user named them, None for the ground truth."""

    name: str
    weights: str | None

    def caption(self, tally: Tally) -> str:
        """ "18 detections, 1 missed, 2 wrong"."""
        thing = "object" if self.weights is None else "detection"
        counts = [f"{tally.found} {thing}{'' if tally.found == 1 else 's'}"]
        counts += [] if tally.missed is None else [f"{tally.missed} missed"]
        return ", ".join(counts + ([] if tally.wrong is None else [f"{tally.wrong} wrong"]))


@dataclass(frozen=True)
class Panel:
    """One picture as one column shows it."""

    drawn: Image
    tally: Tally


@dataclass(frozen=True)
class Row:
    """One picture as all columns show it; `source` leads to it, `name` is what it is called in the comparison."""

    name: str
    source: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Comparison:
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    score_threshold: float

    def totals(self) -> list[Tally]:
        """Of each column over all pictures."""
        return [_sum([row.panels[place].tally for row in self.rows]) for place in range(len(self.columns))]

    def to_dict(self) -> dict[str, Any]:
        """All but the pixels, ready for JSON; the tallies of a picture in the order of the columns."""
        totals = zip(self.columns, self.totals(), strict=True)
        return {
            "score_threshold": self.score_threshold,
            "columns": [{"name": one.name, "weights": one.weights, **total.to_dict()} for one, total in totals],
            "pictures": [
                {"source": row.source, "columns": [panel.tally.to_dict() for panel in row.panels]} for row in self.rows
            ],
        }


def _sum(tallies: Sequence[Tally]) -> Tally:
    missed = [tally.missed for tally in tallies if tally.missed is not None]
    wrong = [tally.wrong for tally in tallies if tally.wrong is not None]
    classes = sum((tally.classes for tally in tallies), Counter[str]())
    return Tally(classes, sum(missed) if missed else None, sum(wrong) if wrong else None)


@dataclass
class Drawer:
    """Draws a picture as every column shows it.

    truth_names: classes of the ground truth, which is then the first column. A detector with just these classes, in
    any order, has its mistakes marked.
    """

    detectors: Sequence[Detector]
    truth_names: Sequence[str] | None = None
    score_threshold: float = 0.6
    top_k: int = 100
    class_names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        lists = [self.truth_names or (), *(detector.class_names for detector in self.detectors)]
        self.class_names = tuple(dict.fromkeys(name for names in lists for name in names))

    def marks_mistakes(self, detector: Detector) -> bool:
        return self.truth_names is not None and set(detector.class_names) == set(self.truth_names)

    def draw(self, image: Tensor, target: Target | None = None) -> tuple[Panel, ...]:
        """image: uint8 RGB (3, H, W); target: its objects, needed where there is ground truth."""
        panels = [] if self.truth_names is None else [self._draw_truth(image, target)]
        for detector in self.detectors:
            panels.append(self._draw_found(detector, image, target if self.marks_mistakes(detector) else None))
        return tuple(panels)

    def _draw_truth(self, image: Tensor, target: Target | None) -> Panel:
        if target is None:
            raise ValueError("expected the objects of the picture for the column of ground truth, got none")
        times = _times_larger(image)
        drawn = draw_target(_larger_image(image, times), _larger(target, times), self.class_names)
        return Panel(_to_panel(drawn), Tally(Counter(self.class_names[label] for label in target.labels.tolist())))

    def _draw_found(self, detector: Detector, image: Tensor, target: Target | None) -> Panel:
        prediction = detector.predict(image, score_threshold=self.score_threshold, top_k=self.top_k)
        ours = torch.tensor([self.class_names.index(name) for name in detector.class_names])
        found = Detections(
            prediction.boxes, ours[prediction.labels], prediction.scores, prediction.image_size, prediction.masks
        )
        mistakes = (None, None) if target is None else _mistakes(found, target)
        times = _times_larger(image)
        drawn = draw_detections(
            _larger_image(image, times),
            _larger(found, times),
            self.class_names,
            target=None if target is None else _larger(target, times),
        )
        return Panel(_to_panel(drawn), Tally(Counter(prediction.names), *mistakes))


def _mistakes(found: Detections, target: Target) -> tuple[int, int]:
    """The numbers of "missed" and "?" that `draw_detections` writes."""
    from vovnet.metrics.confusion import image_errors

    missed, false_alarms, confused = image_errors([found], [target], score_threshold=0)[0].tolist()
    return missed + confused, false_alarms + confused


def _times_larger(image: Tensor) -> int:
    """How many times larger a picture is drawn, so that it fills its panel and lines and names come out sharp; a whole
    number, by which boxes and masks can be multiplied without any change of their overlaps."""
    return -(-PANEL_SIZE // max(image.shape[1:]))


def _larger_image(image: Tensor, times: int) -> Tensor:
    if times == 1:
        return image
    size = [side * times for side in image.shape[1:]]
    return F.resize(image, size, interpolation=F.InterpolationMode.BICUBIC)


def _larger(item: Item, times: int) -> Item:
    masks = item.masks
    if times == 1:
        return item
    if isinstance(masks, RleMasks):
        masks = encode(decode(masks).repeat_interleave(times, dim=1).repeat_interleave(times, dim=2))
    return replace(item, boxes=item.boxes * times, masks=masks)


def _to_panel(drawn: Tensor) -> Image:
    height, width = drawn.shape[1:]
    scale = PANEL_SIZE / max(height, width)
    picture: Image = F.to_pil_image(drawn)
    return picture.resize((max(1, round(width * scale)), max(1, round(height * scale))), reducing_gap=3.0)
