"""No page is broader than the window: what does not fit scrolls in a box of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vovnet.paper.folder import write_page as write_reproduction
from vovnet.paper.sources import Sources
from vovnet.paper.subjects import section_of
from vovnet.report import comparison_files
from vovnet.report.evaluation import write_evaluation
from vovnet.report.measurement_report import write_measurement_report

from ..unit.metrics.made import random_scene
from ..unit.report.compared import comparison
from ..unit.report.evaluated import evaluated
from ..unit.report.measured import latency, measurements
from .pages import HARD_TO_READ, open_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LONG = "/home/somebody/runs/" + "a_long_name_without_any_space_" * 8 + "/best.safetensors"
SPACED = "one model of many with a name of words " * 6

# Elements that reach outside the window though nothing around them scrolls or cuts them off, and boxes that cut off
# what cannot be scrolled to.
OUTSIDE = """() => {
  const faults = [], width = document.documentElement.clientWidth;
  const describe = (element) => `${element.tagName} ${element.className} “${element.textContent.slice(0, 40)}”`;
  const scrolls = (element) => ["auto", "scroll"].includes(getComputedStyle(element).overflowX);
  for (const element of document.body.querySelectorAll("*")) {
    if (element.parentElement.closest("svg")) continue;
    const { left, right, width: own } = element.getBoundingClientRect();
    let around = element.parentElement;
    while (around !== document.body && !scrolls(around)) around = around.parentElement;
    if (around === document.body && own && (left < -1 || right > width + 1))
      faults.push(`outside at ${Math.round(left)} to ${Math.round(right)}: ${describe(element)}`);
    const clips = getComputedStyle(element).overflowX;
    const hides = ["hidden", "clip"].includes(clips) && element.tagName !== "svg";
    if (hides && element.scrollWidth > element.clientWidth + 1)
      faults.push(`cut off: ${describe(element)}`);
  }
  const broad = document.documentElement.scrollWidth;
  if (broad > width) faults.push(`the page is ${broad} pixels broad`);
  return faults;
}"""


def measured(folder: Path) -> Path:
    """With every column and plot, many batch sizes, and long names."""
    first, second, third = measurements()
    sizes = {2**power: latency(1.0 + power) for power in range(12)}
    rows = [replace(first, name=LONG, batches=sizes), replace(second, ratio_to=LONG), replace(third, name=SPACED)]
    write_measurement_report(rows, folder)
    return folder / "measurement.html"


def compared(folder: Path) -> Path:
    made = comparison()
    images = tuple(replace(image, name=name) for image, name in zip(made.images, (LONG, SPACED), strict=True))
    annotators = tuple(replace(annotator, name=LONG, weights=LONG) for annotator in made.annotators)
    comparison_files.write_page(replace(made, images=images, annotators=annotators), folder / "comparison.html")
    return folder / "comparison.html"


def reproduced(folder: Path) -> Path:
    sources = Sources(Path("docs/records"), folder, [], None, {}, "cpu", lambda what: None)
    sections = [section_of(name, sources) for name in ("table2", "table4", "table6", "claims")]
    write_reproduction(sections, folder / "reproduction.html")
    return folder / "reproduction.html"


def evaluation(folder: Path) -> Path:
    """Of many classes with long names."""
    detections, targets = random_scene(1, images=16, classes=12)
    names = [LONG, SPACED, *(f"class_{number}" for number in range(10))]
    write_evaluation(evaluated(detections, targets, names, folder, "a_long_name_" * 12), folder / "out")
    return folder / "out" / "evaluation.html"


@pytest.fixture(scope="module", params=[measured, compared, reproduced, evaluation], ids=lambda write: write.__name__)
def page_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    write: Callable[[Path], Path] = request.param
    return write(tmp_path_factory.mktemp(write.__name__))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1300, 1920])
def test_nothing_lies_outside(browser: Browser, page_file: Path, width: int, scheme: str) -> None:
    with open_page(browser, page_file, viewport={"width": width, "height": 900}, color_scheme=scheme) as page:
        assert page.locator(".wide").count() > 0
        assert page.evaluate(OUTSIDE) == []
        assert page.evaluate(HARD_TO_READ, "body") == []
        for box in page.locator(".wide").all():  # to its last column
            box.evaluate("(box) => box.scrollTo(box.scrollWidth, 0)")
            last, around = box.locator("tr").first.locator("> *").last.bounding_box(), box.bounding_box()
            if last and around:  # not of a model that is not chosen
                assert last["x"] + last["width"] <= around["x"] + around["width"] + 1


def in_sight(page: Page) -> list[str]:
    """The titles of the tables whose last column is in sight without scrolling."""
    return page.evaluate(
        """() => [...document.querySelectorAll(".wide")].filter((box) => box.scrollWidth <= box.clientWidth)
            .map((box) => document.getElementById(box.getAttribute("aria-labelledby")).textContent)"""
    )


def test_on_a_desktop_all_columns_are_in_sight_whatever_the_names(browser: Browser, tmp_path: Path) -> None:
    with open_page(browser, measured(tmp_path), viewport={"width": 1300, "height": 900}) as page:
        groups = {"Counts of one pass", "Time", "Computation efficiency", "Memory", "Energy", "Accuracy"}
        assert groups <= set(in_sight(page))
    with open_page(browser, reproduced(tmp_path), viewport={"width": 1300, "height": 900}) as page:
        assert len(in_sight(page)) == page.locator(".wide").count()
