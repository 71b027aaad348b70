"""The options of a prediction: what each may be."""

from __future__ import annotations

from collections.abc import Sequence

from vovnet.errors import listed, nearest
from vovnet.printing import quoted

# Defaults of a prediction. A model's own defaults keep low scores too, which average precision needs.
SCORE_THRESHOLD, TOP_K, BATCH_SIZE = 0.3, 100, 8


def check_options(score_threshold: float, top_k: int, batch_size: int) -> None:
    """Raises ValueError for a value out of range."""
    if not 0 <= score_threshold <= 1:
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
