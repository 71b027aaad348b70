"""Detectors in files: saved with everything that their use needs, and loaded ready to use."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vovnet.errors import UsageError
from vovnet.folder_lock import folder_lock
from vovnet.media.finding import VIDEO_SUFFIXES
from vovnet.media.pixels import IMAGE_SUFFIXES
from vovnet.models.detectors.contract import DetectionModel
from vovnet.names import shipped_weights
from vovnet.printing import line, quoted
from vovnet.urls import is_hub_name, is_url, shown_url
from vovnet.weights.digest import weights_digest
from vovnet.weights.file import (
    DETECTOR_FORMAT,
    check_state,
    load_checkpoint,
    problem,
    read_safetensors,
    update_metadata,
    write_safetensors,
)
from vovnet.weights.find import find_weights, open_weights
from vovnet.weights.metadata import (
    Checkpoint,
    DetectorFile,
    DetectorMetadata,
    damaged_metadata,
    refused_options,
    validated,
)
from vovnet.zoo import create_model

_IMPORT = (
    "; vovnet weights import converts a detector of VoVNet-Detectron, and a run starts from a backbone's weights with "
    "backbone_weights"
)


@dataclass(frozen=True)
class ModelInfo:
    """What is needed to use a detector, besides its weights.

    name, options: arguments of `create_model`.
    class_names: in the order of the labels.
    category_ids: the dataset's own numbers of these classes.
    """

    name: str
    options: Mapping[str, Any]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]

    def build(self) -> DetectionModel:
        """The detector with random weights."""
        return create_model(self.name, len(self.class_names), **self.options)

    def build_on_meta(self) -> DetectionModel:
        """The detector with shapes but no values, which takes no memory."""
        with torch.device("meta"):
            return self.build()

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "options": dict(self.options)}

    @classmethod
    def from_metadata(cls, stated: DetectorMetadata) -> ModelInfo:
        return cls(stated.name, stated.options, stated.class_names, stated.category_ids)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelInfo:
        return cls(values["name"], dict(values["options"]), tuple(values["class_names"]), tuple(values["category_ids"]))


@dataclass(frozen=True)
class LoadedModel:
    """A detector in eval mode and its classes.

    record: how it was trained and what it achieves.
    score_thresholds: one for each class, which predictions use unless they are given another; None without stored ones.
    """

    model: DetectionModel
    info: ModelInfo
    record: Mapping[str, Any]
    score_thresholds: tuple[float, ...] | None = None


def save_weights(path: Path, state: Mapping[str, Tensor], info: ModelInfo, record: Mapping[str, Any]) -> None:
    """Write a detector as a safetensors file that needs nothing else to be used.

    The metadata holds the model's name, options, classes, category ids and preprocessing (size, mean, standard
    deviation, channel order), for other programs too.

    record: must be serialisable as JSON.
    """
    metadata = {
        "format": DETECTOR_FORMAT,
        "model": info.name,
        "model_options": json.dumps(dict(info.options)),
        "class_names": json.dumps(info.class_names),
        "category_ids": json.dumps(info.category_ids),
        "preprocessing": json.dumps(asdict(info.build_on_meta().preprocessing)),
        "record": json.dumps(record),
    }
    write_safetensors(path, state, metadata)


def load_weights(source: str | Path) -> LoadedModel:
    """A trained detector from a shipped name, a file, a run's folder, a URL or the hub, see `find_weights`.

    Raises FileNotFoundError, OSError if a download fails, or ValueError if the file holds no detector.
    """
    with open_weights(source) as path:
        return load_model(path)


def load_model(path: str | Path) -> LoadedModel:
    """A detector from a safetensors file or from a run's `last.pt`; nothing in the file is run.

    Raises FileNotFoundError, or ValueError if the file is damaged or holds something else.
    """
    path = Path(path)
    content = _read(path)
    model = _build_with(content.info, content.state, path)
    return LoadedModel(model, content.info, content.record, content.score_thresholds)


def digest_of_weights(source: str | Path) -> str:
    """The `weights_digest` of a trained detector, of which no network is built. Raises as `load_weights`."""
    with open_weights(source) as path:
        return weights_digest(_read(path).state)


def score_thresholds_of_weights(source: str | Path) -> tuple[float, ...] | None:
    """The stored thresholds of a trained detector, of which no network is built. Raises as `load_weights`."""
    with open_weights(source) as path:
        return _read(path).score_thresholds


def record_of_weights(source: str | Path) -> Mapping[str, Any]:
    """The record of the training of a detector, of which no network is built. Raises as `load_weights`."""
    with open_weights(source) as path:
        return _read(path).record


def file_to_change(source: str | Path) -> Path:
    """The file of `find_weights`, for a change. UsageError unless it is a safetensors file of the user's own."""
    path = find_weights(source)
    remedy = f"copy it first (cp {line(str(path), 200)} weights.safetensors) and name the copy"
    if path.resolve() in {shipped.resolve() for shipped in shipped_weights().values()}:
        raise UsageError(f"{line(str(source), 200)} comes with vovnet and is never changed: {remedy}")
    if is_url(str(source)) or is_hub_name(str(source)):
        raise UsageError(f"a copy of {shown_url(str(source))} in the cache is never changed: {remedy}")
    if path.suffix != ".safetensors":
        raise UsageError(f"score thresholds are stored in .safetensors files, got {line(str(path), 200)}")
    return path


def lock_for_change(path: Path) -> AbstractContextManager[None]:
    """Keeps a run from replacing a file of weights while the block changes it. OSError if one trains in its folder."""
    return folder_lock(path.parent, remedy="copy the weights and name the copy")


def store_thresholds(path: str | Path, thresholds: Sequence[float]) -> None:
    """Write one score threshold for each class into a detector's safetensors file; predictions then use them.

    Nothing else in the file changes, so neither does its `weights_digest`. Raises as `load_weights`, and ValueError
    unless there is one number from 0 to 1 for each class. While a run trains in the folder of the file, which it would
    replace, OSError.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"score thresholds are stored in a .safetensors file, got {path}")
    with lock_for_change(path):
        names = _read(path).info.class_names
        values = [float(value) for value in thresholds]
        if len(values) != len(names) or not all(0 <= value <= 1 for value in values):
            raise ValueError(f"expected a score threshold from 0 to 1 for each of {len(names)} classes, got {values}")
        update_metadata(path, {"score_thresholds": json.dumps(values)})


@dataclass(frozen=True)
class _Content:
    """What a file says of its network, the tensors, the record of the training and the stored thresholds."""

    info: ModelInfo
    state: Mapping[str, Tensor]
    record: Mapping[str, Any]
    score_thresholds: tuple[float, ...] | None = None


def _read(path: Path) -> _Content:
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {path}")
    if path.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
        raise UsageError(f"expected the weights of a detector, got the image or video {line(str(path), 300)}")
    if path.suffix not in (".pt", ".safetensors"):
        raise ValueError(f"a detector of vovnet ends in .safetensors or .pt, got {path}{_IMPORT}")
    if path.suffix == ".pt":
        checkpoint = validated(
            Checkpoint,
            load_checkpoint(path),
            lambda reason: problem(path, f"is a damaged checkpoint ({reason}); use another file"),
        )
        config = {"config": checkpoint.config}
        return _Content(ModelInfo.from_metadata(checkpoint.info), checkpoint.ema or checkpoint.model, config)
    state, metadata = read_safetensors(path)
    if metadata.get("format") != DETECTOR_FORMAT:
        other = quoted(metadata.get("format"))
        raise problem(path, f"holds no vovnet detector (its format is {other}){_IMPORT}")
    stated = validated(DetectorFile, metadata, lambda reason: damaged_metadata(path, reason))
    return _Content(ModelInfo.from_metadata(stated), state, stated.record, stated.score_thresholds)


def _build_with(info: ModelInfo, state: Mapping[str, Tensor], path: Path) -> DetectionModel:
    """The detector in float32 with the weights of the file, in eval mode.

    It is first built without memory, since the options of an unknown file may ask for any amount.
    """
    with refused_options(path):
        model = info.build_on_meta()
    check_state(model, state, str(path))
    dtypes = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    # Copies, because the tensors of a safetensors file may be mapped from the file.
    state = {name: tensor.to(dtypes[name], copy=True) for name, tensor in state.items()}
    model.load_state_dict(state, assign=True)
    if _lacks_values(model):
        model = info.build()
        model.load_state_dict(state)
    return model.eval().to(memory_format=torch.channels_last)


def _lacks_values(model: nn.Module) -> bool:
    """Whether tensors are left without values because they are not part of the state, as in some networks of timm."""
    for module in model.modules():
        for attribute in vars(module).values():
            if isinstance(attribute, dict):
                attribute = list(attribute.values())
            values = attribute if isinstance(attribute, list | tuple) else [attribute]
            if any(isinstance(value, Tensor) and value.is_meta for value in values):
                return True
    return False
