"""Our backbones in timm: after `register()`, `timm.create_model("vovnet39")` builds them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from vovnet.errors import UsageError, choose
from vovnet.libraries import import_extra
from vovnet.models.backbones.mobilenet import MobileNet
from vovnet.models.backbones.peleenet import PeleeNet
from vovnet.models.backbones.vovnet import VoVNet
from vovnet.models.layers import Init, init_weights
from vovnet.printing import quoted
from vovnet.zoo import BACKBONES

default_cfgs: dict[str, Any] = {}
"""timm looks here for what it says of a network: input size, normalisation, names of the first and last layer."""


def register() -> tuple[str, ...]:
    """Let timm know our backbones, and return their names there. A second call changes nothing.

    They are the VoVNets, MobileNet and PeleeNet. Of the others, dsod_densenet67 has no classifier, and timm has its own
    networks under the names of the rest. Parameters keep our names, so state dicts fit both ways.

    `timm.create_model` takes `num_classes` (0 gives the channel means), `in_chans`, `drop_rate`, `features_only` with
    `out_indices`, and the options of the backbone's class, such as `stem`. There are no pretrained weights: a file in
    our names can be given as `checkpoint_path`.

    Raises ModuleNotFoundError without timm.
    """
    timm = import_extra("timm", "vovnet.adapters.timm")
    names = []
    for name in BACKBONES:
        network = _parts(name)[0]
        if network not in _IN_TIMM:
            continue
        if not timm.is_model(name):
            settings = {
                "first_conv": _IN_TIMM[network].first_convolution,
                "classifier": "head",
                "input_size": (3, 224, 224),
                "pool_size": (7, 7),
            }
            default_cfgs.update(timm.models.generate_default_cfgs({name: settings}))
            timm.models.register_model(_entry_point(name))
        if timm.models.model_entrypoint(name).__module__ == __name__:
            names.append(name)
    return tuple(names)


def _parts(name: str) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The class of a backbone, and its fixed arguments."""
    builder = BACKBONES[name]
    return (builder.func, builder.args, builder.keywords) if isinstance(builder, partial) else (builder, (), {})


def _entry_point(name: str) -> Callable[..., nn.Module]:
    """The function that timm calls for a network, known by its name and its module."""

    def build(pretrained: bool = False, **options: Any) -> nn.Module:
        from timm.models import build_model_with_cfg

        # timm would rebuild a network for its feature maps, which gives its parameters other names.
        maps_only = options.pop("features_only", False)
        return build_model_with_cfg(partial(_build, name, maps_only), name, pretrained, **options)

    build.__name__ = build.__qualname__ = name
    return build


def _build(name: str, maps_only: bool, /, **options: Any) -> nn.Module:
    network, arguments, fixed = _parts(name)
    known = {
        option: parameter
        for adapted in (network, _Adapted)
        for option, parameter in inspect.signature(adapted).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and option != "maps_only"
    }
    for option in options:
        choose(known, option, f"option of {name} in timm")
    return _IN_TIMM[network](*arguments, maps_only=maps_only, **{**fixed, **options})


class _Adapted(nn.Module):
    """What timm's tools ask of a network, for a class of ours that has `features`, `channels`, `strides` and `head`.

    in_chans: channels of the input.
    drop_rate: share of the channel means that training drops before the classifier.
    maps_only: return feature maps, those of `out_indices`; None stands for all, a number for so many of the last.
    """

    first_convolution: str
    default_init: Init
    channels: Any
    strides: Any
    features: Any
    head: Any

    def __init__(
        self,
        *arguments: Any,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        global_pool: str = "avg",
        maps_only: bool = False,
        out_indices: int | Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        from timm.models import FeatureInfo

        if global_pool != "avg":
            raise UsageError(f"global_pool must be 'avg' in a backbone of vovnet, got {quoted(global_pool)}")
        has_classifier = num_classes > 0 and not maps_only
        super().__init__(*arguments, num_classes=num_classes or 1, features_only=not has_classifier, **options)
        self.maps_only = maps_only
        self.num_classes = num_classes if has_classifier else 0
        self.num_features = self.head_hidden_size = self.channels[-1]
        self.drop_rate = drop_rate
        if in_chans != 3:
            self._take_channels(in_chans, options.get("init", self.default_init))
        info = [
            {"num_chs": channels, "reduction": stride, "module": f"stages.{index}"}
            for index, (channels, stride) in enumerate(zip(self.channels, self.strides, strict=True))
        ]
        self.out_indices = _chosen(out_indices, self.strides)
        self.feature_info: Any = FeatureInfo(info, self.out_indices) if maps_only else info

    def _take_channels(self, count: int, init: Init) -> None:
        """Replace the first convolution by a new one for so many channels."""
        parent, _, name = self.first_convolution.rpartition(".")
        conv: Any = self.get_submodule(self.first_convolution)
        new = nn.Conv2d(count, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, bias=False)
        init_weights(new, init)
        setattr(self.get_submodule(parent), name, new)

    def forward(self, x: Tensor) -> list[Tensor] | Tensor:
        if self.maps_only:
            maps = self.features(x)
            return [maps[index] for index in self.out_indices]
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """The last feature map."""
        return self.features(x)[-1]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The logits of a feature map, or its channel means with `pre_logits` or without a classifier."""
        means = F.dropout(x.mean(dim=(2, 3)), self.drop_rate, self.training)
        return means if pre_logits or self.head is None else self.head(means)

    def get_classifier(self) -> nn.Linear | None:
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new classifier with random weights, or none for 0 classes."""
        if global_pool not in (None, "avg"):
            raise UsageError(f"global_pool must be 'avg' in a backbone of vovnet, got {quoted(global_pool)}")
        parameter = next(self.parameters())
        self.num_classes = num_classes
        self.head = None
        if num_classes:
            self.head = nn.Linear(self.num_features, num_classes, device=parameter.device, dtype=parameter.dtype)
            nn.init.zeros_(self.head.bias)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Which parameters belong together, for learning rates that fall from layer to layer."""
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)"}


def _chosen(out_indices: int | Sequence[int] | None, strides: Sequence[int]) -> tuple[int, ...]:
    """The indices of the feature maps that are asked for, from 0."""
    count = len(strides)
    if isinstance(out_indices, int):
        out_indices = range(-out_indices, 0)
    chosen = tuple(range(count) if out_indices is None else out_indices)
    if not chosen or not all(-count <= index < count for index in chosen):
        raise UsageError(
            f"out_indices must be from {-count} to {count - 1}, the feature maps of strides "
            f"{', '.join(map(str, strides))}, got {quoted(out_indices)}"
        )
    return tuple(index % count for index in chosen)


class _VoVNet(_Adapted, VoVNet):
    first_convolution = "stem.0.conv"
    default_init = "kaiming"


class _MobileNet(_Adapted, MobileNet):
    first_convolution = "stem.0.conv"
    default_init = "kaiming"


class _PeleeNet(_Adapted, PeleeNet):
    first_convolution = "stem.first.conv"
    default_init = "xavier"


_IN_TIMM: dict[Any, type[_Adapted]] = {VoVNet: _VoVNet, MobileNet: _MobileNet, PeleeNet: _PeleeNet}
