"""The links between the documents lead somewhere, and those to other hosts are well-formed. Nothing is requested."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from . import documents
from .documents import DOCUMENTS, ROOT

SOURCES = [path.relative_to(ROOT) for path in sorted((ROOT / "src").rglob("*.py"))]


def fault(document: Path, link: str) -> str | None:
    """What is wrong with a link; None for a good one."""
    url = urlsplit(link)
    if url.scheme == "mailto":
        return None
    if url.scheme or url.netloc:
        good = url.scheme in ("http", "https") and re.fullmatch(r"[\w-]+(\.[\w-]+)+", url.netloc)
        return None if good and not re.search(r"[\s<>]|[.,]$", link) else "is no URL of a page"
    target = document.parent / unquote(url.path) if url.path else document
    if not (ROOT / target).exists():
        return "leads to no file"
    if url.fragment and url.fragment not in documents.anchors(target):
        return "leads to no heading"
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_somewhere(document: Path) -> None:
    faults = {link: fault(document, link) for link in documents.links(document)}
    assert {link: why for link, why in faults.items() if why} == {}


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("docs/train.md#default-boxes", None),
        ("docs/train.md#default-boxs", "leads to no heading"),
        ("#install", None),
        ("docs/trian.md", "leads to no file"),
        ("https://arxiv.org/abs/1904.09730", None),
        ("https://arxiv.org/abs/1904.09730,", "is no URL of a page"),
        ("https://arxiv", "is no URL of a page"),
        ("ftp://arxiv.org/x", "is no URL of a page"),
    ],
)
def test_a_bad_link_is_noticed(link: str, expected: str | None) -> None:
    assert fault(Path("README.md"), link) == expected


def test_links_are_found() -> None:
    found = list(documents.links(Path("README.md")))
    assert {"docs/detections.jpg", "docs/train.md", "https://arxiv.org/abs/1904.09730"} <= set(found)


def test_documents_that_the_code_names_exist() -> None:
    """Messages of the commands and docstrings say where to read on."""
    named = {
        name for source in SOURCES for name in re.findall(r"\bdocs/[\w-]+\.md\b", (ROOT / source).read_text("utf-8"))
    }
    assert "docs/limits.md" in named
    assert {name for name in named if not (ROOT / name).exists()} == set()
