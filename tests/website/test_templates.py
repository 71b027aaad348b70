"""The forms of issues are as GitHub reads them, and what they ask to run exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from vovnet.cli.main import app

from .documents import ROOT

FOLDER = ROOT / ".github/ISSUE_TEMPLATE"
FORMS = sorted(path for path in FOLDER.glob("*.yml") if path.name != "config.yml")
ATTRIBUTES = {
    "markdown": {"value"},
    "textarea": {"label", "description", "placeholder", "value", "render"},
    "input": {"label", "description", "placeholder", "value"},
    "dropdown": {"label", "description", "multiple", "options", "default"},
}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_forms_have_the_fields_that_github_reads(form: Path) -> None:
    content = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= content.keys() <= {"name", "description", "body", "labels", "title"}
    ids = [part["id"] for part in content["body"] if part["type"] != "markdown"]
    assert ids
    assert len(ids) == len(set(ids))
    for part in content["body"]:
        assert part.keys() <= {"type", "id", "attributes", "validations"}
        assert part["attributes"].keys() <= ATTRIBUTES[part["type"]]
        assert part.get("validations", {}).keys() <= {"required"}
        assert part["attributes"].get("label") or part["type"] == "markdown"


def test_commands_that_the_forms_name_exist() -> None:
    named = {name for form in FORMS for name in re.findall(r"`vovnet (\w+)`", form.read_text(encoding="utf-8"))}
    assert named == {"versions"}
    assert named <= set(app)
