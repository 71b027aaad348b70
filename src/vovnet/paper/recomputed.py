"""Counts of the paper's networks, recomputed from their structure without weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache

import torch
from torch import nn

from vovnet.models.backbones.vovnet import VoVNet
from vovnet.models.detectors.contract import DetectionModel
from vovnet.paper.answers import Answer, compared_answer
from vovnet.paper.rounding import how_equal
from vovnet.profiling.cost import count_cost, count_parameters
from vovnet.zoo import create_backbone, create_model

VOC_CLASSES, COCO_CLASSES = 20, 80
CLASSIFIER_SIDE = 224


@dataclass(frozen=True)
class DetectorCounts:
    """Counts for one image. statistics: running means and variances of batch norms, which are no parameters."""

    parameters: int
    statistics: int
    multiply_adds: int
    batch_norm_elements: int
    memory_access_cost: int
    memory_access_bound: float


def foreground_classes(model: str) -> int:
    """The number of classes in the dataset that the paper uses with this detector."""
    return COCO_CLASSES if model.startswith(("refinedet", "maskrcnn")) else VOC_CLASSES


def build(model: str) -> DetectionModel:
    """The detector on the meta device, where it has shapes but no weights."""
    with torch.device("meta"):
        return create_model(model, foreground_classes(model))


def input_side(model: str) -> int:
    return build(model).preprocessing.image_size[0]


@cache
def detector_counts(model: str) -> DetectorCounts:
    network = build(model)
    cost = count_cost(network, (1, 3, *network.preprocessing.image_size)).total
    return DetectorCounts(
        cost.parameters,
        sum(buffer.numel() for buffer in network.buffers() if buffer.is_floating_point()),
        cost.multiply_adds,
        cost.batch_norm_elements,
        cost.memory_access_cost,
        cost.memory_access_bound,
    )


def parameters_answer(model: str, printed: str | None) -> Answer:
    """The parameters in millions; with the batch norms' running statistics if only those give the printed value."""
    if printed is None:  # of Mask R-CNN, whose operations depend on what it detects
        parameters = count_parameters(build(model))
        return compared_answer(_millions(parameters), None, "exact", detail=f"{parameters:,} parameters")
    counts = detector_counts(model)
    detail = f"{counts.parameters:,} parameters"
    answer = compared_answer(_millions(counts.parameters), printed, "exact", detail=detail)
    with_statistics = _millions(counts.parameters + counts.statistics)
    if answer.kind == "exact" or how_equal(with_statistics, printed) is None:
        return answer
    note = f"includes {counts.statistics:,} running statistics of batch norms; without them it is {answer.text} M"
    answer = compared_answer(with_statistics, printed, "exact", note=note, detail=detail)
    return replace(answer, remark="with running statistics")


def flops_answer(model: str, printed: str, *, with_norms: bool) -> Answer:
    """The paper's FLOPs in G. with_norms: see `flops_g`."""
    counts = detector_counts(model)
    detail = f"{counts.multiply_adds:,} multiply-adds"
    if with_norms:
        detail += f" and {counts.batch_norm_elements:,} outputs of batch norms"
    return compared_answer(flops_g(model, with_norms=with_norms), printed, "exact", detail=detail)


def flops_g(model: str, *, with_norms: bool) -> Decimal:
    """What the paper calls FLOPs, in G: multiply-adds.

    with_norms: add one operation per output of a batch norm, as Table 4 does.
    """
    counts = detector_counts(model)
    return Decimal(counts.multiply_adds + with_norms * counts.batch_norm_elements).scaleb(-9)


def _millions(count: int) -> Decimal:
    return Decimal(count).scaleb(-6)


@dataclass(frozen=True)
class BackbonePart:
    """A row of Table 1 as built. stride: of the part's output relative to the image."""

    text: str
    stride: int
    parameters: int


@dataclass(frozen=True)
class BackboneCounts:
    """convolutions: those that the backbone's name counts.

    classifier_parameters, multiply_adds: of the classifier with 1000 classes, at 224×224.
    """

    parts: tuple[BackbonePart, ...]
    convolutions: int
    parameters: int
    classifier_parameters: int
    multiply_adds: int


@cache
def backbone_counts(name: str) -> BackboneCounts:
    """Table 1 for a VoVNet, read from the modules of the built network and the shapes of their outputs."""
    with torch.device("meta"):
        classifier, backbone = create_backbone(name), create_backbone(name, features_only=True)
        image = torch.empty(1, 3, CLASSIFIER_SIDE, CLASSIFIER_SIDE)
    assert isinstance(backbone, VoVNet)
    widths: dict[nn.Module, int] = {}

    def keep_width(module: nn.Module, _: object, output: torch.Tensor) -> None:
        widths[module] = output.shape[-1]

    modules = (*backbone.stem, *backbone.stages)
    for module in modules:
        module.register_forward_hook(keep_width)
    backbone.eval()(image)
    return BackboneCounts(
        tuple(
            BackbonePart(_describe(module), round(CLASSIFIER_SIDE / widths[module]), count_parameters(module))
            for module in modules
        ),
        sum(isinstance(layer, nn.Conv2d) for layer in backbone.modules()),
        count_parameters(backbone),
        count_parameters(classifier),
        count_cost(classifier, tuple(image.shape)).total.multiply_adds,
    )


def _describe(part: nn.Module) -> str:
    """A convolution of the stem or a stage, in the words of `published.TABLE_1`."""
    convolutions = _convolutions(part)
    if len(convolutions) == 1:
        (layer,) = convolutions
        return f"{_kernel(layer)}, {layer.out_channels}, stride {layer.stride[0]}"
    modules = list(part.children())
    described = {_describe_module(module) for module in modules}
    return f"{len(modules)} × {' or '.join(sorted(described))}"


def _describe_module(module: nn.Module) -> str:
    *layers, last = _convolutions(module)
    kinds = {f"{_kernel(layer)} of {layer.out_channels}" for layer in layers}
    concatenated = layers[0].in_channels + sum(layer.out_channels for layer in layers)
    wrong = "" if _kernel(last) == "1×1" and last.in_channels == concatenated else ", not one-shot"
    return f"OSA({len(layers)} × {' or '.join(sorted(kinds))} → {last.out_channels}{wrong})"


def _convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def _kernel(layer: nn.Conv2d) -> str:
    return "×".join(map(str, layer.kernel_size))
