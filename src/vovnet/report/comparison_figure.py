"""A comparison as one picture: a row a picture, a column a detector, names above both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vovnet.files import replacing
from vovnet.report.comparison import Comparison

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

INK, FAINT, PAPER = (26, 28, 31), (86, 91, 99), (255, 255, 255)
HEADING_SIZE, TEXT_SIZE = 28, 20  # of letters, in pixels
MARGIN, GAP = 24, 16
HEADINGS_HEIGHT, LABEL_HEIGHT = 76, 40
LEAST_COLUMN_WIDTH = 320  # so that headings of narrow pictures can be read


@dataclass(frozen=True)
class Layout:
    """Where everything is, in pixels from the upper left corner.

    size: (width, height). lefts: of the columns, all `column_width` wide. label_tops: of each row's label.
    panels: (x, y) of each row's pictures, which stand in the middle of their columns and of the row's height.
    """

    size: tuple[int, int]
    column_width: int
    lefts: list[int]
    label_tops: list[int]
    panels: list[list[tuple[int, int]]]


def lay_out(sizes: Sequence[Sequence[tuple[int, int]]]) -> Layout:
    """sizes: (width, height) of each row's panels, as many in every row."""
    column_width = max(LEAST_COLUMN_WIDTH, *(width for row in sizes for width, _ in row))
    lefts = [MARGIN + place * (column_width + GAP) for place in range(len(sizes[0]))]
    top = MARGIN + HEADINGS_HEIGHT
    label_tops, panels = [], []
    for row in sizes:
        height = max(height for _, height in row)
        label_tops.append(top)
        top += LABEL_HEIGHT
        panels.append(
            [
                (left + (column_width - width) // 2, top + (height - own) // 2)
                for left, (width, own) in zip(lefts, row, strict=True)
            ]
        )
        top += height + GAP
    return Layout((lefts[-1] + column_width + MARGIN, top - GAP + MARGIN), column_width, lefts, label_tops, panels)


def draw_figure(comparison: Comparison) -> Image:
    from PIL import Image, ImageDraw

    layout = lay_out([[panel.drawn.size for panel in row.panels] for row in comparison.rows])
    figure = Image.new("RGB", layout.size, PAPER)
    draw = ImageDraw.Draw(figure)
    bold, plain = _font("DejaVuSans-Bold.ttf", HEADING_SIZE), _font("DejaVuSans.ttf", TEXT_SIZE)
    for column, total, left in zip(comparison.columns, comparison.totals(), layout.lefts, strict=True):
        draw.text((left, MARGIN), _fitted(column.name, bold, layout.column_width), INK, bold)
        caption = _fitted(column.caption(total), plain, layout.column_width)
        draw.text((left, MARGIN + HEADING_SIZE + 12), caption, FAINT, plain)
    width = layout.size[0] - 2 * MARGIN
    for row, top, places in zip(comparison.rows, layout.label_tops, layout.panels, strict=True):
        draw.text((MARGIN, top + 8), _fitted(row.name, plain, width), FAINT, plain)
        for panel, place in zip(row.panels, places, strict=True):
            figure.paste(panel.drawn, place)
    return figure


def write_figure(comparison: Comparison, path: str | Path) -> None:
    """Write it as the suffix of `path` says; as JPEG without the colour subsampling that blurs letters."""
    figure = draw_figure(comparison)
    with replacing(path) as temporary:
        figure.save(temporary, quality=90, subsampling=0)


def _font(name: str, size: int) -> FreeTypeFont:
    """A font with more letters than Pillow's own, whose "é" is an empty box."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size)


def _fitted(text: str, font: FreeTypeFont, width: int) -> str:
    """One printable line, without its middle where it would be too long: names often differ at their end."""
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    shown, kept = text, len(text)
    while font.getlength(shown) > width and kept > 2:
        kept -= 1
        shown = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return shown
