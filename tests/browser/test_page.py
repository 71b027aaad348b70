"""The page of a report in a real browser that has no network."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vovnet.report.page import write_page

from ..unit.report.measured import measurements
from .pages import contrast, open_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
FULL = measurements()
FULL[1] = replace(FULL[1], name=HOSTILE, ratio_to=FULL[0].name)
FULL[2] = replace(FULL[2], energy=None)
opened = partial(open_page, ready="document.querySelectorAll('.plot .main-svg').length > 0")


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(FULL, path)
    return path


def column(table: Locator, title: str) -> list[str]:
    """The texts of a column in the order in which they stand."""
    place = table.locator("thead th button").all_inner_texts().index(title) + 1
    return [text.strip() for text in table.locator(f"tbody tr > :nth-child({place})").all_inner_texts()]


def models(page: Page, group: str) -> Locator:
    """The table of models with the columns of a group."""
    return page.locator("h3", has_text=group).locator("+ .wide table")


def test_the_page_is_one_small_file_with_a_strict_policy(page_file: Path) -> None:
    text = page_file.read_text(encoding="utf-8")
    assert len(text.encode()) < 6_000_000
    policy = text.partition('http-equiv="Content-Security-Policy" content="')[2].partition('"')[0]
    assert "default-src &#39;none&#39;" in policy
    assert "script-src &#39;sha256-" in policy
    assert "unsafe" not in policy.replace("style-src &#39;unsafe-inline&#39;", "")
    assert [path.name for path in page_file.parent.iterdir()] == ["page.html"]


def test_plots_show_every_model(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        points = [plot.locator(".points path").count() for plot in page.locator("#figures .plot").all()]
        with_joules = 2
        assert points[:5] == [3, 3, with_joules, with_joules, 3]  # (a) to (d), roofline
        assert page.locator("#figures figure").count() == 7  # and stages, batches
        point = page.locator("#figures .points path").first
        point.scroll_into_view_if_needed()
        box = point.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_selector("#tip:not([hidden])")
        tip = page.locator("#tip").inner_text()
        assert tip.startswith(FULL[0].name)
        assert "params (M): 3.526" in tip
        assert "VOC07: 0.7480" in tip


def test_a_click_or_a_key_sorts_and_what_is_missing_comes_last(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        counts, energies = models(page, "Counts of one pass"), models(page, "Energy")
        head = counts.locator("thead th", has_text="params (M)")
        head.locator("button").click()
        assert column(counts, "params (M)") == ["2.543", "3.526", "11.69"]  # as text 11.69 came first
        assert head.get_attribute("aria-sort") == "ascending"
        head.locator("button").press("Enter")
        assert column(counts, "params (M)") == ["11.69", "3.526", "2.543"]
        assert head.get_attribute("aria-sort") == "descending"
        energy = energies.locator("thead th button", has_text="energy (J/image)")
        for _ in range(2):
            energy.click()
            assert column(energies, "energy (J/image)")[2] == "–"
        assert head.get_attribute("aria-sort") == "descending"  # each table has its own order
        counts.locator("thead th button", has_text="model").first.click()
        assert head.get_attribute("aria-sort") == "none"
        assert column(counts, "model")[1:] == ["mobilenet_v3_small", "vovnet27_slim"]


def test_the_results_are_in_sight(browser: Browser, tmp_path: Path) -> None:
    write_page(measurements(), tmp_path / "page.html")
    with opened(browser, tmp_path / "page.html", viewport={"width": 1280, "height": 800}) as page:
        for group, title in (("Time", "median (ms)"), ("Memory", "peak (MiB)"), ("Accuracy", "VOC07")):
            box = models(page, group).locator("thead th", has_text=title).bounding_box()
            assert box is not None
            assert box["x"] + box["width"] < 1280, group


def test_rooflines_have_plain_ticks_and_say_what_the_roof_is(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        for place in ("#figures", "#layer-figures"):
            figure = page.locator(f"{place} figure", has=page.locator("h3", has_text="Roofline"))
            ticks = figure.locator(".xtick text").all_text_contents()
            assert {tick[0] for tick in ticks if float(tick) >= 1} >= {"1", "2", "5"}
            assert "matrix product" in figure.locator("figcaption").inner_text()


def test_the_layers_of_the_chosen_model(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        rows = page.locator("#layer-table tbody tr")
        assert rows.count() == len(FULL[0].cost.layers)
        page.select_option("#model", "2")
        assert rows.count() == len(FULL[2].cost.layers)
        page.locator("#layer-table thead th button", has_text="time (ms)").click()
        times = [float(text) for text in column(page.locator("#layer-table"), "time (ms)")]
        assert times == sorted(times)
        assert page.locator("#layer-figures figure").count() == 2


def test_a_hostile_name_is_only_a_name(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        assert column(models(page, "Time"), "model")[1] == HOSTILE
        page.select_option("#model", "1")
        assert page.locator("#model option").nth(1).inner_text() == HOSTILE
        for point in page.locator("#figures .plot").first.locator(".points path").all():
            box = point.bounding_box()
            assert box is not None
            page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        assert page.locator("img[src=x]").count() == 0
        assert page.evaluate("document.scripts.length") == 3


def test_a_script_that_got_in_would_not_run(browser: Browser, page_file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    text = page_file.read_text(encoding="utf-8")
    broken.write_text(text.replace("<main>", "<script>document.title = 'taken'</script><main>", 1), encoding="utf-8")
    with pytest.raises(AssertionError, match="Content Security Policy"), opened(browser, broken) as page:
        assert page.title() == "What 3 models cost"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read(browser: Browser, page_file: Path, tmp_path: Path, scheme: str) -> None:
    with opened(browser, page_file, viewport={"width": 390, "height": 844}, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        ink, paper = page.evaluate(
            "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))"
        )
        assert contrast(ink, paper) > 7
        axis = page.locator("#figures .xtick text").first.evaluate("(text) => getComputedStyle(text).fill")
        assert contrast(axis, paper) > 7
        assert page.locator("html").get_attribute("lang") == "en"
