"""Opening a page in the tests, and what is read from it there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# Texts that are hard to read: less contrast to what is behind them than WCAG asks for (AA).
HARD_TO_READ = """(root) => {
  const parse = (text) => (text.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  const over = ([r, g, b, alpha = 1], under) => [r, g, b].map((part, i) => part * alpha + under[i] * (1 - alpha));
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255]);
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faults = new Set();
  for (const element of document.querySelectorAll(`${root}, ${root} *`)) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || element.closest("svg, script, style, option")) continue;
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const style = getComputedStyle(element), paper = behind(element), ink = over(parse(style.color), paper);
    const [low, high] = [luminance(ink), luminance(paper)].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5))
      faults.add(`${ratio.toFixed(2)}: <${element.tagName.toLowerCase()} class="${element.className}"> in ` +
        `${element.parentElement.tagName.toLowerCase()}.${element.parentElement.className} ${style.color}`);
  }
  return [...faults];
}"""


@contextmanager
def open_page(browser: Browser, place: Path | str, *, ready: str = "body", **how: Any) -> Iterator[Page]:
    """The page of a file or a local URL, once it has an element that the CSS selector `ready` finds.

    When it is closed, it must have requested nothing from elsewhere, opened no dialog and written nothing to the
    console.
    """
    url = place.as_uri() if isinstance(place, Path) else place
    origin = "file://" if isinstance(place, Path) else "/".join(url.split("/")[:3]) + "/"
    context = browser.new_context(offline=isinstance(place, Path), **how)
    faults: list[str] = []

    def dismiss(dialog: Any) -> None:
        faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def only_from_there(route: Any) -> None:
        if route.request.url.startswith((origin, "data:", "blob:")):
            route.continue_()
        else:
            faults.append(f"request: {route.request.url}")
            route.abort()

    context.route("**/*", only_from_there)
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.on("console", lambda message: faults.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("dialog", dismiss)
    page.goto(url)
    page.wait_for_selector(ready, state="attached")  # not a function: the policy forbids to evaluate its text
    yield page
    context.close()
    assert faults == [], faults


def contrast(first: str, second: str) -> float:
    """The WCAG contrast ratio of two colours like "rgb(1, 2, 3)"."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)
