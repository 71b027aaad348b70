"""Any models by name, measured in one run, with the accuracy and the stages of those that are trained detectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vovnet.data.formats import open_dataset
from vovnet.data.images import read_image
from vovnet.engine.accuracy import measure_accuracy
from vovnet.engine.detector import Detector
from vovnet.engine.distributed import choose_device
from vovnet.engine.model_names import is_trained, resolve_model
from vovnet.engine.stages import time_stages
from vovnet.errors import UsageError
from vovnet.models.detectors.contract import DetectionModel
from vovnet.profiling.measure import measure_models
from vovnet.profiling.measurement import Measurement, read_measurements
from vovnet.profiling.onnx_module import OnnxModule
from vovnet.profiling.surroundings import watch
from vovnet.weights.shipped import load


def compare(
    names: Sequence[str],
    *,
    input_size: int | None = None,
    batch_size: int = 1,
    device: str = "auto",
    repetitions: int = 100,
    image_paths: Sequence[Path] = (),
    data: Path | None = None,
    split: str | None = None,
    on_step: Callable[[str], object] = lambda what: None,
    **options: Any,
) -> list[Measurement]:
    """Measure models by name, see `measure_models`, whose further options these take.

    names: as `resolve_model` takes them; a record of an earlier run (.json) gives its measurements as they are.
    input_size: height and width; None is what a trained, exported or our own detector expects, else 224. image_paths:
    real images for the stages of trained detectors. data, split: a data set for their accuracy.

    Raises ValueError for what cannot be measured, such as the accuracy of a model that is no trained detector.
    """
    earlier = [one for name in names if name.endswith(".json") for one in read_measurements(name)]
    fresh = [name for name in dict.fromkeys(names) if not name.endswith(".json")]
    if not fresh:
        return earlier
    where = choose_device(device)
    detectors = {name: load(name, str(where)) for name in fresh if is_trained(name)}
    modules = {name: detectors[name].model if name in detectors else _load(name, where) for name in fresh}
    sizes = {name: _input_size(module, input_size) for name, module in modules.items()}
    if data is not None or image_paths:
        _check_detectors(detectors, fresh, sizes, options.get("precision", "float32"))
    # What cannot be read shows now, before minutes are spent on measuring.
    datasets = {
        name: open_dataset(data, split, class_names=detector.class_names, masks=detector.model.masks)
        for name, detector in detectors.items()
        if data is not None
    }
    for path in image_paths:
        read_image(path)

    measurements = measure_models(
        modules,
        {name: (batch_size, 3, *size) for name, size in sizes.items()},
        device=where,
        repetitions=repetitions,
        on_step=on_step,
        **options,
    )
    watching = watch(where)
    for place, one in enumerate(measurements):
        if (detector := detectors.get(one.name)) is not None:
            if image_paths:
                on_step(f"{one.name}: stages")
                with watching:
                    one = replace(one, stages=time_stages(detector, image_paths, repetitions=repetitions))
            if data is not None:
                on_step(f"{one.name}: accuracy")
                one = replace(one, accuracy=measure_accuracy(detector, datasets[one.name]))
            measurements[place] = one
    if image_paths:
        measurements = [_with_doubts(one, watching.result().doubts) for one in measurements]
    return earlier + measurements


def _check_detectors(
    detectors: dict[str, Detector], names: Sequence[str], sizes: dict[str, tuple[int, int]], precision: str
) -> None:
    """Accuracy and stages are those of the weights as they are, so what is measured beside them must be too."""
    if not detectors:
        raise UsageError(f"images and data are for trained detectors, of which none is among {', '.join(names)}")
    if precision != "float32":
        raise UsageError(f"accuracy and stages are measured in float32, got {precision}")
    for name, detector in detectors.items():
        own = detector.model.preprocessing.image_size
        if sizes[name] != own:
            raise UsageError(
                f"accuracy and stages of {name} are those of its {own[0]}×{own[1]} pixels; leave out the input size"
            )


def _with_doubts(one: Measurement, doubts: Sequence[str]) -> Measurement:
    around = one.conditions.surroundings
    around = replace(around, doubts=(*around.doubts, *(f"stages: {doubt}" for doubt in doubts)))
    return replace(one, conditions=replace(one.conditions, surroundings=around))


def _load(name: str, device: torch.device) -> nn.Module:
    return OnnxModule(name, device=device) if name.endswith(".onnx") else resolve_model(name)


def _input_size(module: nn.Module, input_size: int | None) -> tuple[int, int]:
    if input_size is not None:
        return input_size, input_size
    if isinstance(module, DetectionModel):
        return module.preprocessing.image_size
    if isinstance(module, OnnxModule):
        _, _, height, width = module.input_shape
        return height or 224, width or 224
    return 224, 224
