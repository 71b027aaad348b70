"""Table 1: the backbones as printed and as built here, and their parameters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from vovnet.models.backbones.vovnet import VoVNet
from vovnet.paper.answers import Cell, compared_table, same_text
from vovnet.paper.published import TABLE_1, TABLE_1_BACKBONES
from vovnet.profiling.cost import count_cost, count_parameters
from vovnet.report.document import Section, Table
from vovnet.zoo import create_backbone

CLASSIFIER_SIDE = 224


@dataclass(frozen=True)
class Backbone:
    """A VoVNet as built.

    texts, strides, parameters: of each row of Table 1; a stride is the ratio of the image's side to the output's.
    convolutions: those that the backbone's name counts.
    totals: parameters without and with a classifier for 1000 classes, and multiply-adds with it at 224×224.
    """

    texts: list[str]
    strides: list[int]
    parameters: list[int]
    convolutions: int
    totals: tuple[int, int, int]


def table_1_section() -> Section:
    backbones = {name: read_backbone(name) for name in TABLE_1_BACKBONES}
    rows = {}
    for index, (part, stride, *printed) in enumerate(TABLE_1):
        strides = sorted({str(backbone.strides[index]) for backbone in backbones.values()})
        texts = [backbone.texts[index] for backbone in backbones.values()]
        pairs = [(stride, " or ".join(strides)), *zip(printed, texts, strict=True)]
        rows[part] = [Cell(expected, same_text(text, expected)) for expected, text in pairs]
    in_names = [title.split("-")[1] for title in TABLE_1_BACKBONES.values()]
    counted = [str(backbone.convolutions) for backbone in backbones.values()]
    rows["convolutions"] = [Cell(), *(Cell(a, same_text(b, a)) for a, b in zip(in_names, counted, strict=True))]
    totals = []
    for name, backbone in backbones.items():
        counts = (sum(backbone.parameters[:3]), *backbone.parameters[3:], *backbone.totals)
        totals.append([name, *(f"{count:,}" for count in counts)])
    stages = [part for part, *_ in TABLE_1[3:]]
    header = ["backbone", "stem", *stages, "parameters", "with 1000-class head", "multiply-adds at 224×224"]
    return Section(
        "Table 1: the backbones",
        (
            "Read from the networks as built. `4 × OSA(5 × 3×3 of 192 → 768)` is four modules, each with five 3×3 "
            "layers of 192 channels; a 1×1 convolution fuses the concatenated input and five outputs into 768 "
            "channels. The number in a backbone's name is its number of convolutions.",
            compared_table(["", "stride", *TABLE_1_BACKBONES.values()], rows),
            Table(header, totals, "Parameters and multiply-adds (exact; the paper prints none)"),
        ),
    )


def read_backbone(name: str) -> Backbone:
    """Read from the modules of the built network and the shapes of their outputs."""
    with torch.device("meta"):
        classifier, backbone = create_backbone(name), create_backbone(name, features_only=True)
        image = torch.empty(1, 3, CLASSIFIER_SIDE, CLASSIFIER_SIDE)
    assert isinstance(backbone, VoVNet)
    outputs = [image]
    for layer in backbone.stem:
        outputs.append(layer(outputs[-1]))
    outputs += backbone(image)
    parts = [*backbone.stem, *backbone.stages]
    return Backbone(
        texts=[_describe(part) for part in parts],
        strides=[round(CLASSIFIER_SIDE / output.shape[-1]) for output in outputs[1:]],
        parameters=[count_parameters(part) for part in parts],
        convolutions=len(_convolutions(backbone)),
        totals=(
            count_parameters(backbone),
            count_parameters(classifier),
            count_cost(classifier, tuple(image.shape)).total.multiply_adds,
        ),
    )


def _describe(part: nn.Module) -> str:
    """A convolution of the stem or a stage, in the words of `TABLE_1`."""
    convolutions = _convolutions(part)
    if len(convolutions) == 1:
        (layer,) = convolutions
        return f"{_kernel(layer)}, {layer.out_channels}, stride {layer.stride[0]}"
    modules = list(part.children())
    return f"{len(modules)} × {' or '.join(sorted({_describe_module(module) for module in modules}))}"


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
