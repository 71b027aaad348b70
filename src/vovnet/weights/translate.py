"""A VoVNet's tensors under another source's names → its variant, and the tensors under ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vovnet.models.backbones.vovnet import TABLE_1, VOVNET_V2, VoVNet
from vovnet.weights.names import SOURCES, Scheme, head_name_in_file, recognise

VARIANTS = TABLE_1 | VOVNET_V2
Shapes = dict[str, tuple[int, ...]]

_EPS = 1e-5  # of our norms
_COUNTERS = ("num_batches_tracked", "/bn.2")
_HEAD = ("head.weight", "head.bias")


@dataclass(frozen=True)
class Translation:
    """What a file of another source holds.

    scheme: whose names it uses; model, options, state: the backbone in our words; pixels: see `Scheme`; norm: "batch",
    "group", or "frozen batch" (statistics that count no steps, which become those of a batch norm); set_aside: tensors
    of a detector's other parts by the beginning of their names.
    """

    scheme: str
    model: str
    options: Mapping[str, Any]
    pixels: Mapping[str, Any]
    norm: str
    state: dict[str, Tensor]
    set_aside: Mapping[str, int]


def translate(tensors: Mapping[str, Tensor], source: str) -> Translation:
    """Find out what the file `source` holds. Raises ValueError unless every tensor of one of our variants is there,
    with its shape and finite values, and no other; a detector's other parts do not count."""
    scheme = recognise(tensors)
    if scheme is None:
        raise ValueError(
            f"{source} must name its tensors like a VoVNet of {', '.join(SOURCES[:-1])} or {SOURCES[-1]}, "
            f"but has {listed(tensors)}"
        )
    others = {name for name in tensors if "backbone." in scheme.prefix and not name.startswith(scheme.prefix)}
    backbone = {name: tensor for name, tensor in tensors.items() if name not in others}
    frozen = not scheme.counter_divides and not any(name.endswith(_COUNTERS) for name in backbone)

    model, names = _match(scheme, backbone, frozen, source)
    state = {ours: plain_values(backbone[theirs], f"{theirs} in {source}") for ours, theirs in names.items()}
    if scheme.options["norm"] == "batch":
        _settle_statistics(state, scheme, frozen)
    _check_finite(state, names, source)
    return Translation(
        scheme=scheme.title,
        model=model,
        options=scheme.options,
        pixels=scheme.pixels_of.get(model, scheme.pixels),
        norm="frozen batch" if frozen and scheme.options["norm"] == "batch" else scheme.options["norm"],
        state=state,
        set_aside=dict(sorted(Counter(".".join(name.split(".")[:2]) for name in others).items())),
    )


def translate_heads(
    tensors: Mapping[str, Tensor], shapes: Shapes, group_norm: bool, source: str, what: str
) -> dict[str, Tensor]:
    """A detector's tensors after the backbone out of a file of VoVNet-Detectron, under our names.

    tensors: all but the backbone's; shapes: of our parameters. Raises ValueError, calling the detector `what`, unless
    every one is there, with its shape and finite values, and no other.
    """
    names = {ours: head_name_in_file(ours, group_norm) for ours in shapes}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    check_shapes(found, {names[ours]: shape for ours, shape in shapes.items()}, f"{source} is no whole {what}")
    state = {ours: plain_values(tensors[theirs], f"{theirs} in {source}") for ours, theirs in names.items()}
    _check_finite(state, names, source)
    return state


def shapes_of(model: str, options: Mapping[str, Any], num_classes: int | None) -> Shapes:
    """Our names and shapes of a variant's parameters and buffers; no classifier where num_classes is None."""
    with torch.device("meta"):
        network = VoVNet(
            VARIANTS[model], features_only=num_classes is None, num_classes=num_classes or 1, init="xavier", **options
        )
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def classes_in(head: Iterable[Tensor]) -> int | None:
    """Classes of a classifier, from its weight or its bias; None without either."""
    for tensor in head:
        return max((1, *tensor.shape[:1]))
    return None


def check_shapes(found: Shapes, expected: Shapes, what: str) -> None:
    """ValueError with the first differences, `what` being "FILE is no whole vovnet39"."""
    differences = {
        "missing": expected.keys() - found.keys(),
        "left over": found.keys() - expected.keys(),
        "of another shape": {name for name in found.keys() & expected.keys() if found[name] != expected[name]},
    }
    if any(differences.values()):
        raise ValueError(f"{what}: " + ", ".join(f"{kind} {listed(n)}" for kind, n in differences.items() if n))


def listed(names: Iterable[str]) -> str:
    """The first three names and how many more there are."""
    names = sorted(names)
    shown = [name[:80] if name.isprintable() else ascii(name[:80]) for name in names[:3]]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return " ".join(shown) + more if names else "none"


def plain_values(tensor: Tensor, what: str) -> Tensor:
    """A tensor of our own in float32. A hostile file's may claim more values than it has, or none at all."""
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not plain or tensor.is_complex() or tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise ValueError(f"{what} must hold plain numbers, one for each of its {tensor.numel()} places")
    return tensor.detach().to(torch.float32, copy=True).contiguous()


def _match(scheme: Scheme, tensors: Mapping[str, Tensor], frozen: bool, source: str) -> tuple[str, dict[str, str]]:
    """The variant that the tensors are nearest to, which they must be, and for each of our names the file's."""
    classes = classes_in(tensors[theirs] for name in _HEAD if (theirs := scheme.name_in_file(name)) in tensors)
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if scheme.counter_divides:
        found = {name: () if name.endswith(_COUNTERS) and shape == (1,) else shape for name, shape in found.items()}
    best: tuple[int, str, dict[str, str], Shapes] | None = None
    for model in TABLE_1 if scheme.options["ese"] == "none" else VOVNET_V2:
        shapes = shapes_of(model, scheme.options, classes)
        names = {ours: scheme.name_in_file(ours) for ours in shapes if not (frozen and ours.endswith(_COUNTERS))}
        expected = {theirs: shapes[ours] for ours, theirs in names.items()}
        distance = len(found.items() ^ expected.items())
        if best is None or distance < best[0]:
            best = distance, model, names, expected
    assert best is not None
    _, model, names, expected = best
    check_shapes(found, expected, f"{source} is no whole {model} of {scheme.title}")
    return model, names


def _check_finite(state: Mapping[str, Tensor], names: Mapping[str, str], source: str) -> None:
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{source} cannot be used: {names.get(name, name)} gives values that are not finite")


def _settle_statistics(state: dict[str, Tensor], scheme: Scheme, frozen: bool) -> None:
    """Statistics as our batch norm takes them: divided, with a counter, and for our eps."""
    for norm in [name.removesuffix("running_var") for name in state if name.endswith("running_var")]:
        mean, variance = state[norm + "running_mean"], state[norm + "running_var"]
        counter = state.get(norm + "num_batches_tracked", torch.zeros(()))
        if scheme.counter_divides:
            mean /= counter
            variance /= counter
            counter = torch.zeros(())
        elif frozen:
            state[norm + "weight"] *= ((variance + _EPS) / (variance + scheme.frozen_eps)).sqrt()
        state[norm + "num_batches_tracked"] = counter.to(torch.int64)
