"""Any model by name: built-in, trained, exported, from timm or torchvision, or built by a function of the user."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from vovnet.errors import UsageError, did_you_mean
from vovnet.libraries import import_extra
from vovnet.names import DETECTORS, shipped_weights
from vovnet.urls import is_hub_name, is_url
from vovnet.weights.backbone import create_backbone
from vovnet.weights.detector import load_weights
from vovnet.zoo import BACKBONES, create_model, is_detector


def resolve_model(name: str, **options: Any) -> nn.Module:
    """A model by name; nothing is downloaded unless the name is a URL or one on the hub, or an option asks for it.

    name: tried in this order:
        "vovnet39", "dsod300_vovnet27_slim"             built-in, with random weights; also on a timm backbone:
                                                        "refinedet320_timm/convnext_tiny"
        "bccd"                                          weights that ship with the package
        "best.safetensors", "runs/cells", "https://…"   trained weights: a file, the folder of a run, a URL
        "hf:owner/name"                                 trained weights on the Hugging Face Hub
        "model.onnx"                                    an exported model
        "timm:NAME", "torchvision:NAME"                 with random weights
        "package.module:function"                       imported and called
      A file is recognised by its suffix, so a file called "vovnet39" does not hide the model of that name.
    options: for the function that builds the model. Built-in detectors have 20 classes unless `num_classes` is given.
        Trained and exported models take none.

    Raises ValueError for an unknown name, FileNotFoundError for a missing file, ModuleNotFoundError for a missing
    package.
    """
    if is_detector(name):
        return create_model(name, **{"num_classes": 20, **options})
    if name in BACKBONES or name.startswith("timm/"):
        return create_backbone(name, **options)
    trained = is_trained(name)
    if trained or Path(name).suffix == ".onnx":
        if options:
            raise UsageError(f"{name} takes no options, because its file states them; got {', '.join(options)}")
        if trained:
            return load_weights(name).model
        from vovnet.profiling.onnx.module import OnnxModule

        return OnnxModule(name)
    source, colon, rest = name.partition(":")
    if not colon:
        hint = 'models of other packages are called "timm:NAME", "torchvision:NAME" or "package.module:function"'
        raise _unknown(
            (*BACKBONES, *DETECTORS, *shipped_weights()), name, f"{hint}; files end in .safetensors or .onnx"
        )
    if source == "timm":
        return _timm(rest, options)
    if source == "torchvision":
        return _torchvision(rest, options)
    return _from_function(source, rest, options)


def is_trained(name: str) -> bool:
    """Whether `name` means trained weights, of which `vovnet.load` makes a `Detector`."""
    if is_detector(name) or name in BACKBONES:
        return False
    path = Path(name)
    file = path.suffix in (".safetensors", ".pt") or (path / "best.safetensors").is_file()
    return file or is_url(name) or is_hub_name(name) or name in shipped_weights()


def _timm(name: str, options: dict[str, Any]) -> nn.Module:
    timm = import_extra("timm", f"timm:{name}")
    if not timm.is_model(name):
        raise _unknown(timm.list_models(), name, "timm.list_models() lists them all", "timm:")
    return timm.create_model(name, **{"pretrained": False, **options})


def _torchvision(name: str, options: dict[str, Any]) -> nn.Module:
    from torchvision import models

    if name not in models.list_models():
        raise _unknown(models.list_models(), name, "torchvision.models.list_models() lists them all", "torchvision:")
    defaults = {"weights": None}
    if "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        defaults["weights_backbone"] = None  # detectors would download a backbone
    return models.get_model(name, **{**defaults, **options})


def _from_function(module_name: str, function_name: str, options: dict[str, Any]) -> nn.Module:
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module exists; one that it imports is missing
        nearest = did_you_mean(module_name, ("timm", "torchvision"))
        hint = "for a file in this folder set PYTHONPATH=."
        raise ModuleNotFoundError(f"no module is called {module_name!r}{nearest}: {hint}", name=error.name) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise _unknown(dir(module), function_name, "expected a function that returns an nn.Module", f"{module_name}:")
    try:
        model = function(**options)
    except TypeError as error:
        raise UsageError(f"{module_name}:{function_name} must be callable without arguments ({error})") from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"{module_name}:{function_name} must return an nn.Module, got {type(model).__name__}")
    return model


def _unknown(names: Iterable[str], name: str, hint: str, prefix: str = "") -> UsageError:
    return UsageError(f"no model is called {prefix + name!r}{did_you_mean(name, names, prefix)} ({hint})")
