"""Measure models by name: their cost, and for trained detectors also accuracy and the time of each stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vovnet.data.dataset import DetectionDataset
from vovnet.data.formats import open_dataset
from vovnet.data.images import read_image
from vovnet.engine.detector import Detector, load_network
from vovnet.engine.distributed import choose_device
from vovnet.engine.evaluate import evaluate
from vovnet.engine.model_names import is_trained, resolve_model
from vovnet.engine.predicting.predictor import Predictor
from vovnet.engine.stages import time_stages
from vovnet.errors import UsageError
from vovnet.models.detectors.contract import DetectionModel
from vovnet.profiling.measure import measure_models
from vovnet.profiling.measurement import Accuracy, Measurement, read_measurements
from vovnet.profiling.onnx.inputs import times
from vovnet.profiling.onnx.module import OnnxModule
from vovnet.profiling.subject import InputShape
from vovnet.profiling.surroundings import watch


def measure_by_name(
    names: Sequence[str],
    *,
    input_size: int | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    repetitions: int = 100,
    image_paths: Sequence[Path] = (),
    data: Path | None = None,
    split: str | None = None,
    on_step: Callable[[str], object] = lambda what: None,
    **options: Any,
) -> list[Measurement]:
    """Measure models by name in one run; the other arguments and the options are those of `measure_models`.

    names: see `resolve_model`. The record of an earlier run (.json) contributes its measurements unchanged.
    input_size: height and width. None is what a trained, exported or built-in detector expects, 224 for other models.
    batch_size: images per pass. None is what an exported file expects, 1 for other models.
    image_paths: images on which the stages of trained detectors are timed.
    data, split: dataset on which the accuracy of trained detectors is measured.

    Raises ValueError for what cannot be measured, such as the accuracy of an untrained model.
    """
    earlier = [measurement for name in names if name.endswith(".json") for measurement in read_measurements(name)]
    models = [name for name in dict.fromkeys(names) if not name.endswith(".json")]
    if not models:
        return earlier
    torch_device = choose_device(device)
    detectors = {name: load_network(name, str(torch_device)) for name in models if is_trained(name)}
    modules = {name: detectors[name].model if name in detectors else _load(name, torch_device) for name in models}
    shapes = {name: _input_shape(name, module, batch_size, input_size) for name, module in modules.items()}
    if data is not None or image_paths:
        _check_detectors(detectors, models, input_size, options.get("precision", "float32"))
    # Files that cannot be read are reported now, before minutes are spent on measuring.
    datasets = {
        name: open_dataset(data, split, class_names=detector.class_names, masks=detector.masks)
        for name, detector in detectors.items()
        if data is not None
    }
    for path in image_paths:
        read_image(path)

    costs = measure_models(modules, shapes, device=torch_device, repetitions=repetitions, on_step=on_step, **options)
    watching = watch(torch_device)
    stages, accuracies = {}, {}  # of the detector as it is, whatever the run
    for name in detectors:
        if image_paths:
            on_step(f"{name}: stages")
            with watching:
                stages[name] = time_stages(detectors[name], image_paths, repetitions=repetitions)
        if name in datasets:
            on_step(f"{name}: accuracy")
            accuracies[name] = measure_accuracy(detectors[name], datasets[name])
    measurements = [
        replace(
            one,
            stages=stages.get(one.name) if one.run == costs[0].run else None,
            accuracy=accuracies.get(one.name),
        )
        for one in costs
    ]
    if image_paths:
        warnings = watching.result().doubts
        measurements = [_with_warnings(measurement, warnings) for measurement in measurements]
    return earlier + measurements


def measure_accuracy(detector: Predictor, dataset: DetectionDataset, *, workers: int = 2) -> Accuracy:
    """AP, AP50 and VOC07 on every image of a split, and "mask AP" if both the detector and the dataset have masks.

    The dataset must be opened with the classes of the detector. A metric without a value, as without objects, is left
    out.
    """
    if dataset.class_names != detector.class_names:
        raise ValueError(
            f"{dataset.root} must be opened with the detector's classes {', '.join(detector.class_names)}, "
            f"got {', '.join(dataset.class_names)}"
        )
    evaluation = evaluate(detector, dataset, workers=workers)
    metrics = {name: evaluation.coco.figures[name] for name in ("AP", "AP50")} | {"VOC07": evaluation.voc.mean_ap11}
    if evaluation.coco_masks is not None:
        metrics["mask AP"] = evaluation.coco_masks.figures["AP"]
    values = {name: value for name, value in metrics.items() if value is not None}
    return Accuracy(dataset.root.resolve().name, dataset.split, len(dataset), values)


def _check_detectors(
    detectors: dict[str, Detector], names: Sequence[str], input_size: int | None, precision: str
) -> None:
    """Accuracy and stages are measured with the weights as they are, so the rest of the measurement must be too."""
    if not detectors:
        raise UsageError(f"images and data are for trained detectors, and none of these is one: {', '.join(names)}")
    if precision != "float32":
        raise UsageError(f"accuracy and stages are measured in float32, got {precision}")
    for name, detector in detectors.items():
        own = detector.model.preprocessing.image_size
        if input_size is not None and (input_size, input_size) != own:
            raise UsageError(
                f"accuracy and stages of {name} are measured at its own {own[0]}×{own[1]} pixels; "
                "leave out the input size"
            )


def _with_warnings(measurement: Measurement, warnings: Sequence[str]) -> Measurement:
    """The measurement with the warnings of the time in which the stages ran."""
    surroundings = measurement.conditions.surroundings
    doubts = (*surroundings.doubts, *(f"stages: {warning}" for warning in warnings))
    conditions = replace(measurement.conditions, surroundings=replace(surroundings, doubts=doubts))
    return replace(measurement, conditions=conditions)


def _load(name: str, device: torch.device) -> nn.Module:
    return OnnxModule(name, device=device) if name.endswith(".onnx") else resolve_model(name)


def _input_shape(name: str, module: nn.Module, batch_size: int | None, input_size: int | None) -> InputShape:
    """Raises ValueError for an exported file that cannot take the requested sizes."""
    if isinstance(module, OnnxModule):
        shape = module.batch_shape(batch_size, input_size)
        if not module.takes(shape):
            takes = f"takes {times(module.input_shape)}, got an input of {times(shape)}"
            raise ValueError(f"{name} {takes}: leave out the size that the file fixes")
        return shape
    own = module.preprocessing.image_size if isinstance(module, DetectionModel) else (224, 224)
    height, width = own if input_size is None else (input_size, input_size)
    return batch_size or 1, 3, height, width
