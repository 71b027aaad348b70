"""A library that is not there is named in one sentence, with how to install it."""

from __future__ import annotations

import sys

import pytest

from vovnet.errors import install_extra

from .both_kinds import make


@pytest.mark.parametrize("library", ["supervision", "pandas", "fiftyone"])
@pytest.mark.parametrize("kind", ["tensors", "arrays"])
def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, library: str, kind: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModuleNotFoundError) as caught:
        getattr(make(kind), f"to_{library}")()
    assert str(caught.value) == f"to_{library}() needs an extra: {install_extra(library)}"


def test_a_library_that_is_broken_says_so_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError("No module named 'dateutil'", name="dateutil")

    monkeypatch.setattr("vovnet.exchange.extra.import_module", fail)
    with pytest.raises(ModuleNotFoundError, match="No module named 'dateutil'"):
        make("arrays").to_pandas()
