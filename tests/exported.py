"""Exported detectors for tests, each made once, and their detections beside those of PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vovnet.export.onnx_file import make_onnx
from vovnet.export.source import describe_export
from vovnet.models.detectors.contract import DetectionModel
from vovnet.runtime.export_info import ExportInfo
from vovnet.weights.detector import LoadedModel, ModelInfo, load_weights

from .unit.runtime.described import INFO

SAMPLES = Path(__file__).parents[1] / "samples" / "bccd" / "JPEGImages"


@cache
def bccd_onnx() -> bytes:
    """The shipped detector as an ONNX file in float32."""
    loaded = load_weights("bccd")
    return make_onnx(loaded.model, describe_export(loaded, "float32")).SerializeToString()


def example_info(**changes: object) -> ExportInfo:
    """A sound description of a detector of three classes at 300×300."""
    return replace(INFO, **{"class_names": ("Platelets", "RBC", "WBC"), **changes})


def sample_images(count: int, size: tuple[int, int]) -> Tensor:
    """The first images of BCCD, uint8 (count, 3, height, width)."""
    from PIL import Image

    height, width = size
    images = [Image.open(path).convert("RGB").resize((width, height)) for path in sorted(SAMPLES.iterdir())[:count]]
    return torch.stack([torch.from_numpy(np.array(image)) for image in images]).permute(0, 3, 1, 2).contiguous()


def lively(name: str, classes: int, **options: object) -> LoadedModel:
    """A detector with random weights whose scores spread from 0 to 1, as those of a trained one.

    The averages of its batch norms come from two images, and its logits get a standard deviation of 3.
    """
    from vovnet.zoo import create_model

    torch.manual_seed(0)
    model = create_model(name, classes, **options)
    images = model.preprocessing.normalize(sample_images(2, model.preprocessing.image_size))
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(images)
        for head in _heads(model.eval()):
            head.register_forward_hook(_spread, always_call=False)
        model(images)
        for head in _heads(model):
            head._forward_hooks.clear()
    info = ModelInfo(name, options, tuple(f"class {number}" for number in range(classes)), tuple(range(classes)))
    return LoadedModel(model, info, {})


def _heads(model: DetectionModel) -> list[nn.Module]:
    return [module for name, module in model.named_modules() if name.endswith(".cls")]


def _spread(head: nn.Module, _inputs: object, output: Tensor) -> Tensor:
    last = [module for module in head.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)][-1]
    factor = 3 / output.std()
    for parameter in (last.weight, last.bias):
        if parameter is not None:
            parameter.mul_(factor)
    return output * factor


def in_order(*columns: Sequence[float] | np.ndarray) -> np.ndarray:
    """The rows of detections (D, ·), sorted so that ties cannot matter."""
    rows = np.column_stack([np.asarray(column, np.float64) for column in columns])
    return rows[np.lexsort(np.round(rows, 3).T)]
