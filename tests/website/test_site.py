"""The site holds what the documents hold, its links lead somewhere, and nothing in it comes from another host."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest

import vovnet
import vovnet.runtime

from . import documents
from .documents import ROOT, Element, elements

GOLDEN = ROOT / "tests/golden/public_names.txt"


def module_of_the_site(name: str) -> ModuleType:
    """A module of website/, which is no package."""
    pytest.importorskip("mkdocstrings", reason='mkdocstrings is not installed: pip install ".[docs]"')
    spec = importlib.util.spec_from_file_location(name, ROOT / f"website/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def pages(site: Path) -> dict[str, list[Element]]:
    """All but that for a wrong address, which does not know how deep that is."""
    return {
        path.relative_to(site).as_posix(): elements(path)
        for path in sorted(site.rglob("*.html"))
        if path.name != "404.html"
    }


def test_every_document_is_a_page(site: Path) -> None:
    places = module_of_the_site("repository").PLACES
    for document in documents.DOCUMENTS:
        if document.parts[0] != ".github":
            place = places.get(document.as_posix(), "/".join(document.parts[1:]))
            assert (site / place).with_suffix(".html").is_file(), f"{document} is not in the site"


def test_links_of_the_site_lead_somewhere(site: Path) -> None:
    found = pages(site)
    ids = {
        name: {element.attributes["id"] for element in page if "id" in element.attributes}
        for name, page in found.items()
    }
    faults, checked = [], 0
    for name, page in found.items():
        for element in page:
            link = element.attributes.get("href") or element.attributes.get("src") or ""
            url = urlsplit(link)
            if url.scheme or url.netloc or not link:
                continue
            target = (site / name).parent / unquote(url.path) if url.path else site / name
            target = target / "index.html" if target.is_dir() else target
            known = ids.get(target.resolve().relative_to(site.resolve()).as_posix())
            checked += 1
            if not target.is_file():
                faults.append(f"{name}: {link} leads to no file")
            elif url.fragment and known is not None and url.fragment not in known | {"__skip", "__search"}:
                faults.append(f"{name}: {link} leads to no heading")
    assert faults == []
    assert checked > 1000


def outside(page: list[Element]) -> list[str]:
    """What a browser would fetch from another host; what a reader follows is no part of it."""
    found = []
    for element in page:
        if element.tag == "a":
            continue
        for name in ("src", "srcset", "href", "poster", "data", "action", "style", "content"):
            value = element.attributes.get(name, "")
            if name == "content" and element.attributes.get("http-equiv", "").lower() != "refresh":
                continue
            if re.search(r"(^|[\s(\"',;])(https?:)?//", value):
                found.append(f"<{element.tag} {name}={value}>")
    return found


def test_nothing_comes_from_another_host(site: Path) -> None:
    assert {name: outside(page) for name, page in pages(site).items() if outside(page)} == {}
    sheets = list(site.rglob("*.css"))
    assert len(sheets) >= 3
    for sheet in sheets:
        text = sheet.read_text(encoding="utf-8")
        assert re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)\s]*", text) == [], sheet


@pytest.mark.parametrize(
    ("html", "count"),
    [
        ('<script src="https://cdn.example/x.js"></script>', 1),
        ('<link rel="stylesheet" href="//fonts.example/css">', 1),
        ('<p style="background: url(https://a.example/b.png)">', 1),
        ('<a href="https://arxiv.org/abs/1904.09730"><img src="a.png"></a>', 0),
    ],
)
def test_another_host_is_noticed(html: str, count: int, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(html)
    assert len(outside(elements(tmp_path / "page.html"))) == count


WRITTEN = [document for document in documents.DOCUMENTS if document.parts[0] not in (".github", "website")]


@pytest.mark.parametrize("document", WRITTEN, ids=str)
def test_the_site_shows_what_github_shows(site: Path, document: Path) -> None:
    """The two read Markdown differently: a list without a blank line before it, or what is inside an item."""
    place = module_of_the_site("repository").PLACES.get(document.as_posix(), "/".join(document.parts[1:]))
    page = [element for element in elements((site / place).with_suffix(".html")) if element.in_article]
    shown = {tag: sum(element.tag == tag for element in page) for tag in documents.COUNTED}
    assert shown == documents.counts(document)


def test_images_have_a_text(site: Path) -> None:
    images = [(name, element) for name, page in pages(site).items() for element in page if element.tag == "img"]
    assert len(images) > 10
    assert [name for name, image in images if not image.attributes.get("alt", "").strip()] == []


def text_of(page: Path) -> str:
    return re.sub(r"<[^>]*>", "", page.read_text(encoding="utf-8")).replace("&lt;", "<").replace("&gt;", ">")


def test_the_reference_has_every_command_and_option(site: Path) -> None:
    text = text_of(site / "reference/commands.html")
    assert "mkdocs" not in text  # in place of vovnet, where cyclopts takes the program that builds the site
    commands = [
        line.split() for line in GOLDEN.read_text().splitlines() if line.startswith(("vovnet ", "vovnet-runtime "))
    ]
    assert len(commands) > 15
    for words in commands:
        names = [word for word in words if not word.startswith("--") and not word.isupper()]
        assert " ".join(names) in text
        assert [option for option in words if option.startswith("--") and option not in text] == []


@pytest.mark.parametrize("name", [name for name in vovnet.__all__ if name != "__version__"])
def test_the_reference_has_every_public_name(site: Path, name: str) -> None:
    page = (site / "reference/python.html").read_text(encoding="utf-8")
    first = (getattr(vovnet, name).__doc__ or "").strip().splitlines()[0].rstrip(".")
    assert first.split("`")[0].replace('"', "&quot;") in page.replace('"', "&quot;")


def test_the_reference_has_the_runtime(site: Path) -> None:
    ids = {element.attributes.get("id") for element in elements(site / "reference/python.html")}
    assert {f"vovnet.runtime.{name}" for name in vovnet.runtime.__all__} <= ids


@pytest.fixture
def listed() -> Callable[[str, set[str]], str]:
    function: Callable[[str, set[str]], str] = module_of_the_site("docstrings").listed
    return function


def test_arguments_of_a_docstring_become_a_list(listed: Callable[[str, set[str]], str]) -> None:
    docstring = "What it gives.\n\nmodel: a network\n    of any kind.\nbatch, size: two numbers.\n\nRaises: nothing."
    expected = (
        "What it gives.\n\n- `model`: a network\n    of any kind.\n- `batch`, `size`: two numbers.\n\nRaises: nothing."
    )
    assert listed(docstring, {"model", "batch", "size"}) == expected
    assert listed("Note: this stays.", {"model"}) == "Note: this stays."
