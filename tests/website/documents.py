"""The documents of the repository as GitHub shows them, and the pages of the site as a browser reads them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "samples/*.md", "runtime/*.md", "website/*.md", ".github/**/*.md")
    for path in ROOT.glob(pattern)
)
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
COUNTED = ("table", "tr", "li", "pre", "h1", "h2", "h3", "img")


def tokens(document: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse((ROOT / document).read_text(encoding="utf-8"))


def inline(document: Path) -> Iterator[Token]:
    for token in tokens(document):
        yield from token.children or ()


def links(document: Path) -> Iterator[str]:
    """Where the links and images of a document lead, as they are written."""
    for token in inline(document):
        target = token.attrGet("href") if token.type == "link_open" else token.attrGet("src")
        if target is not None:
            yield str(target)


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a document."""
    seen: Counter[str] = Counter()
    found = set()
    parsed = tokens(document)
    for opening, content in pairwise(parsed):
        if opening.type == "heading_open":
            text = "".join(token.content for token in content.children or () if token.type in ("text", "code_inline"))
            slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return found


def counts(document: Path) -> dict[str, int]:
    """How many tables, rows, items, blocks of code, headings and images GitHub shows."""
    kinds = Counter(token.tag for token in tokens(document) if token.nesting == 1)
    kinds["pre"] += sum(token.type in ("fence", "code_block") for token in tokens(document))
    kinds["img"] += sum(token.type == "image" for token in inline(document))
    return {tag: kinds[tag] for tag in COUNTED}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    in_article: bool


@dataclass
class Reader(HTMLParser):
    """The elements of a page; those in its article are what its document holds."""

    elements: list[Element] = field(default_factory=list)
    depth: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "article" or (self.depth and tag not in VOID):
            self.depth += 1
        self.elements.append(Element(tag, {name: value or "" for name, value in attributes}, self.depth > 0))

    def handle_endtag(self, tag: str) -> None:
        if self.depth and tag not in VOID:
            self.depth -= 1


@cache
def elements(page: Path) -> list[Element]:
    reader = Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    return reader.elements
