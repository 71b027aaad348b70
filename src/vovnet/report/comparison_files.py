"""A comparison as one image and as one HTML page: a row for each image, a column for each annotator."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vovnet.files import replacing
from vovnet.report import page
from vovnet.report.comparison import ComparedImage, Comparison, Tally
from vovnet.report.document import Figure, Section, Table

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

INK, FAINT, PAPER = (26, 28, 31), (86, 91, 99), (255, 255, 255)
HEADING_SIZE, TEXT_SIZE = 28, 20  # font sizes in pixels
MARGIN, GAP = 24, 16
HEADINGS_HEIGHT, LABEL_HEIGHT = 76, 40
MIN_COLUMN_WIDTH = 320  # room for the headings of narrow images


@dataclass(frozen=True)
class Layout:
    """Positions in the figure, in pixels from its upper left corner.

    size: (width, height) of the figure.
    lefts: left edges of the columns, all `column_width` wide.
    label_tops: upper edges of the rows' labels.
    corners: (x, y) of each row's images, which are centred in their columns and in the height of the row.
    """

    size: tuple[int, int]
    column_width: int
    lefts: list[int]
    label_tops: list[int]
    corners: list[list[tuple[int, int]]]


def lay_out(sizes: Sequence[Sequence[tuple[int, int]]]) -> Layout:
    """sizes: (width, height) of each row's images, equally many in every row."""
    column_width = max(MIN_COLUMN_WIDTH, *(width for row in sizes for width, _ in row))
    lefts = [MARGIN + column * (column_width + GAP) for column in range(len(sizes[0]))]
    top = MARGIN + HEADINGS_HEIGHT
    label_tops, corners = [], []
    for row in sizes:
        row_height = max(height for _, height in row)
        label_tops.append(top)
        top += LABEL_HEIGHT
        corners.append(
            [
                (left + (column_width - width) // 2, top + (row_height - height) // 2)
                for left, (width, height) in zip(lefts, row, strict=True)
            ]
        )
        top += row_height + GAP
    return Layout((lefts[-1] + column_width + MARGIN, top - GAP + MARGIN), column_width, lefts, label_tops, corners)


def draw_figure(comparison: Comparison) -> Image:
    from PIL import Image, ImageDraw

    layout = lay_out([[annotated.image.size for annotated in image.annotated] for image in comparison.images])
    figure = Image.new("RGB", layout.size, PAPER)
    draw = ImageDraw.Draw(figure)
    bold, plain = _font("DejaVuSans-Bold.ttf", HEADING_SIZE), _font("DejaVuSans.ttf", TEXT_SIZE)
    for annotator, total, left in zip(comparison.annotators, comparison.totals(), layout.lefts, strict=True):
        draw.text((left, MARGIN), _fit_text(annotator.name, bold, layout.column_width), INK, bold)
        caption = _fit_text(annotator.caption(total), plain, layout.column_width)
        draw.text((left, MARGIN + HEADING_SIZE + 12), caption, FAINT, plain)
    width = layout.size[0] - 2 * MARGIN
    for image, top, corners in zip(comparison.images, layout.label_tops, layout.corners, strict=True):
        draw.text((MARGIN, top + 8), _fit_text(image.name, plain, width), FAINT, plain)
        for annotated, corner in zip(image.annotated, corners, strict=True):
            figure.paste(annotated.image, corner)
    return figure


def write_figure(comparison: Comparison, path: str | Path) -> None:
    """Write the figure in the format of the suffix; JPEG without chroma subsampling, which blurs text."""
    figure = draw_figure(comparison)
    with replacing(path) as temporary:
        figure.save(temporary, quality=90, subsampling=0)


def write_page(comparison: Comparison, path: str | Path) -> None:
    """Write one HTML page that needs no network and runs no script."""
    annotators, totals = comparison.annotators, comparison.totals()
    count = sum(annotator.weights is not None for annotator in annotators)
    introduction = (
        f"The same images by {count} detector{'' if count == 1 else 's'}; detections with a score of at least "
        f"{comparison.score_threshold:g}."
    )
    if any(total.missed is not None for total in totals):
        introduction += " Dashed boxes are the ground truth; “missed” and “?” mark the mistakes."
    table = Table(
        ["column", "weights", "in all images", "classes"],
        [
            [annotator.name, annotator.weights or "", annotator.caption(total), _class_counts(total)]
            for annotator, total in zip(annotators, totals, strict=True)
        ],
    )
    rows = [_row_section(comparison, image, index) for index, image in enumerate(comparison.images)]
    page.write_page(
        path,
        title=f"{', '.join(annotator.name for annotator in annotators)}: side by side",
        introduction=introduction,
        sections=[Section("Totals", [table]), *rows],
        layout="comparison",
    )


def _row_section(comparison: Comparison, image: ComparedImage, index: int) -> Section:
    figures = [
        Figure(
            f"{index}_{column}.jpg",
            f"{annotator.name}: {annotator.caption(annotated.tally)}",
            partial(_jpeg, annotated.image),
            f"{image.name} by {annotator.name}: {_class_counts(annotated.tally) or 'nothing'}",
        )
        for column, (annotator, annotated) in enumerate(zip(comparison.annotators, image.annotated, strict=True))
    ]
    return Section(image.name, figures)


def _class_counts(tally: Tally) -> str:
    """For example "15 RBC, 2 WBC", the most frequent first."""
    return ", ".join(f"{count} {name}" for name, count in tally.classes.most_common())


def _jpeg(image: Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=88, subsampling=0)
    return content.getvalue()


def _font(name: str, size: int) -> FreeTypeFont:
    """A font with more letters than Pillow's own, which draws "é" as an empty box."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size)


def _fit_text(text: str, font: FreeTypeFont, width: int) -> str:
    """One printable line, at most `width` pixels long. The middle is cut, because names often differ at their ends."""
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    shown, kept = text, len(text)
    while font.getlength(shown) > width and kept > 2:
        kept -= 1
        shown = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return shown
