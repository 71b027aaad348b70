"""The options of a prediction: what each may be, and which detections they keep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vovnet.errors import listed, nearest
from vovnet.printing import quoted
from vovnet.runtime.thresholds import ScoreThreshold

# Defaults of a prediction. A model's own defaults keep low scores too, which average precision needs.
SCORE_THRESHOLD, TOP_K, BATCH_SIZE = 0.3, 100, 8


@dataclass(frozen=True)
class Selection:
    """Which detections of an image are kept: of those above the threshold of their class, the best.

    top_k: most detections of an image.
    """

    score_threshold: ScoreThreshold
    top_k: int


def select_by(
    *,
    score_threshold: float | None,
    stored: Sequence[float] | None,
    top_k: int,
    classes: str | int | Sequence[str | int] | None,
    class_names: Sequence[str],
) -> Selection:
    """The selection that the options of a prediction ask for. Raises ValueError as `labels_of`.

    score_threshold: for all classes; None is `stored`, those that came with the detector, and 0.3 without any.
    """
    if score_threshold is None and stored is not None:
        thresholds = tuple(stored)
    else:
        thresholds = (SCORE_THRESHOLD if score_threshold is None else score_threshold,) * len(class_names)
    if classes is not None:
        wanted = set(labels_of(classes, class_names))
        thresholds = tuple(value if label in wanted else math.inf for label, value in enumerate(thresholds))
    return Selection(thresholds[0] if len(set(thresholds)) == 1 else thresholds, top_k)


def check_options(score_threshold: float | None, top_k: int, batch_size: int) -> None:
    """Raises ValueError for a value out of range."""
    if score_threshold is not None and not 0 <= score_threshold <= 1:
        raise ValueError(f"score_threshold must lie in 0…1, got {score_threshold}")
    if top_k < 1 or batch_size < 1:
        raise ValueError(f"top_k and batch_size must be at least 1, got {top_k} and {batch_size}")


def labels_of(classes: str | int | Sequence[str | int], class_names: Sequence[str]) -> list[int]:
    """The labels of `classes`, which are names or labels. Raises ValueError with the nearest name."""
    chosen = [classes] if isinstance(classes, str | int) else list(classes)
    if not chosen:
        raise ValueError(f"classes must name at least one of {listed(class_names)}")
    labels: dict[str | int, int] = {label: label for label in range(len(class_names))}
    labels |= {name: label for label, name in enumerate(class_names)}
    for item in chosen:
        if item not in labels and isinstance(item, str):
            names = {name.lower(): name for name in class_names}
            near = nearest(item.lower(), names, cutoff=0)
            hint = "there are" if near is None else f"nearest is {quoted(names[near])} of"
            raise ValueError(f"no class {quoted(item)}; {hint} {listed(class_names)}")
        if item not in labels:
            raise ValueError(f"labels of classes go from 0 to {len(class_names) - 1}, got {item}")
    return [labels[item] for item in chosen]


def shown_thresholds(stored: Sequence[float], class_names: Sequence[str]) -> str:
    """One sentence on the thresholds that came with a detector and are used."""
    pairs = [f"{name} {value:g}" for name, value in zip(class_names, stored, strict=True)]
    return f"score thresholds, stored with the detector: {listed(pairs, 10)}; --score-threshold gives one for all"
