"""Which subjects names choose, and that listing them is quick."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vovnet.errors import UsageError
from vovnet.paper.subjects import SUBJECTS, choose


def test_names():
    assert choose(["claims", "table2", "claims"]) == ["table2", "claims"]
    assert choose(["all"]) == list(SUBJECTS)
    with pytest.raises(UsageError, match=r"no subject of the paper is called 'tabel2', did you mean 'table2'\?"):
        choose(["tabel2"])


def test_the_list_of_subjects_does_not_wait_for_torch():
    code = "import vovnet.paper.subjects, sys; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "vovnet" in loaded
    assert not {"torch", "numpy", "matplotlib"} & set(loaded)
