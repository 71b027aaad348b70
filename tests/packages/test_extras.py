"""What a plain installation lacks is named in one sentence, with the line that installs it.

`make environments` tries the same in environments without these packages; here an import of them fails.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from .conftest import ROOT

IMPORTED_AS = {"nvidia-ml-py": "pynvml"}
WITH_RICH = "markdown-it-py"  # rich needs it, so every installation has it
# Runs each of the commands, one after the other, and prints what became of it.
PROGRAM = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from importlib.machinery import PathFinder
jobs = json.load(sys.stdin)

class Others(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in jobs["hidden"] else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Others
from vovnet.cli.main import main
outcomes = []
for job in jobs["jobs"]:
    out, err, status = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            if job["program"]:
                exec(job["program"], {})
            else:
                sys.argv = ["vovnet", *job["arguments"]]
                main()
        except SystemExit as stop:
            status = stop.code
    outcomes.append([status, out.getvalue(), err.getvalue()])
json.dump(outcomes, sys.stdout)
"""


@pytest.fixture(scope="module")
def listed() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        patch.delitem(sys.modules, "extras", raising=False)
        import extras

        return extras


@pytest.fixture(scope="module")
def outcomes(listed: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, int, str, str]]:
    """Each use of an extra, its exit status, and what it printed on stdout and stderr."""
    names = {
        re.split(r"[<>=;\[ ]", requirement)[0]
        for name, group in listed.extras().items()
        if name not in listed.COLLECTIVE
        for requirement in group
    }
    hidden = sorted(IMPORTED_AS.get(name, name) for name in names - {WITH_RICH})
    jobs = [{"arguments": use.arguments, "program": use.program} for use in listed.USES]
    folder = tmp_path_factory.mktemp("plain")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "VOVNET_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps({"hidden": hidden, "jobs": jobs}), cwd=folder,
        capture_output=True, text=True, env=environment, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [(use, *outcome) for use, outcome in zip(listed.USES, json.loads(done.stdout), strict=True)]


def test_each_extra_is_explained_and_tried(listed: ModuleType) -> None:
    tried = {use.extra for use in listed.USES}
    assert tried == listed.extras().keys() - listed.COLLECTIVE
    assert tried | {"all"} == listed.PURPOSES.keys()


def test_all_is_what_the_page_names(listed: ModuleType) -> None:
    assert listed.in_all() == set(re.findall(r"`(\w+)`", listed.PURPOSES["all"]))


def test_what_is_missing_is_one_sentence_with_the_line_that_installs_it(
    outcomes: list[tuple[Any, int, str, str]],
) -> None:
    for use, status, out, err in outcomes:
        line = f'pip install "vovnet[{use.extra}]"'
        if use.program:
            assert (status, err, out.count("\n")) == (0, "", 1), use
            assert line in out, use
        else:
            assert status in (1, 2), use
            assert err.count("\n") == 1, err
            assert err.startswith("vovnet: "), use
            assert line in err, use


def test_the_page_has_a_row_for_each(listed: ModuleType, tmp_path: Path) -> None:
    rows = [{"extra": name, "adds_mb": 1234.4, "adds_packages": 7} for name in listed.PURPOSES if name != "zeus"]
    (tmp_path / "environments.json").write_text(json.dumps({"vovnet": rows}), encoding="utf-8")
    table = listed.install_block(tmp_path)
    assert table.count("| 1,234 | 7 |") == len(rows)
    assert table.count("not measured yet") == 1
