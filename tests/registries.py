"""Tests that register backbones in timm or torchvision leave no name behind for the tests after them."""

from __future__ import annotations

import importlib
from copy import copy

import pytest


@pytest.fixture
def own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registries of both libraries are copies for the time of a test."""
    for name in ("timm.models._registry", "torchvision.models._api"):
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        for key, value in vars(module).items():
            if key.startswith(("_model", "BUILTIN_MODELS")) and isinstance(value, dict | set):
                monkeypatch.setattr(module, key, copy(value))
