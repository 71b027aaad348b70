"""The page of a report in a real browser that has no network."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vovnet.profiling.speed import Latency
from vovnet.report.measurement_report import write_measurement_report

from ..unit.report.measured import measurements
from .pages import contrast, open_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
FULL = measurements()
FULL[1] = replace(FULL[1], name=HOSTILE, ratio_to=FULL[0].name)
FULL[2] = replace(FULL[2], energy=None)
opened = partial(open_page, ready="#model")


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_measurement_report(FULL, folder)
    return folder / "measurement.html"


def column(table: Locator, title: str) -> list[str]:
    """The texts of a column, from the first row to the last."""
    number = table.locator("thead th button").all_inner_texts().index(title) + 1
    return [text.strip() for text in table.locator(f"tbody tr > :nth-child({number})").all_inner_texts()]


def hover(page: Page, point: Locator) -> str:
    """What the browser shows for the element under a mouse in the middle of `point`."""
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    assert box is not None
    text = page.evaluate(
        """([x, y]) => {
          let element = document.elementFromPoint(x, y);
          while (element && !element.querySelector(":scope > title")) element = element.parentElement;
          return element ? element.querySelector(":scope > title").textContent : "";
        }""",
        [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2],
    )
    return str(text)


def models(page: Page, group: str) -> Locator:
    """The table of models with the columns of a group."""
    return page.locator("h3", has_text=group).locator("+ .wide table").first


def test_the_page_is_one_small_file_with_a_strict_policy(page_file: Path) -> None:
    text = page_file.read_text(encoding="utf-8")
    assert len(text.encode()) < 600_000
    policy = text.partition('http-equiv="Content-Security-Policy" content="')[2].partition('"')[0]
    assert "default-src &#x27;none&#x27;" in policy
    assert "script-src &#x27;sha256-" in policy
    assert "unsafe" not in policy.replace("style-src &#x27;unsafe-inline&#x27;", "")


def plots(page: Page) -> Locator:
    return page.locator("section", has=page.locator("h2", has_text="Plots")).locator("figure")


def test_plots_show_every_model(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file, viewport={"width": 1300, "height": 900}) as page:
        tradeoffs, roofline, stages, batches = plots(page).all()
        with_joules = 2
        assert tradeoffs.locator("title").count() == 3 + 3 + with_joules + with_joules  # (a) to (d)
        assert roofline.locator("title").count() == 3 + 1  # and the roof
        assert stages.locator("title").count() == 3 * 4
        assert batches.locator("title").count() == 3 * 4
        text = hover(page, tradeoffs.locator("g:has(> title)").first)
        assert text.startswith(FULL[0].name)
        assert "params (M): 3.526" in text
        assert "VOC07: 0.7480" in text
        dots = page.locator("section.choice > section:not([hidden]) figure").nth(1).locator(":has(> title)")
        assert "of the time (%)" in hover(page, dots.nth(dots.count() // 2))


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


def test_equal_digits_sort_by_what_they_leave_out(browser: Browser, tmp_path: Path) -> None:
    first, second, third = measurements()
    times = [Latency((ms / 1e3,) * 10) for ms in (1.00002, 1.00003, 1.00001)]
    measured = [replace(one, latency=time) for one, time in zip((first, second, third), times, strict=True)]
    write_measurement_report(measured, tmp_path)
    with opened(browser, tmp_path / "measurement.html") as page:
        table = models(page, "Time")
        assert {text.split()[0] for text in column(table, "median (ms)")} == {"1.000"}
        table.locator("thead th button", has_text="median").click()
        assert column(table, "model") == [third.name, first.name, second.name]


def test_the_results_are_in_sight(browser: Browser, tmp_path: Path) -> None:
    write_measurement_report(measurements(), tmp_path)
    with opened(browser, tmp_path / "measurement.html", viewport={"width": 1300, "height": 800}) as page:
        for group in ("Counts of one pass", "Time", "Computation efficiency", "Memory", "Accuracy"):
            box = models(page, group).locator("thead th").last.bounding_box()
            assert box is not None
            assert box["x"] + box["width"] < 1300, group
        box = layers(page).locator("thead th").last.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] < 1300


def test_rooflines_have_plain_ticks_and_say_what_the_roof_is(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        for figure in (plots(page).nth(1), page.locator("section.choice > section:not([hidden]) figure").nth(1)):
            assert "Roofline" in figure.locator("figcaption").inner_text()
            texts = figure.locator("text").all_text_contents()
            assert {text[0] for text in texts if text.isdigit()} >= {"1", "2", "5"}
            assert any("matrix product" in text for text in texts)


def layers(page: Page) -> Locator:
    """The section of the chosen model; those of other models are hidden."""
    return page.locator("section.choice > section:not([hidden])")


def test_the_layers_of_the_chosen_model(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        rows = layers(page).locator("tbody tr")
        assert rows.count() == len(FULL[0].cost.layers)
        page.select_option("#model", "2")
        assert rows.count() == len(FULL[2].cost.layers)
        table = layers(page).locator("table")
        table.locator("thead th button", has_text="time (ms)").click()
        times = [float(text) for text in column(table, "time (ms)")]
        assert times == sorted(times)
        assert layers(page).locator("figure").count() == 2
        assert layers(page).locator("figure svg").first.is_visible()


def test_a_hostile_name_is_only_a_name(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        assert column(models(page, "Time"), "model")[1] == HOSTILE
        page.select_option("#model", "1")
        assert page.locator("#model option").nth(1).inner_text() == HOSTILE
        assert layers(page).locator("h3").inner_text() == HOSTILE
        points = plots(page).first.locator("g:has(> title)")
        assert [hover(page, point).splitlines()[0] for point in points.all()[:3]] == [one.name for one in FULL]
        assert HOSTILE in plots(page).first.locator("text").all_text_contents()
        assert page.locator("img[src=x]").count() == 0
        assert page.evaluate("document.scripts.length") == 1


def test_a_script_that_got_in_would_not_run(browser: Browser, page_file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    text = page_file.read_text(encoding="utf-8")
    broken.write_text(text.replace("<main>", "<script>document.title = 'taken'</script><main>", 1), encoding="utf-8")
    with pytest.raises(AssertionError, match="Content Security Policy"), opened(browser, broken) as page:
        assert page.title() == "What 3 models cost"


def test_without_its_script_the_page_shows_all_layers(browser: Browser, page_file: Path) -> None:
    with open_page(browser, page_file, java_script_enabled=False) as page:
        assert page.locator("section.choice > section").count() == 3
        assert page.locator("section.choice > section").last.is_visible()
        assert page.locator("button, select").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read(browser: Browser, page_file: Path, scheme: str) -> None:
    with opened(browser, page_file, viewport={"width": 390, "height": 844}, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        ink, paper = page.evaluate(
            "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))"
        )
        assert contrast(ink, paper) > 7
        plot = plots(page).first.locator("svg")
        card = plot.evaluate("(svg) => getComputedStyle(svg).backgroundColor")
        axis = plot.locator("text").first.evaluate("(text) => getComputedStyle(text).fill")
        assert contrast(axis, card) > 7
        size = plot.locator("text").first.bounding_box()
        assert size is not None
        assert size["height"] > 8  # pixels
        assert page.locator("html").get_attribute("lang") == "en"
