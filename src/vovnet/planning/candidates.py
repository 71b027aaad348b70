"""The detectors that a plan chooses from, with the recipe that each has been trained with from random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BATCH_SIZE = 8
"""Images per step in all recipes: the learning rates were tried with it."""


@dataclass(frozen=True)
class Candidate:
    """A detector and how it is trained.

    input_side: of its square input, in pixels.
    learning_rate: of a batch of `BATCH_SIZE`.
    least_images: below so many training images, counted once per epoch, a smaller detector learns more.
    least_dataset: it is considered only with at least so many different training images.
    for_small_objects: whether it is considered only where most objects are small.
    metric: by which its best weights were chosen.
    usual_images: that a run without a limit of time sees, counted once per epoch.
    evidence: where the recipe was tried.
    """

    model: str
    input_side: int
    learning_rate: float
    least_images: int
    evidence: str
    options: Mapping[str, Any] = field(default_factory=dict)
    least_dataset: int = 0
    for_small_objects: bool = False
    metric: str = "voc07_map"
    usual_images: int = 12_300  # 60 epochs of the 205 images of blood cells


# With 205 images of blood cells the small detector is more accurate than one with three times its parameters. From how
# many images on that changes has not been measured.
_MANY = 1000

CANDIDATES = (
    Candidate(
        "ssdfpn320_vovnet19_tiny",
        320,
        0.05,
        0,
        "trained on blood cells: VOC07 mAP 0.877, COCO AP 0.606",
        metric="coco_ap",
        usual_images=24_600,
    ),
    Candidate(
        "dsod300_vovnet27_slim",
        300,
        0.05,
        6000,  # VOC07 mAP 0.850 on blood cells after 15 epochs of 205 images, 0.859 after 30
        "trained on blood cells: VOC07 mAP 0.865, COCO AP 0.573",
        {"anchors": "coco"},
        least_dataset=_MANY,
    ),
    Candidate(
        "refinedet512_vovnet27_slim",
        512,
        0.01,
        6000,  # RefineDet320 on blood cells: 0.855 after 15 epochs of 205 images, 0.872 after 30
        "RefineDet320 with this recipe: VOC07 mAP 0.869 on blood cells",
        {"width": 128},
        for_small_objects=True,
    ),
)
"""From the fastest to the most accurate."""

FINE_TUNING = 0.2
"""Part of the learning rate for a detector that starts from trained weights."""

SMALL_SIDE = 20.0
"""Objects are small if their median √area is less than this many pixels in an input of 300 pixels."""


def find_candidate(model: str) -> Candidate | None:
    return next((candidate for candidate in CANDIDATES if candidate.model == model), None)
