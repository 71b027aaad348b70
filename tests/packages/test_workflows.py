"""The workflows call what exists, and test what the package says of itself. None of them runs here."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml

from .conftest import ROOT

FILES = [
    yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted((ROOT / ".github/workflows").glob("*.yml"))
]
JOBS: dict[str, dict[str, Any]] = {name: job for file in FILES for name, job in file["jobs"].items()}


def commands(name: str) -> list[str]:
    return [step["run"] for step in JOBS[name]["steps"] if "run" in step]


def project(folder: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", JOBS)
def test_targets_of_the_makefile_exist(name: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    called = [target for command in commands(name) for target in re.findall(r"\bmake ([\w-]+)", command)]
    assert set(called) <= targets
    assert called or len(commands(name)) == 2  # installs, and runs


@pytest.mark.parametrize("name", JOBS)
def test_versions_are_pinned_except_where_the_newest_are_wanted(name: str) -> None:
    """The Makefile pins by itself."""
    for command in commands(name):
        if '".[dev]"' in command:
            assert ("-c constraints.txt" in command) == (name != "newest")


def test_no_job_fetches_pytorch_with_cuda() -> None:
    assert {file["env"]["PIP_EXTRA_INDEX_URL"] for file in FILES} == {"https://download.pytorch.org/whl/cpu"}


@pytest.mark.parametrize(("folder", "name"), [(".", "tests"), ("runtime", "runner")])
def test_the_pythons_that_the_metadata_names_are_tested(folder: str, name: str) -> None:
    metadata = project(folder)["project"]
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(metadata["classifiers"]))
    tested = JOBS[name]["strategy"]["matrix"]["python"]
    assert tested[0] == named[0] == metadata["requires-python"].removeprefix(">=")
    assert name == "runner" or set(named) <= set(tested)


def test_both_distributions_are_built_by_a_hatchling_that_knows_their_licences() -> None:
    (first,), (second,) = (project(folder)["build-system"]["requires"] for folder in (".", "runtime"))
    assert first == second
    assert first in project(".")["project"]["optional-dependencies"]["dev"]
