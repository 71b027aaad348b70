"""The page of a comparison in a real browser that has no network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vovnet.report.comparison_files import write_page

from ..unit.report.compared import HOSTILE, comparison
from .pages import contrast, open_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "comparison.html"
    write_page(comparison(), path)
    return path


def test_images_are_side_by_side_and_names_are_only_names(browser: Browser, page_file: Path) -> None:
    with open_page(browser, page_file, viewport={"width": 1280, "height": 800}) as page:
        assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
        for row in page.locator(".figures").all():
            boxes = [figure.bounding_box() for figure in row.locator("figure").all()]
            assert len(boxes) == 3
            assert len({box["y"] for box in boxes if box}) == 1
            assert all(box["width"] >= 300 for box in boxes if box)
        assert page.locator("h2").nth(2).inner_text() == HOSTILE
        assert page.evaluate("document.scripts.length") == 0
        assert page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read(browser: Browser, page_file: Path, scheme: str) -> None:
    with open_page(browser, page_file, viewport={"width": 390, "height": 844}, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        box = page.locator(".figures figure").first.bounding_box()
        assert box is not None
        assert box["width"] > 340
        ink, paper = page.evaluate(
            "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))"
        )
        assert contrast(ink, paper) > 7
        faint = page.locator("figcaption").first.evaluate("(text) => getComputedStyle(text).color")
        assert contrast(faint, paper) > 4.5
