"""Whether a checkpoint is whole: it may be damaged, or somebody else's, and a run must not end in a traceback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from vovnet.printing import line, quoted
from vovnet.weights.metadata import Checkpoint, Metadata, Pairs, validated

_Count = Annotated[int, Field(strict=True, ge=0, lt=2**62)]
_Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Text = Annotated[str, Field(max_length=1000)]
_FREE = {"lr", "params", "foreach", "fused", "capturable"}  # of a group: set in every step, or without effect


class _Window(Metadata):
    count: _Count
    sums: dict[_Text, Annotated[float, Field(allow_inf_nan=False)]]


class OptimizerState(Metadata):
    state: dict[int, dict[str, Any]]
    param_groups: list[dict[str, Any]]


class _Checkpoint(Checkpoint):
    """What `TrainState.save` writes; older checkpoints lack those with a default."""

    optimizer: OptimizerState
    scaler: dict[str, float]
    step: _Count
    best: _Score | None
    best_step: _Count | None
    stopped_step: _Count | None = None
    last: _Score | None = None
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    default_boxes: Pairs | None = None
    window: _Window
    images: _Text


def check_checkpoint(checkpoint: Mapping[str, Any], path: Path) -> None:
    """ValueError that names the file unless all parts of a checkpoint are there, of the right type and finite."""
    parts = validated(_Checkpoint, checkpoint, lambda reason: damaged(path, reason))
    if bool(parts.window.count) != bool(parts.window.sums):
        raise damaged(path, "its sums of losses have no count")
    for name, tensor in {**parts.model, **(parts.ema or {})}.items():
        if not _is_finite(tensor):
            raise damaged(path, f"the weights {quoted(name, 60)} are not finite")


def check_optimizer(stated: Mapping[str, Any], optimizer: torch.optim.Optimizer, path: Path) -> None:
    """ValueError unless the state of an optimizer fits this one: its groups, their settings, and all shapes."""
    for problem in _misfits(stated, optimizer):
        raise damaged(path, f"its optimizer state {problem}")


def _misfits(stated: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> Iterator[str]:
    own, theirs = optimizer.state_dict()["param_groups"], stated["param_groups"]
    if [group["params"] for group in own] != [group.get("params") for group in theirs]:
        yield "is of other parameters"
        return
    for ours, other in zip(own, theirs, strict=True):
        for key in ours.keys() & other.keys() - _FREE:
            if type(other[key]) not in (bool, int, float, type(ours[key])) or ours[key] != other[key]:
                yield f"has other settings ({key} is {quoted(other[key], 40)}, expected {quoted(ours[key], 40)})"
    shapes = dict(enumerate(p.shape for group in optimizer.param_groups for p in group["params"]))
    needed = {"step", "square_avg"} if isinstance(optimizer, torch.optim.RMSprop) else set()
    for index, values in stated["state"].items():
        if index not in shapes:
            yield f"is of a parameter {quoted(index, 30)} that is not there"
        elif needed - values.keys():
            yield f"lacks {', '.join(sorted(needed - values.keys()))}"
        elif any(not _fits(value, shapes[index]) for value in values.values()):
            yield f"of parameter {index} has another shape, another type, or values that are not finite"


def _fits(value: Any, shape: torch.Size) -> bool:
    if not isinstance(value, Tensor):
        return value is None or isinstance(value, int | float)
    return value.shape in (shape, torch.Size()) and value.is_floating_point() and _is_finite(value)


def _is_finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())


def damaged(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"{line(str(path))} is a damaged checkpoint, or that of another program ({reason}): choose another "
        "output=FOLDER"
    )
