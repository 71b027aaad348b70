from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Name of one of `MODELS` of onnx_files.py → the model, exported at its first use."""
    pytest.importorskip("onnxscript")
    from .onnx_files import export

    return cache(partial(export, folder=tmp_path_factory.mktemp("exported")))


@pytest.fixture(autouse=True)
def _same_random_numbers_each_time() -> None:
    random.seed(1)
