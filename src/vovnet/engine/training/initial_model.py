"""The detector that a run starts with: random, or from weights; with its own default boxes, or fitted ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vovnet.data.dataset import DetectionDataset
from vovnet.data.transforms import SSDAugmentation
from vovnet.engine.config import TrainConfig
from vovnet.engine.training.data import make_augmentation
from vovnet.engine.training.default_boxes import fit_to_data, with_anchors
from vovnet.engine.training.resume import dotted
from vovnet.errors import UsageError
from vovnet.limits import check_limit
from vovnet.models.detectors.contract import DetectionModel
from vovnet.printing import line
from vovnet.weights.backbone import build_pretrained
from vovnet.weights.detector import LoadedModel, ModelInfo, load_weights
from vovnet.weights.fine_tuning import take_over


@dataclass(frozen=True)
class InitialModel:
    """A detector before its first step.

    default_boxes: what the fitted default boxes match, for the record; None if they are not fitted.
    sentences: what the log says of it.
    """

    info: ModelInfo
    model: DetectionModel
    default_boxes: Mapping[str, Any] | None = None
    sentences: tuple[str, ...] = ()


def initial_model(config: TrainConfig, dataset: DetectionDataset, checkpoint: Mapping[str, Any] | None) -> InitialModel:
    """The model with random weights, or those of `weights` or `backbone_weights`. A checkpoint replaces them.

    Raises UsageError or ValueError if the config asks for what cannot be had.
    """
    info = ModelInfo(config.model, config.model_options, dataset.class_names, dataset.category_ids)
    if checkpoint is not None:
        info = ModelInfo.from_dict(checkpoint["info"])  # has the options that came with the weights or the data
    _check_size(info)
    if checkpoint is not None:
        return InitialModel(info, info.build(), checkpoint.get("default_boxes"))
    loaded = _load(info, config) if config.weights else None
    if loaded is not None:
        info = replace(info, options=_with_options_of(loaded.info, info))
    default_boxes, sentences = None, list[str]()
    if config.default_boxes == "data":
        fitted = fit_to_data(info, dataset, _augmentation(info, config))
        if loaded is None or fitted.worthwhile:
            info = replace(info, options=with_anchors(info.options, fitted))
            default_boxes = fitted.to_dict()
            sentences.append(fitted.sentence())
        else:
            sentences.append(f"the default boxes of {line(str(config.weights))} stay, since fitted ones match no more")
    if config.backbone_weights:
        info, model = build_pretrained(info, config.backbone_weights)
        return InitialModel(info, model, default_boxes, tuple(sentences))
    model = info.build()
    if loaded is not None:
        sentences += _start_from(loaded, info, model, str(config.weights))
    return InitialModel(info, model, default_boxes, tuple(sentences))


def _check_size(info: ModelInfo) -> None:
    values = sum(tensor.nbytes for tensor in info.build_on_meta().state_dict().values())
    check_limit("weights_bytes", values, f"{line(info.name)} with these options and classes")


def _augmentation(info: ModelInfo, config: TrainConfig) -> SSDAugmentation | None:
    augment = make_augmentation(info.build_on_meta().preprocessing, config)
    return augment if isinstance(augment, SSDAugmentation) else None


def _load(info: ModelInfo, config: TrainConfig) -> LoadedModel:
    """The detector of `config.weights`. UsageError unless it has the architecture that `info` asks for."""
    if config.backbone_weights:
        raise UsageError(
            "weights start the whole detector, backbone_weights its backbone: give one of them, and set the other to "
            "null (backbone_weights=null)"
        )
    loaded = load_weights(str(config.weights))
    got = {"model": loaded.info.name, **_architecture(_with_options_of(loaded.info, info))}
    for key, expected in {"model": info.name, **_architecture(info.options)}.items():
        if got.get(key) != expected:
            stated = key if key == "model" else f"model_options.{key}"
            remedy = f"set {stated}={line(str(got[key]))}" if key in got else f"leave out {stated}"
            raise UsageError(
                f"weights={config.weights} must fit the config: {key} is {line(str(got.get(key)))}, expected "
                f"{expected}; {remedy}, or take other weights"
            )
    return loaded


def _with_options_of(found: ModelInfo, info: ModelInfo) -> dict[str, Any]:
    """The options of weights. Of `pixels`, those in `info` take precedence, and so do its default boxes."""
    pixels = {**found.options.get("pixels", {}), **info.options.get("pixels", {})}
    more = {"anchors": info.options["anchors"]} if "anchors" in info.options else {}
    return {**found.options, **({"pixels": pixels} if pixels else {}), **more}


def _architecture(options: Mapping[str, Any]) -> dict[str, Any]:
    return dotted({key: value for key, value in options.items() if key != "anchors"})


def _start_from(loaded: LoadedModel, info: ModelInfo, model: DetectionModel, source: str) -> list[str]:
    """Give the model the weights; returns what the log says if it does not take all of them."""
    taken = take_over(model, info, loaded)
    return [] if taken.complete else [taken.sentence(line(source))]
