"""Where pictures and names stand in the figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from vovnet.report.comparison_figure import (
    GAP,
    LABEL_HEIGHT,
    LEAST_COLUMN_WIDTH,
    MARGIN,
    _fitted,
    _font,
    draw_figure,
    lay_out,
    write_figure,
)

from .compared import ONE, OTHER, TRUTH, comparison


def inked(figure: Image.Image, box: tuple[int, int, int, int]) -> bool:
    return bool((np.asarray(figure.crop(box)) < 128).any())


def test_layout_of_different_sizes() -> None:
    layout = lay_out([[(640, 480), (640, 480)], [(320, 640), (320, 640)], [(640, 100), (640, 100)]])
    assert layout.column_width == 640
    assert layout.lefts == [MARGIN, MARGIN + 640 + GAP]
    assert [row[0][0] - MARGIN for row in layout.panels] == [0, 160, 0]  # in the middle of the column
    heights = [480, 640, 100]
    for top, row in zip(layout.label_tops, layout.panels, strict=True):
        assert {y for _, y in row} == {top + LABEL_HEIGHT}
        assert row[1][0] - row[0][0] == 640 + GAP
    steps = np.diff(layout.label_tops).tolist()
    assert steps == [LABEL_HEIGHT + height + GAP for height in heights[:2]]
    assert layout.size == (2 * MARGIN + 2 * 640 + GAP, layout.label_tops[2] + LABEL_HEIGHT + 100 + MARGIN)


def test_columns_of_narrow_pictures_leave_room_for_their_headings() -> None:
    layout = lay_out([[(100, 640)]])
    assert layout.column_width == LEAST_COLUMN_WIDTH
    assert layout.panels[0][0][0] == MARGIN + (LEAST_COLUMN_WIDTH - 100) // 2


def test_pictures_headings_and_labels_are_where_the_layout_says() -> None:
    compared = comparison()
    layout = lay_out([[panel.drawn.size for panel in row.panels] for row in compared.rows])
    figure = draw_figure(compared)
    assert figure.size == layout.size
    for row, places in zip(compared.rows, layout.panels, strict=True):
        for panel, (x, y), colour in zip(row.panels, places, (TRUTH, ONE, OTHER), strict=True):
            shown = figure.crop((x, y, x + panel.drawn.width, y + panel.drawn.height))
            assert (np.asarray(shown) == colour).all()
    for left in layout.lefts:
        assert inked(figure, (left, MARGIN, left + layout.column_width, layout.label_tops[0]))
        assert not inked(figure, (left + layout.column_width, 0, left + layout.column_width + GAP, MARGIN + 70))
    for top in layout.label_tops:
        assert inked(figure, (MARGIN, top, layout.size[0], top + LABEL_HEIGHT))


def test_long_and_odd_names_stay_one_line_within_their_width() -> None:
    font = _font("DejaVuSans.ttf", 20)
    assert _fitted("short.jpg", font, 300) == "short.jpg"
    long = _fitted("a/very/long/way/" * 10 + "to/the/end.jpg", font, 300)
    assert font.getlength(long) <= 300
    assert long.startswith("a/very")
    assert long.endswith("end.jpg")
    assert "…" in long
    assert _fitted("a\nb\x1b[31m\udcff", font, 300) == "a�b�[31m�"


def test_the_suffix_chooses_the_format(tmp_path: Path) -> None:
    for name, format in (("figure.jpg", "JPEG"), ("figure.png", "PNG")):
        write_figure(comparison(), tmp_path / name)
        with Image.open(tmp_path / name) as figure:
            assert figure.format == format
