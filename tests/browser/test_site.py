"""The site in a real browser that reaches no other host."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .pages import HARD_TO_READ, open_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# What reaches outside the window though nothing around it scrolls.
OUTSIDE = """() => {
  const width = document.documentElement.clientWidth, faults = [];
  const scrolls = (element) => ["auto", "scroll", "hidden"].includes(getComputedStyle(element).overflowX);
  for (const element of document.querySelectorAll("article *")) {
    const { right, width: own } = element.getBoundingClientRect();
    let around = element.parentElement;
    while (around.tagName !== "ARTICLE" && !scrolls(around)) around = around.parentElement;
    if (around.tagName === "ARTICLE" && own && right > width + 1)
      faults.push(`${element.tagName} ${element.textContent.slice(0, 40)}`);
  }
  const broad = document.documentElement.scrollWidth;
  if (broad > width) faults.push(`the page is ${broad} pixels broad`);
  return faults;
}"""

UNSEEN = "() => [...document.images].filter((image) => image.complete && !image.naturalWidth).map((image) => image.src)"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1300, "dark")])
def test_every_page_fits_and_can_be_read(browser: Browser, site: Path, address: str, width: int, scheme: str) -> None:
    paths = [path.relative_to(site).as_posix() for path in site.rglob("*.html")]
    names = sorted(set(paths) - {"404.html"})
    assert len(names) > 30
    look = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme}
    faults = {}
    with open_page(browser, f"{address}/index.html", ready="article", **look) as page:
        for name in names:
            page.goto(f"{address}/{name}")
            faults[name] = page.evaluate(OUTSIDE) + page.evaluate(HARD_TO_READ, "article")
            faults[name] += page.evaluate(UNSEEN)
    assert {name: found for name, found in faults.items() if found} == {}


def test_the_search_finds_a_page_without_a_network(browser: Browser, address: str) -> None:
    with open_page(browser, f"{address}/index.html", viewport={"width": 1300, "height": 844}) as page:
        page.locator("input.md-search__input").click()
        page.keyboard.type("score threshold")
        page.wait_for_selector(".md-search-result__item a", state="visible")
        targets = page.locator(".md-search-result__item a").evaluate_all("(links) => links.map((link) => link.href)")
        assert any("evaluate.html" in target for target in targets)


def test_it_opens_from_a_disk(browser: Browser, site: Path) -> None:
    """With its search too, for which browsers start no worker there."""
    with open_page(browser, site / "train.html", viewport={"width": 1300, "height": 844}, ready="article") as page:
        page.locator("nav.md-tabs a").filter(has_text="Deploy").click()
        page.wait_for_selector("article h1")
        assert page.url == (site / "export.html").as_uri()
        page.locator("input.md-search__input").click()
        page.keyboard.type("score threshold")
        page.wait_for_selector(".md-search-result__item a", state="visible")
