"""Weights of a backbone, and their translation from other sources: find the variant, rename every tensor."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vovnet.errors import UsageError
from vovnet.models.backbones.densenet import VARIANTS as DENSENETS
from vovnet.models.backbones.resnet import BLOCKS as RESNETS
from vovnet.models.backbones.vovnet import TABLE_1, VOVNET_V2
from vovnet.printing import line, quoted
from vovnet.weights.file import Shapes, check_finite, check_shapes, first_three, has_values, problem, shapes_of
from vovnet.weights.names import SOURCES, head_name_in_file, recognise
from vovnet.weights.other_names import OTHER_SOURCES, recognise_other
from vovnet.weights.scheme import Scheme
from vovnet.zoo import BACKBONES, create_backbone

VARIANTS = TABLE_1 | VOVNET_V2
# These change what a network computes but not its convolutions, so that weights of the one are a start for the other.
ADAPTABLE = ("stem", "identity", "ese", "style")

_COUNTERS = ("num_batches_tracked", "/bn.2")
_PREFIXES = ("model.", "backbone.")


@dataclass(frozen=True)
class BackboneWeights:
    """Weights of a backbone under our names, and what they require of the network and its images.

    source: where they come from.
    model: a name of `create_backbone`.
    options: options of `create_backbone` that the weights require.
    pixels: `mean`, `std` (0–255 scale) and `channel_order` of the training images, as in `Preprocessing`.
    state: parameters and buffers, with those of the classifier if there is one.
    """

    source: str
    model: str
    options: Mapping[str, Any]
    pixels: Mapping[str, Any]
    state: Mapping[str, Tensor]

    @property
    def num_classes(self) -> int | None:
        """Classes of the classifier, None without one."""
        bias = self.state.get(head_names(self.model)[1])
        return None if bias is None else len(bias)

    def options_for(self, name: str, options: Mapping[str, Any], *, adapt: bool = False) -> dict[str, Any]:
        """The caller's options for backbone `name`, completed by those that the weights require.

        Weights of batch norms also fit norm="frozen". Raises UsageError if the two contradict each other, ValueError if
        the weights are of another variant or lack the classifier.

        adapt: let the caller have other values of `ADAPTABLE`; the weights are then only a start for training.
        """
        if VARIANTS.get(name, name) != VARIANTS.get(self.model, self.model):
            raise ValueError(f"{self.source} holds weights of {self.model}, not of {name}")
        required = {**self.options, **({"bottleneck": False} if name in VARIANTS else {})}
        if required.get("norm") == "batch" and options.get("norm") != "group":
            del required["norm"]
        if not options.get("features_only"):
            if self.num_classes is None:
                raise ValueError(f"{self.source} holds no classifier; set features_only=True")
            required["num_classes"] = self.num_classes
        for option in options.keys() & required.keys():
            if adapt and option in ADAPTABLE:
                del required[option]
            elif options[option] != required[option]:
                raise UsageError(
                    f"{self.source} needs {option}={required[option]!r}, got {option}={options[option]!r}; leave it out"
                )
        return {**options, **required}

    def load_into(self, backbone: nn.Module) -> tuple[list[str], list[str]]:
        """Load the weights and set the attribute `pixels`.

        Returns the names of the backbone's tensors that the weights lack, which stay random, and of those that the
        backbone lacks, which are not used. A classifier is not counted.
        """
        own = backbone.state_dict().keys()
        backbone.load_state_dict({name: self.state[name] for name in own & self.state.keys()}, strict=False)
        backbone.pixels = dict(self.pixels)  # type: ignore[assignment]  # a module may hold any attribute
        uncounted = {*head_names(self.model), *(name for name in self.state if name.endswith(_COUNTERS))}
        return sorted(own - self.state.keys()), sorted(self.state.keys() - own - uncounted)


@dataclass(frozen=True)
class Translation(BackboneWeights):
    """Weights that were translated from a file of another source.

    scheme: the source whose names it uses.
    norm: "batch", "group", or "frozen batch": batch norms without step counters. They become batch norms in a backbone
        and stay frozen in a detector.
    set_aside: numbers of tensors of the file's other parts, by the first two parts of their names.
    """

    scheme: str
    norm: str
    set_aside: Mapping[str, int]


def head_names(model: str) -> tuple[str, str]:
    """Our names of the weight and bias of a backbone's classifier."""
    head = "fc" if model in RESNETS else "classifier" if model in DENSENETS else "head"
    return f"{head}.weight", f"{head}.bias"


def translate(tensors: Mapping[str, Tensor], source: str) -> Translation:
    """Find the variant of a backbone's tensors and translate them; a detector's other parts are set aside.

    Raises ValueError unless the tensors are exactly those of one of our variants, with finite values.
    """
    scheme, tensors, beside = _recognise(tensors, source)
    rest = {name for name in tensors if scheme.classifier and re.fullmatch(scheme.classifier, name)}
    if "backbone." in scheme.prefix:
        rest |= {name for name in tensors if not name.startswith(scheme.prefix)}
    backbone = {name: tensor for name, tensor in tensors.items() if name not in rest}
    frozen = not scheme.counter_divides and not any(name.endswith(_COUNTERS) for name in backbone)

    model, names = _match(scheme, backbone, frozen, source)
    state = {ours: plain_values(backbone[theirs], f"{theirs} in {source}") for ours, theirs in names.items()}
    if any(name.endswith("running_var") for name in state):
        _convert_statistics(state, scheme, frozen)
    check_finite(state, source, names)
    norm = scheme.options.get("norm", "batch")
    return Translation(
        source=source,
        scheme=scheme.title,
        model=model,
        options=scheme.options,
        pixels=scheme.pixels_of.get(model, scheme.pixels),
        norm="frozen batch" if frozen and scheme.frozen_eps is not None and norm == "batch" else norm,
        state=state,
        set_aside=dict(sorted(Counter(".".join(name.split(".")[:2]) for name in (*rest, *beside)).items())),
    )


def _recognise(tensors: Mapping[str, Tensor], source: str) -> tuple[Scheme, Mapping[str, Tensor], list[str]]:
    """The naming scheme, the tensors without a wrapper's prefix, and the names of those beside the wrapped network.

    Beside it there may be a classifier or the weights of a loss. Another convolution there makes it a larger network,
    whose backbone may compute something else, as with the dilated ones of segmentation.
    """
    if scheme := recognise_other(tensors) or recognise(tensors):
        return scheme, tensors, []
    for prefix in _PREFIXES:
        inside = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        if scheme := recognise_other(inside) or recognise(inside):
            beside = [name for name in tensors if not name.startswith(prefix)]
            if larger := [name for name in beside if tensors[name].ndim > 2]:
                raise problem(
                    source, f"must hold a backbone, with at most a classifier, but also has {first_three(larger)}"
                )
            return scheme, inside, beside
    raise problem(
        source,
        f"must name its tensors as a VoVNet of {', '.join(SOURCES[:-1])} or {SOURCES[-1]}, as {OTHER_SOURCES}, but has "
        f"{first_three(tensors)}",
    )


def translate_heads(
    tensors: Mapping[str, Tensor], shapes: Shapes, group_norm: bool, source: str, what: str
) -> dict[str, Tensor]:
    """The tensors of a detector of VoVNet-Detectron without its backbone, under our names.

    tensors: all but those of the backbone.
    shapes: our names and shapes.
    what: the detector's name for messages.

    Raises ValueError unless the tensors are exactly the expected ones, with finite values.
    """
    names = {ours: head_name_in_file(ours, group_norm) for ours in shapes}
    expected = {names[ours]: shape for ours, shape in shapes.items()}
    check_shapes(shapes_of(tensors), expected, f"{source} is not a complete {what}")
    state = {ours: plain_values(tensors[theirs], f"{theirs} in {source}") for ours, theirs in names.items()}
    check_finite(state, source, names)
    return state


def shapes_of_variant(model: str, options: Mapping[str, Any], num_classes: int | None) -> Shapes:
    """Names and shapes of a backbone's parameters and buffers, without a classifier if num_classes is None."""
    if model not in BACKBONES:
        raise ValueError(f"no backbone is called {quoted(model)}")
    with torch.device("meta"):
        network = create_backbone(model, features_only=num_classes is None, num_classes=num_classes or 1, **options)
    return shapes_of(network.state_dict())


def classes_in(head: Iterable[Tensor]) -> int | None:
    """Number of classes of a classifier from its weight or bias, None without either."""
    for tensor in head:
        return max((1, *tensor.shape[:1]))
    return None


def plain_values(tensor: Tensor, what: str) -> Tensor:
    """A float32 copy of a tensor. ValueError if a hostile file made it claim values that it does not have."""
    if not has_values(tensor):
        raise ValueError(f"{line(what, 300)} must be a dense tensor of {tensor.numel()} real numbers")
    return tensor.detach().to(torch.float32, copy=True).contiguous()


def _match(scheme: Scheme, tensors: Mapping[str, Tensor], frozen: bool, source: str) -> tuple[str, dict[str, str]]:
    """The variant with the most similar tensors, and the file's name for each of ours. ValueError unless all match."""
    head = head_names(scheme.models[0])
    classes = classes_in(tensors[theirs] for name in head if (theirs := scheme.name_in_file(name)) in tensors)
    shapes = shapes_of(tensors)
    if scheme.counter_divides:
        shapes = {name: () if name.endswith(_COUNTERS) and shape == (1,) else shape for name, shape in shapes.items()}
    best: tuple[int, str, dict[str, str], Shapes] | None = None
    for model in scheme.models:
        own = shapes_of_variant(model, scheme.options, classes)
        names = {ours: scheme.name_in_file(ours) for ours in own if not (frozen and ours.endswith(_COUNTERS))}
        expected = {theirs: own[ours] for ours, theirs in names.items()}
        distance = len(shapes.items() ^ expected.items())
        if best is None or distance < best[0]:
            best = distance, model, names, expected
    assert best is not None
    _, model, names, expected = best
    check_shapes(shapes, expected, f"{source} is not a complete {model} of {scheme.title}")
    return model, names


def _convert_statistics(state: dict[str, Tensor], scheme: Scheme, frozen: bool) -> None:
    """Convert statistics to those of our batch norm, in place: divide by the factor, adapt to our eps, count."""
    eps = scheme.eps if scheme.frozen_eps is None or not frozen else scheme.frozen_eps
    for norm in [name.removesuffix("running_var") for name in state if name.endswith("running_var")]:
        mean, variance = state[norm + "running_mean"], state[norm + "running_var"]
        counter = state.get(norm + "num_batches_tracked", torch.zeros(()))
        if scheme.counter_divides:
            mean /= counter
            variance /= counter
            counter = torch.zeros(())
        if eps != scheme.our_eps:
            state[norm + "weight"] *= ((variance + scheme.our_eps) / (variance + eps)).sqrt()
        state[norm + "num_batches_tracked"] = counter.to(torch.int64)
