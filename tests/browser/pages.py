"""Opening a page in the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@contextmanager
def open_page(browser: Browser, path: Path, *, ready: str = "body", **how: Any) -> Iterator[Page]:
    """The page, once it has an element that the CSS selector `ready` finds.

    When it is closed, it must have requested nothing, opened no dialog and written nothing to the console.
    """
    context = browser.new_context(offline=True, **how)
    faults: list[str] = []

    def dismiss(dialog: Any) -> None:
        faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def only_files(route: Any) -> None:
        if route.request.url.startswith("file://"):
            route.continue_()
        else:
            faults.append(f"request: {route.request.url}")
            route.abort()

    context.route("**/*", only_files)
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.on("console", lambda message: faults.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("dialog", dismiss)
    page.goto(path.as_uri())
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
