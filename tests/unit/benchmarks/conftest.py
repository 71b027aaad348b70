"""The files of benchmarks, which are no package, by name."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

OWN = ("gpu", "gpu_stages", "shared")


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`import gpu_stages.record` finds benchmarks/gpu_stages inside a test, and no other test sees it."""
    monkeypatch.syspath_prepend("benchmarks")
    for name in [name for name in sys.modules if name.split(".")[0] in OWN]:
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in OWN]:
        del sys.modules[name]
