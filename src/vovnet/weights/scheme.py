"""How one source of checkpoints names the parts of a backbone, and what its weights presuppose."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Rules = tuple[tuple[str, str | Callable[..., str]], ...]
"""All are applied, in this order. A rule is a regular expression and its replacement, a text or a function of the
numbers in the match."""

IMAGENET_RGB = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375), "channel_order": "RGB"}


@dataclass(frozen=True)
class Scheme:
    """The naming scheme of one source of checkpoints.

    title: the source.
    models: names of the backbones that it has, see `vovnet.zoo.create_backbone`.
    rules: turn one of our names into one of the source's.
    options: options of the backbone that its weights require and their shapes do not show.
    pixels: `mean`, `std` and `channel_order` of the training images, as in `Preprocessing`.
    prefix: start of all names of the backbone in this file. A detector's other parts do not have it.
    pixels_of: `pixels` of the models that are an exception.
    eps, our_eps: what its batch norms and ours add to the variance.
    frozen_eps: what its frozen norms add instead; None if norms without step counters are ordinary ones, from a time
        before PyTorch had counters.
    counter_divides: whether a norm's statistics must be divided by what stands in place of the step counter, as in
        Caffe.
    classifier: regular expression for the names of a classifier that is left out, because ours has another form.
    """

    title: str
    models: tuple[str, ...]
    rules: Rules
    options: Mapping[str, Any]
    pixels: Mapping[str, Any]
    prefix: str = ""
    pixels_of: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    eps: float = 1e-5
    our_eps: float = 1e-5
    frozen_eps: float | None = None
    counter_divides: bool = False
    classifier: str | None = None

    def name_in_file(self, ours: str) -> str:
        """The file's name of one of our parameters or buffers."""
        return self.prefix + renamed(ours, self.rules)


def renamed(name: str, rules: Rules) -> str:
    """The name after all rules."""
    for pattern, replacement in rules:
        name = re.sub(pattern, _with_numbers(replacement), name)
    return name


def letter(number: int) -> str:
    """0 → a, 1 → b, …"""
    return chr(ord("a") + number)


def _with_numbers(replacement: str | Callable[..., str]) -> str | Callable[[re.Match[str]], str]:
    if isinstance(replacement, str):
        return replacement
    return lambda match: replacement(*map(int, match.groups()))
