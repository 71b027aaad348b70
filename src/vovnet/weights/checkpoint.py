"""Checkpoints: files such as `last.pt`, from which training resumes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vovnet.files import replacing
from vovnet.weights.file import DETECTOR_FORMAT, check_shapes, disk_errors_as_oserror, shapes_of


def save_checkpoint(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Write a training state. The previous one stays until the new one is complete."""
    with replacing(path) as temporary, disk_errors_as_oserror():
        torch.save(dict(checkpoint), temporary)


def load_checkpoint(path: Path, expected_format: str = DETECTOR_FORMAT) -> dict[str, Any]:
    """A training state; nothing in the file is run. ValueError if it is damaged or has another format."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # for a damaged file torch raises half a dozen types
        raise ValueError(
            f"{path} is not a readable checkpoint: it is damaged or of another format; use another file or output "
            "folder"
        ) from None
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != expected_format:
        raise ValueError(f"{path} is not a vovnet training checkpoint")
    return checkpoint


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict, checked by `check_state`."""
    check_state(model, state, source)
    model.load_state_dict(state)


def check_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Raise ValueError unless the state of `source` has the names and shapes of the model's."""
    check_shapes(shapes_of(state), shapes_of(model.state_dict()), f"{source} holds weights of another model")
