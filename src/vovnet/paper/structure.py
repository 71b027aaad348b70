"""Counts of the paper's networks, recomputed from their structure: shapes alone, no weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache

import torch
from torch import nn

from vovnet.models.backbones.vovnet import VoVNet
from vovnet.models.detectors.contract import DetectionModel
from vovnet.paper.cells import Answer
from vovnet.paper.rounding import check, how_equal
from vovnet.profiling.cost import count_cost, count_parameters
from vovnet.zoo import create_backbone, create_model

VOC_CLASSES, COCO_CLASSES = 20, 80


@dataclass(frozen=True)
class Counts:
    """Of one image. statistics: running means and variances of batch norms, which are no parameters."""

    parameters: int
    statistics: int
    multiply_adds: int
    batch_norm_elements: int
    memory_access_cost: int
    memory_access_bound: float


def classes_of(model: str) -> int:
    """Foreground classes of the data set on which the paper has this detector."""
    return COCO_CLASSES if model.startswith(("refinedet", "maskrcnn")) else VOC_CLASSES


def build(model: str) -> DetectionModel:
    with torch.device("meta"):
        return create_model(model, classes_of(model))


@cache
def counts(model: str) -> Counts:
    network = build(model)
    cost = count_cost(network, (1, 3, *network.preprocessing.image_size)).total
    return Counts(
        cost.parameters,
        sum(buffer.numel() for buffer in network.buffers() if buffer.is_floating_point()),
        cost.multiply_adds,
        cost.batch_norm_elements,
        cost.memory_access_cost,
        cost.memory_access_bound,
    )


@cache
def parameters_only(model: str) -> int:
    """For networks whose operations depend on values."""
    return count_parameters(build(model))


def check_parameters(model: str, printed: str | None) -> Answer:
    if printed is None:
        own = parameters_only(model)
        return check(Decimal(own).scaleb(-6), None, "exact", detail=f"{own:,} parameters")
    found = counts(model)
    answer = check(Decimal(found.parameters).scaleb(-6), printed, "exact", detail=f"{found.parameters:,} parameters")
    whole = Decimal(found.parameters + found.statistics).scaleb(-6)
    if answer.kind == "exact" or how_equal(whole, printed) is None:
        return answer
    note = f"{found.statistics:,} running statistics of batch norms are counted too; without them it is {answer.text} M"
    with_them = check(whole, printed, "exact", note=note, detail=answer.detail)
    return replace(with_them, remark="with running statistics")


def check_flops(model: str, printed: str, norms_too: bool) -> Answer:
    """norms_too: as Table 4 counts them, with one operation for each output of a batch norm."""
    found = counts(model)
    detail = f"{found.multiply_adds:,} multiply-adds"
    if norms_too:
        detail += f" and {found.batch_norm_elements:,} outputs of batch norms"
    return check(flops_g(model, norms_too), printed, "exact", detail=detail)


def flops_g(model: str, norms_too: bool) -> Decimal:
    """In G, what the paper calls FLOPs; see `check_flops`."""
    found = counts(model)
    return Decimal(found.multiply_adds + norms_too * found.batch_norm_elements).scaleb(-9)


@dataclass(frozen=True)
class Part:
    """A line of Table 1. stride: of its output to the image."""

    text: str
    stride: int
    parameters: int


@dataclass(frozen=True)
class BackboneCounts:
    """convolutions: those that the name counts. classifier_parameters, multiply_adds: of 1000 classes, at 224²."""

    parts: tuple[Part, ...]
    convolutions: int
    parameters: int
    classifier_parameters: int
    multiply_adds: int


@cache
def backbone_counts(name: str) -> BackboneCounts:
    """Table 1 of a VoVNet as it is built, read off its modules and the shapes of what they give."""
    with torch.device("meta"):
        whole, network = create_backbone(name), create_backbone(name, features_only=True)
    assert isinstance(network, VoVNet)
    side = 224
    given: dict[nn.Module, int] = {}
    modules = (*network.stem, *network.stages)
    for module in modules:
        module.register_forward_hook(lambda one, _, output: given.update({one: output.shape[-1]}))
    network.eval()(torch.empty(1, 3, side, side, device="meta"))
    parts = [Part(_describe(module), round(side / given[module]), count_parameters(module)) for module in modules]
    convolutions = sum(isinstance(layer, nn.Conv2d) for layer in network.modules())
    multiply_adds = count_cost(whole, (1, 3, side, side)).total.multiply_adds
    return BackboneCounts(tuple(parts), convolutions, count_parameters(network), count_parameters(whole), multiply_adds)


def _describe(part: nn.Module) -> str:
    """A convolution of the stem, or a stage, as `published.TABLE_1` writes it."""
    convolutions = [layer for layer in part.modules() if isinstance(layer, nn.Conv2d)]
    if len(convolutions) == 1:
        (one,) = convolutions
        return f"{_kernel(one)}, {one.out_channels}, stride {one.stride[0]}"
    modules = list(part.children())
    described = {_describe_module(module) for module in modules}
    return f"{len(modules)} × {' or '.join(sorted(described))}"


def _describe_module(module: nn.Module) -> str:
    *layers, last = (layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
    kinds = {f"{_kernel(layer)} of {layer.out_channels}" for layer in layers}
    joined = sum(layer.out_channels for layer in layers) + layers[0].in_channels
    wrong = "" if _kernel(last) == "1×1" and last.in_channels == joined else ", not one-shot"
    return f"OSA({len(layers)} × {' or '.join(sorted(kinds))} → {last.out_channels}{wrong})"


def _kernel(layer: nn.Conv2d) -> str:
    return "×".join(map(str, layer.kernel_size))
