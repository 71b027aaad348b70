"""Counts of the paper's detectors, recomputed from their structure without weights."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from functools import cache

import torch

from vovnet.models.detectors.contract import DetectionModel
from vovnet.paper.answers import Answer, compared_answer
from vovnet.paper.rounding import how_equal
from vovnet.profiling.cost import count_cost, count_parameters
from vovnet.profiling.cost_types import Cost
from vovnet.zoo import create_model

VOC_CLASSES, COCO_CLASSES = 20, 80


def foreground_classes(model: str) -> int:
    """The number of classes in the dataset that the paper uses with this detector."""
    return COCO_CLASSES if model.startswith(("refinedet", "maskrcnn")) else VOC_CLASSES


@cache
def build(model: str) -> DetectionModel:
    """The detector on the meta device, where it has shapes but no weights."""
    with torch.device("meta"):
        return create_model(model, foreground_classes(model))


@cache
def detector_cost(model: str) -> Cost:
    """For one image. Not for Mask R-CNN, whose operations depend on what it detects."""
    return count_cost(build(model), (1, 3, *build(model).preprocessing.image_size)).total


def parameters_answer(model: str, printed: str | None) -> Answer:
    """The parameters in millions; with the BatchNorm running statistics if only those give the printed value."""
    parameters = count_parameters(build(model))
    statistics = sum(buffer.numel() for buffer in build(model).buffers() if buffer.is_floating_point())
    detail = f"{parameters:,} parameters"
    answer = compared_answer(Decimal(parameters).scaleb(-6), printed, "exact", detail=detail)
    with_statistics = Decimal(parameters + statistics).scaleb(-6)
    if answer.kind == "exact" or printed is None or how_equal(with_statistics, printed) is None:
        return answer
    note = f"includes {statistics:,} BatchNorm running statistics; without them it is {answer.text} M"
    answer = compared_answer(with_statistics, printed, "exact", note=note, detail=detail)
    return replace(answer, remark="with running statistics")


def flops_answer(model: str, printed: str, *, with_norms: bool) -> Answer:
    """The paper's FLOPs in G. with_norms: see `flops_g`."""
    cost = detector_cost(model)
    detail = f"{cost.multiply_adds:,} multiply-adds"
    if with_norms:
        detail += f" and {cost.batch_norm_elements:,} BatchNorm output elements"
    return compared_answer(flops_g(model, with_norms=with_norms), printed, "exact", detail=detail)


def flops_g(model: str, *, with_norms: bool) -> Decimal:
    """What the paper calls FLOPs, in G: multiply-adds.

    with_norms: add one operation per BatchNorm output element, as Table 4 does.
    """
    cost = detector_cost(model)
    return Decimal(cost.multiply_adds + with_norms * cost.batch_norm_elements).scaleb(-9)
