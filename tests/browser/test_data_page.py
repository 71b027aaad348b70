"""The page of a dataset in a real browser that has no network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vovnet.cli.data_view import view

from ..unit.data.small_datasets import make_voc, voc_lines, xml_of
from .pages import HARD_TO_READ, contrast, open_page
from .test_layout import OUTSIDE

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_voc(tmp_path_factory.mktemp("page") / "data")
    name = HOSTILE.replace("<", "&lt;")
    (root / "Annotations/a.xml").write_text(xml_of((1, 1, 30, 20), name=name))
    voc_lines("b", (1, 1, 30, 20), (5, 5, 90, 30), name="dog")(root)
    (root / "JPEGImages/c.png").write_bytes(b"no image")
    view(root, output=root.parent / "out", images=8)
    return root.parent / "out" / "view.html"


@pytest.mark.parametrize("width", [390, 1300])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(browser: Browser, page_file: Path, width: int, scheme: str) -> None:
    with open_page(browser, page_file, viewport={"width": width, "height": 844}, color_scheme=scheme) as page:
        assert page.evaluate(OUTSIDE) == []
        assert page.evaluate(HARD_TO_READ, "body") == []
        assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
        panel = page.locator("figure").first.evaluate("(figure) => getComputedStyle(figure).backgroundColor")
        for text in ("figcaption", "figcaption li"):
            ink = page.locator(text).first.evaluate("(text) => getComputedStyle(text).color")
            assert contrast(ink, panel) > 4.5


def test_boxes_lie_over_their_image_and_problems_come_first(browser: Browser, page_file: Path) -> None:
    with open_page(browser, page_file, viewport={"width": 1300, "height": 844}) as page:
        figures = page.locator("figure")
        assert figures.count() == 8
        captions = [figures.nth(index).inner_text() for index in range(8)]
        assert "box-partly-outside" in captions[0]
        assert "unreadable-image" in captions[1]
        assert "no picture" in captions[1]
        assert not any("box-" in caption for caption in captions[2:])
        figure = figures.filter(has_text="JPEGImages/a.png")
        image, svg = (figure.locator(part).bounding_box() for part in ("img", "svg"))
        assert image
        assert svg
        assert image == pytest.approx(svg, abs=1)
        box = figure.locator("rect").bounding_box()
        assert box
        scale = image["width"] / 60
        assert box["width"] == pytest.approx(30 * scale, abs=3)
        assert HOSTILE in figure.inner_text()
        assert page.locator("img[src=x]").count() == 0


def test_the_filter_and_the_keys(browser: Browser, page_file: Path) -> None:
    with open_page(browser, page_file, viewport={"width": 1300, "height": 844}) as page:
        assert page.locator("#count").inner_text() == "8 of 8 images"
        page.select_option("#class", label="dog")
        assert page.locator("#count").inner_text() == "1 of 8 images"
        page.select_option("#class", label="all")
        page.check("#problems")
        assert page.locator("#count").inner_text() == "2 of 8 images"
        page.uncheck("#problems")
        page.locator("h1").click()
        page.keyboard.press("b")
        assert not page.locator("figure svg").first.is_visible()
        page.keyboard.press("b")
        assert page.locator("figure svg").first.is_visible()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        assert page.locator("figure.large").count() == 1
        assert "unreadable-image" in page.locator("figure.large").inner_text()
        page.keyboard.press("ArrowRight")
        assert "unreadable-image" not in page.locator("figure.large").inner_text()
        page.keyboard.press("Escape")
        assert page.locator("figure.large").count() == 0
        page.keyboard.press("c")
        assert page.locator("#class").input_value() != ""
