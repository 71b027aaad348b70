"""A library that is not there is named in one sentence, with how to install it."""

from __future__ import annotations

import sys
from pathlib import Path

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


def test_a_library_that_lacks_another_one_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pandas.py").write_text("import made_up_dateutil\n", encoding="utf-8")
    for module in [module for module in sys.modules if module.partition(".")[0] == "pandas"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match=r"pandas \S+ needs made_up_dateutil, .*: pip install pandas$"):
        make("arrays").to_pandas()
