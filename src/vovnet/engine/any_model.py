"""Any model by name: ours, timm's, torchvision's, or a function of the user's own."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable
from typing import Any

from torch import nn

from vovnet.errors import UsageError, did_you_mean
from vovnet.models.zoo import BACKBONES, DETECTORS, create_backbone, create_model


def resolve_model(name: str, **options: Any) -> nn.Module:
    """A model by name, with random weights; nothing is downloaded unless an option asks for it.

    name: one of ours ("vovnet39", "dsod300_vovnet27_slim"), "timm:NAME", "torchvision:NAME" (classifiers, detectors,
    segmentation), or "package.module:function", which is imported and called. options go to its builder; our detectors
    have 20 classes unless `num_classes` says otherwise.

    Raises ValueError for a name or module that is not there, ModuleNotFoundError where a package is missing.
    """
    source, colon, rest = name.partition(":")
    if not colon:
        return _ours(name, options)
    if source == "timm":
        return _timm(rest, options)
    if source == "torchvision":
        return _torchvision(rest, options)
    return _users(source, rest, options)


def _ours(name: str, options: dict[str, Any]) -> nn.Module:
    if name in DETECTORS:
        return create_model(name, **{"num_classes": 20, **options})
    if name in BACKBONES:
        return create_backbone(name, **options)
    hint = 'those of others are called "timm:NAME", "torchvision:NAME" or "package.module:function"'
    raise _unknown((*BACKBONES, *DETECTORS), name, hint)


def _timm(name: str, options: dict[str, Any]) -> nn.Module:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"timm:{name} needs an extra: pip install 'vovnet[compare]'", name=error.name
        ) from error
    if not timm.is_model(name):
        raise _unknown(timm.list_models(), name, "timm.list_models() names them all", "timm:")
    return timm.create_model(name, **{"pretrained": False, **options})


def _torchvision(name: str, options: dict[str, Any]) -> nn.Module:
    from torchvision import models

    if name not in models.list_models():
        raise _unknown(models.list_models(), name, "torchvision.models.list_models() names them all", "torchvision:")
    defaults = {"weights": None}
    if "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        defaults["weights_backbone"] = None  # detectors would download a backbone
    return models.get_model(name, **{**defaults, **options})


def _users(module_name: str, function_name: str, options: dict[str, Any]) -> nn.Module:
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there; what it imports is missing
        hint = "for a file in this folder set PYTHONPATH=."
        raise ModuleNotFoundError(f"no module is called {module_name!r}: {hint}", name=error.name) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise _unknown(
            dir(module), function_name, "a function that returns an nn.Module is expected", f"{module_name}:"
        )
    try:
        model = function(**options)
    except TypeError as error:
        raise UsageError(f"{module_name}:{function_name} must be callable without arguments ({error})") from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"{module_name}:{function_name} must return an nn.Module, got {type(model).__name__}")
    return model


def _unknown(names: Iterable[str], name: str, hint: str, prefix: str = "") -> UsageError:
    return UsageError(f"no model is called {prefix + name!r}{did_you_mean(name, names, prefix)} ({hint})")
