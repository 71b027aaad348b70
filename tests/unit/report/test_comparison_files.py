"""The figure and the page of a comparison: where images and names are, and that names of strangers stay text."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vovnet.report.comparison import Annotator, ComparedImage, Comparison
from vovnet.report.comparison_files import (
    GAP,
    HEADINGS_HEIGHT,
    LABEL_HEIGHT,
    MARGIN,
    MIN_COLUMN_WIDTH,
    _fit_text,
    _font,
    draw_figure,
    write_figure,
    write_page,
)
from vovnet.report.page import content_policy

from ..small_disk import small_disk
from .compared import HOSTILE, annotated, comparison
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
    assert texts.count(HOSTILE) == 1  # the name of an image
    pieces = [f"{piece}/" for piece in HOSTILE.split("/")[:-1]] + [HOSTILE.rpartition("/")[2]]
    rows = zip(*(texts[number:] for number in range(len(pieces))), strict=False)
    assert tuple(pieces) in rows  # in the table of totals, where a line may break after a slash
    assert f"{HOSTILE}: 1 detection" in texts  # the caption of an image
    assert f"1 {HOSTILE}" in texts  # a class
    assert f"ground truth, bccd, {HOSTILE}: side by side" in texts  # the title


# ---- the figure


def inked(figure: Image.Image, box: tuple[int, int, int, int]) -> bool:
    return bool((np.asarray(figure.crop(box)) < 128).any())


def boxes(figure: Image.Image, compared: Comparison) -> list[list[tuple[int, int, int, int]]]:
    """Where each image is in the figure, by its colour: left, top, right, bottom."""
    pixels = np.asarray(figure)
    found = []
    for image in compared.images:
        row = []
        for shown in image.annotated:
            y, x = np.nonzero((pixels == shown.image.getpixel((0, 0))).all(axis=2))
            row.append((int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1))
        found.append(row)
    return found


def of_sizes(*rows: Sequence[tuple[int, int]]) -> Comparison:
    """A comparison of images of these sizes, each with a colour of its own."""
    images = tuple(
        ComparedImage(f"{y}", "", tuple(annotated((200, 10 * x, 10 * y), size) for x, size in enumerate(row)))
        for y, row in enumerate(rows)
    )
    return Comparison(tuple(Annotator(f"{x}", "weights") for x in range(len(rows[0]))), images, 0.6)


def test_layout_of_different_sizes() -> None:
    compared = of_sizes([(640, 480)] * 2, [(320, 640)] * 2, [(640, 100)] * 2)
    figure = draw_figure(compared)
    placed = boxes(figure, compared)
    assert [row[0][0] - MARGIN for row in placed] == [0, 160, 0]  # in the middle of the column
    for row in placed:
        assert row[0][1] == row[1][1]
        assert row[1][0] - row[0][0] == 640 + GAP
    assert [bottom - top for (_, top, _, bottom), _ in placed] == [480, 640, 100]
    assert placed[0][0][1] == MARGIN + HEADINGS_HEIGHT + LABEL_HEIGHT
    for above, below in itertools.pairwise(placed):
        assert below[0][1] - above[0][3] == GAP + LABEL_HEIGHT
    assert figure.size == (2 * MARGIN + 2 * 640 + GAP, placed[2][0][3] + MARGIN)


def test_images_are_in_the_middle_of_their_row() -> None:
    compared = of_sizes([(640, 480), (640, 200)])
    high, low = boxes(draw_figure(compared), compared)[0]
    assert low[1] - high[1] == high[3] - low[3] == 140


def test_columns_of_narrow_images_leave_room_for_their_headings() -> None:
    compared = of_sizes([(100, 640)])
    figure = draw_figure(compared)
    assert figure.width == 2 * MARGIN + MIN_COLUMN_WIDTH
    assert boxes(figure, compared)[0][0][0] == MARGIN + (MIN_COLUMN_WIDTH - 100) // 2


def test_headings_and_labels_are_above_their_images() -> None:
    compared = of_sizes([(640, 480)] * 2, [(640, 100)] * 2)
    figure = draw_figure(compared)
    for column, (left, top, right, _) in enumerate(boxes(figure, compared)[0]):
        assert inked(figure, (left, MARGIN, right, top - LABEL_HEIGHT)), column
        assert not inked(figure, (right, 0, right + GAP, MARGIN + 70))
    for (left, top, right, _), _ in boxes(figure, compared):
        assert inked(figure, (left, top - LABEL_HEIGHT, right, top))


def test_long_and_odd_names_stay_one_line_within_their_width() -> None:
    font = _font("DejaVuSans.ttf", 20)
    assert _fit_text("short.jpg", font, 300) == "short.jpg"
    long = _fit_text("a/very/long/way/" * 10 + "to/the/end.jpg", font, 300)
    assert font.getlength(long) <= 300
    assert long.startswith("a/very")
    assert long.endswith("end.jpg")
    assert "…" in long
    assert _fit_text("a\nb\x1b[31m\udcff", font, 300) == "a b�[31m�"


def test_a_small_disk_keeps_the_older_figure(tmp_path: Path) -> None:
    for name, write in (("figure.jpg", write_figure), ("figure.png", write_figure), ("page.html", write_page)):
        path = tmp_path / name
        write(comparison(), path)
        size = path.stat().st_size
        path.write_text("old")
        for room in (10, size - 1):
            with pytest.raises(OSError, match=r"could not write .*free some disk space"), small_disk(room):
                write(comparison(), path)
            assert path.read_text() == "old"


def test_the_suffix_chooses_the_format(tmp_path: Path) -> None:
    for name, format in (("figure.jpg", "JPEG"), ("figure.png", "PNG")):
        write_figure(comparison(), tmp_path / name)
        with Image.open(tmp_path / name) as figure:
            assert figure.format == format
