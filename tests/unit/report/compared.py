"""Comparisons made by hand, for the tests of what shows them."""

from __future__ import annotations

from collections import Counter

from PIL import Image

from vovnet.report.comparison import Column, Comparison, Panel, Row, Tally

HOSTILE = "</title><script>alert(1)</script><img src=x onerror=alert(2)>"
TRUTH, ONE, OTHER = (40, 160, 40), (160, 40, 40), (40, 40, 160)  # colours by which a test knows the panels


def panel(colour: tuple[int, int, int], size: tuple[int, int], *mistakes: int, **classes: int) -> Panel:
    return Panel(Image.new("RGB", size, colour), Tally(Counter(classes), *mistakes))


def comparison(hostile: str = HOSTILE) -> Comparison:
    """Ground truth and two detectors on a broad and a high picture; the second detector, a class and the second picture
    have the hostile name."""
    columns = (Column("ground truth", None), Column("bccd", "bccd"), Column(hostile, "runs/other"))
    broad, high = (640, 480), (320, 640)
    rows = (
        Row("a.jpg", "in/a.jpg", (
            panel(TRUTH, broad, RBC=3),
            panel(ONE, broad, 1, 2, RBC=4),
            panel(OTHER, broad, **{hostile: 1}),
        )),
        Row(hostile, f"in/{hostile}", (
            panel(TRUTH, high, RBC=1, WBC=1),
            panel(ONE, high, 0, 0, RBC=1, WBC=1),
            panel(OTHER, high),
        )),
    )  # fmt: skip
    return Comparison(columns, rows, 0.6)
