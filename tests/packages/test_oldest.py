"""constraints-oldest.txt, with which `make oldest` runs the tests, has the lower bounds of pyproject.toml."""

from __future__ import annotations

import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .conftest import ROOT

OURS = {"all", "dev", "docs"}  # what others have together, and tools that vovnet does not need


def lower_bounds(project: str) -> dict[str, str]:
    """Package → its oldest allowed version."""
    settings = tomllib.loads((ROOT / project).read_text(encoding="utf-8"))["project"]
    groups = {name: group for name, group in settings["optional-dependencies"].items() if name not in OURS}
    extras = [requirement for group in groups.values() for requirement in group]
    bounds: dict[str, str] = {}
    for requirement in map(Requirement, [*settings["dependencies"], *extras]):
        (bound,) = requirement.specifier
        assert bound.operator == ">=", f"{requirement} needs a lower bound and no other"
        assert bounds.setdefault(requirement.name, bound.version) == bound.version, f"two bounds of {requirement.name}"
    return bounds


def test_the_constraints_are_the_lower_bounds() -> None:
    text = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8")
    comment, *lines = text.splitlines()
    assert comment.startswith("# ")
    bounds = lower_bounds("pyproject.toml")
    assert lines == [f"{name}=={version}" for name, version in sorted(bounds.items(), key=lambda item: item[0].lower())]


def test_what_ci_tests_is_pinned_and_no_older() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    lines = re.findall(r"^([\w-]+)==(.+)$", text, re.MULTILINE)
    pinned = {canonicalize_name(name): version for name, version in lines}
    assert len(pinned) == len(lines), "a package has two lines"
    bounds = lower_bounds("pyproject.toml")
    assert {name for name in bounds if canonicalize_name(name) not in pinned} == {"fiftyone"}  # which dev lacks
    for name in bounds.keys() - {"fiftyone"}:
        assert Requirement(f"{name}>={bounds[name]}").specifier.contains(pinned[canonicalize_name(name)]), name


def test_the_runner_asks_for_what_vovnet_asks_for() -> None:
    ours, runner = lower_bounds("pyproject.toml"), lower_bounds("runtime/pyproject.toml")
    assert {name for name, version in runner.items() if ours[name] != version} <= {"onnxruntime"}
