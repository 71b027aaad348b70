"""CITATION.cff says what its format asks for, and what the package says of itself."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from typing import Any

import pytest
import yaml

import vovnet

from .documents import ROOT

# Of version 1.2.0 of the format, as far as the file uses it: https://citation-file-format.github.io
ENTITY = {"name", "website", "email", "alias"}
PERSON = {"family-names", "given-names", "orcid", "affiliation", "email"}
FILE = {
    "cff-version",
    "message",
    "title",
    "type",
    "abstract",
    "authors",
    "version",
    "license",
    "keywords",
    "references",
}
REFERENCE = {"type", "title", "authors", "year", "collection-title", "conference", "doi", "url", "identifiers", "scope"}


@pytest.fixture(scope="module")
def citation() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    return content


def test_it_has_the_fields_of_its_format(citation: dict[str, Any]) -> None:
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys() <= FILE
    assert citation["type"] == "software"
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= reference.keys() <= REFERENCE
        assert reference["type"] in {"article", "conference-paper", "software"}
        assert 1900 < reference["year"] <= date.today().year
        for identifier in reference.get("identifiers", []):
            assert identifier.keys() <= {"type", "value", "description"}
            assert identifier["type"] in {"doi", "url", "swh", "other"}
    for work in (citation, *citation["references"]):
        assert work["authors"]
        for author in work["authors"]:
            assert (author.keys() <= ENTITY and "name" in author) or (
                author.keys() <= PERSON and "family-names" in author
            )


def test_it_agrees_with_the_package(citation: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["title"] == project["name"]
    assert citation["license"] == project["license"]
    assert citation["version"] == vovnet.__version__
    assert citation["abstract"].strip().rstrip(".") == project["description"]


def test_it_cites_the_paper_that_the_readme_names(citation: dict[str, Any]) -> None:
    (paper,) = citation["references"]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"*{paper['title']}*" in readme
    (number,) = re.findall(r"arXiv (\d{4}\.\d{5})", readme)
    assert paper["url"] == f"https://arxiv.org/abs/{number}"
