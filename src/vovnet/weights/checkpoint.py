"""Files that hold a model: `last.pt` to go on training, `*.safetensors` to use and to ship."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vovnet.files import replacing
from vovnet.models.detectors.contract import DetectionModel
from vovnet.zoo import create_model

CHECKPOINT_FORMAT = "vovnet-detector-1"


@dataclass(frozen=True)
class ModelInfo:
    """What a detector's weights need beside them to be used.

    name, options: as `create_model` takes them; class_names in label order; category_ids: the data set's own ids.
    """

    name: str
    options: Mapping[str, Any]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]

    def build(self) -> DetectionModel:
        return create_model(self.name, len(self.class_names), **self.options)


@dataclass(frozen=True)
class LoadedModel:
    """A detector in eval mode with its classes; `record` says how it was trained and tested."""

    model: DetectionModel
    info: ModelInfo
    record: Mapping[str, Any]


def save_weights(path: Path, state: Mapping[str, Tensor], info: ModelInfo, record: Mapping[str, Any]) -> None:
    """Write weights and everything needed to use them as one safetensors file; `record` must be JSON.

    The file's metadata names the model, its options, classes, category ids and preprocessing (size, mean, standard
    deviation, channel order).
    """
    from safetensors.torch import save_file

    metadata = {
        "format": CHECKPOINT_FORMAT,
        "model": info.name,
        "model_options": json.dumps(dict(info.options)),
        "class_names": json.dumps(info.class_names),
        "category_ids": json.dumps(info.category_ids),
        "preprocessing": json.dumps(asdict(_shape_only(info).preprocessing)),
        "record": json.dumps(record),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with replacing(path) as temporary, _full_disk_is_oserror():
        save_file(tensors, temporary, metadata)
        temporary.chmod(0o644)  # safetensors lets nobody else read it


def _shape_only(info: ModelInfo) -> DetectionModel:
    with torch.device("meta"):
        return info.build()


def load_model(path: str | Path) -> LoadedModel:
    """Read a detector from `*.safetensors` or from a run's `last.pt`; nothing in the file is executed.

    Raises FileNotFoundError, or ValueError when the file is damaged or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {path}")
    if path.suffix == ".pt":
        checkpoint = load_checkpoint(path)
        info = info_from_dict(checkpoint["info"])
        return _assemble(path, checkpoint["ema"] or checkpoint["model"], info, {"config": checkpoint["config"]})

    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); fetch or copy it again") from None
    if metadata.get("format") != CHECKPOINT_FORMAT:
        raise ValueError(f"{path} holds no vovnet detector (its format is {metadata.get('format')!r})")
    info = info_from_dict(
        {
            "name": metadata["model"],
            "options": json.loads(metadata["model_options"]),
            "class_names": json.loads(metadata["class_names"]),
            "category_ids": json.loads(metadata["category_ids"]),
        }
    )
    return _assemble(path, state, info, json.loads(metadata["record"]))


def info_from_dict(values: Mapping[str, Any]) -> ModelInfo:
    return ModelInfo(
        values["name"], dict(values["options"]), tuple(values["class_names"]), tuple(values["category_ids"])
    )


def _assemble(path: Path, state: Mapping[str, Tensor], info: ModelInfo, record: Mapping[str, Any]) -> LoadedModel:
    check_state(_shape_only(info), state, str(path))  # before a stranger's options take any memory
    model = info.build()
    load_state(model, {k: v.float() if v.is_floating_point() else v for k, v in state.items()}, str(path))
    return LoadedModel(model.eval().to(memory_format=torch.channels_last), info, record)


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict, see `check_state`."""
    check_state(model, state, source)
    model.load_state_dict(state)


def check_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """ValueError that names the first tensor whose name or shape is not the model's own."""
    own = model.state_dict()
    for name in sorted(own.keys() ^ state.keys()):
        where = "missing in" if name in own else "unknown in"
        raise ValueError(f"{source} is a checkpoint of another model: {name} is {where} the file")
    for name, tensor in own.items():
        if tensor.shape != state[name].shape:
            raise ValueError(
                f"{source} is a checkpoint of another model: {name} has shape {tuple(state[name].shape)}, "
                f"expected {tuple(tensor.shape)}"
            )


def save_checkpoint(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Write the training state; the previous one stays until the new one is complete."""
    with replacing(path) as temporary, _full_disk_is_oserror():
        torch.save(dict(checkpoint), temporary)


@contextmanager
def _full_disk_is_oserror() -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        raise OSError(errno.EIO, " ".join(str(error).split())[:200]) from error


def load_checkpoint(path: Path, kind: str = CHECKPOINT_FORMAT) -> dict[str, Any]:
    """The training state in `last.pt`. Raises ValueError when the file is damaged or its format is not `kind`."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch raises half a dozen kinds for a damaged file
        raise ValueError(
            f"{path} is not a readable checkpoint: it is damaged or of another kind; use another file or output folder"
        ) from None
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != kind:
        raise ValueError(f"{path} is not a vovnet training checkpoint")
    return checkpoint
