"""The figure and the page of a comparison: where images and names are, and that names of strangers stay text."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vovnet.report.comparison_files import (
    GAP,
    LABEL_HEIGHT,
    MARGIN,
    MIN_COLUMN_WIDTH,
    _fit_text,
    _font,
    draw_figure,
    lay_out,
    write_figure,
    write_page,
)
from vovnet.report.page import content_policy

from .compared import HOSTILE, ONE, OTHER, TRUTH, comparison
from .tags import Tags


@pytest.fixture
def tags(tmp_path: Path) -> Tags:
    write_page(comparison(), tmp_path / "comparison.html")
    return Tags((tmp_path / "comparison.html").read_text(encoding="utf-8"))


def test_it_needs_no_network_and_runs_nothing(tags: Tags) -> None:
    assert not {"script", "link", "iframe"} & {tag for tag, _ in tags.elements}
    policy = next(attrs["content"] for attrs in tags.of("meta") if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy == content_policy()
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:; ")
    assert not [
        attrs for _, attrs in tags.elements if attrs.get("href") or any(name.startswith("on") for name in attrs)
    ]


def test_images_are_in_it_with_their_sizes_and_what_they_show(tags: Tags) -> None:
    images = tags.of("img")
    assert len(images) == 6
    for attrs in images:
        source = attrs["src"] or ""
        assert source.startswith("data:image/jpeg;base64,")
        image = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
        assert (str(image.width), str(image.height)) == (attrs["width"], attrs["height"])
    assert images[1]["alt"] == "a.jpg by bccd: 4 RBC"
    assert images[5]["alt"] == f"{HOSTILE} by {HOSTILE}: nothing"


def test_hostile_names_stay_text(tags: Tags) -> None:
    texts = [text.strip() for text in tags.texts]
    assert texts.count(HOSTILE) == 2  # in the table of totals, and the name of an image
    assert f"{HOSTILE}: 1 detection" in texts  # the caption of an image
    assert f"1 {HOSTILE}" in texts  # a class
    assert f"ground truth, bccd, {HOSTILE}: side by side" in texts  # the title


# ---- the figure


def inked(figure: Image.Image, box: tuple[int, int, int, int]) -> bool:
    return bool((np.asarray(figure.crop(box)) < 128).any())


def test_layout_of_different_sizes() -> None:
    layout = lay_out([[(640, 480), (640, 480)], [(320, 640), (320, 640)], [(640, 100), (640, 100)]])
    assert layout.column_width == 640
    assert layout.lefts == [MARGIN, MARGIN + 640 + GAP]
    assert [row[0][0] - MARGIN for row in layout.corners] == [0, 160, 0]  # in the middle of the column
    heights = [480, 640, 100]
    for top, row in zip(layout.label_tops, layout.corners, strict=True):
        assert {y for _, y in row} == {top + LABEL_HEIGHT}
        assert row[1][0] - row[0][0] == 640 + GAP
    steps = np.diff(layout.label_tops).tolist()
    assert steps == [LABEL_HEIGHT + height + GAP for height in heights[:2]]
    assert layout.size == (2 * MARGIN + 2 * 640 + GAP, layout.label_tops[2] + LABEL_HEIGHT + 100 + MARGIN)


def test_columns_of_narrow_images_leave_room_for_their_headings() -> None:
    layout = lay_out([[(100, 640)]])
    assert layout.column_width == MIN_COLUMN_WIDTH
    assert layout.corners[0][0][0] == MARGIN + (MIN_COLUMN_WIDTH - 100) // 2


def test_images_headings_and_labels_are_where_the_layout_says() -> None:
    compared = comparison()
    layout = lay_out([[annotated.image.size for annotated in image.annotated] for image in compared.images])
    figure = draw_figure(compared)
    assert figure.size == layout.size
    for image, corners in zip(compared.images, layout.corners, strict=True):
        for annotated, (x, y), colour in zip(image.annotated, corners, (TRUTH, ONE, OTHER), strict=True):
            shown = figure.crop((x, y, x + annotated.image.width, y + annotated.image.height))
            assert (np.asarray(shown) == colour).all()
    for left in layout.lefts:
        assert inked(figure, (left, MARGIN, left + layout.column_width, layout.label_tops[0]))
        assert not inked(figure, (left + layout.column_width, 0, left + layout.column_width + GAP, MARGIN + 70))
    for top in layout.label_tops:
        assert inked(figure, (MARGIN, top, layout.size[0], top + LABEL_HEIGHT))


def test_long_and_odd_names_stay_one_line_within_their_width() -> None:
    font = _font("DejaVuSans.ttf", 20)
    assert _fit_text("short.jpg", font, 300) == "short.jpg"
    long = _fit_text("a/very/long/way/" * 10 + "to/the/end.jpg", font, 300)
    assert font.getlength(long) <= 300
    assert long.startswith("a/very")
    assert long.endswith("end.jpg")
    assert "…" in long
    assert _fit_text("a\nb\x1b[31m\udcff", font, 300) == "a�b�[31m�"


def test_the_suffix_chooses_the_format(tmp_path: Path) -> None:
    for name, format in (("figure.jpg", "JPEG"), ("figure.png", "PNG")):
        write_figure(comparison(), tmp_path / name)
        with Image.open(tmp_path / name) as figure:
            assert figure.format == format
