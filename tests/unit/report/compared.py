"""Comparisons made by hand, for the tests of what shows them."""

from __future__ import annotations

from collections import Counter

from PIL import Image

from vovnet.report.comparison import AnnotatedImage, Annotator, ComparedImage, Comparison, Tally

HOSTILE = "</title><script>alert(1)</script><img src=x onerror=alert(2)>"
TRUTH, ONE, OTHER = (40, 160, 40), (160, 40, 40), (40, 40, 160)  # colours


def annotated(colour: tuple[int, int, int], size: tuple[int, int], *mistakes: int, **classes: int) -> AnnotatedImage:
    return AnnotatedImage(Image.new("RGB", size, colour), Tally(Counter(classes), *mistakes))


def comparison() -> Comparison:
    """Ground truth and two detectors on a broad and a high image.

    The second detector, a class and the second image have the hostile name.
    """
    annotators = (Annotator("ground truth", None), Annotator("bccd", "bccd"), Annotator(HOSTILE, "runs/other"))
    broad, high = (640, 480), (320, 640)
    images = (
        ComparedImage("a.jpg", "in/a.jpg", (
            annotated(TRUTH, broad, RBC=3),
            annotated(ONE, broad, 1, 2, RBC=4),
            annotated(OTHER, broad, **{HOSTILE: 1}),
        )),
        ComparedImage(HOSTILE, f"in/{HOSTILE}", (
            annotated(TRUTH, high, RBC=1, WBC=1),
            annotated(ONE, high, 0, 0, RBC=1, WBC=1),
            annotated(OTHER, high),
        )),
    )  # fmt: skip
    return Comparison(annotators, images, 0.6)
