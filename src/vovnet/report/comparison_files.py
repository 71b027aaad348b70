"""A comparison as one image and as one HTML page: a row for each image, a column for each annotator."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vovnet.files import write_bytes, write_image
from vovnet.media.fonts import draw_runs, load_font, readable, text_runs
from vovnet.printing import line, tell_apart
from vovnet.report import page
from vovnet.report.comparison import ComparedImage, Comparison, Tally
from vovnet.report.document import Figure, Section, Table

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

INK, FAINT, PAPER = (26, 28, 31), (86, 91, 99), (255, 255, 255)
HEADING_SIZE, TEXT_SIZE = 28, 20  # font sizes in pixels
MARGIN, GAP = 24, 16
HEADINGS_HEIGHT, LABEL_HEIGHT = 76, 40
MIN_COLUMN_WIDTH = 320  # room for the headings of narrow images


def draw_figure(comparison: Comparison) -> Image:
    """Images are centred in their columns and in the height of their row."""
    from PIL import Image, ImageDraw

    rows = comparison.images
    width = max(MIN_COLUMN_WIDTH, *(annotated.image.width for row in rows for annotated in row.annotated))
    heights = [max(annotated.image.height for annotated in row.annotated) for row in rows]
    lefts = [MARGIN + column * (width + GAP) for column in range(len(comparison.annotators))]
    total_height = MARGIN + HEADINGS_HEIGHT + sum(LABEL_HEIGHT + height + GAP for height in heights) - GAP + MARGIN
    figure = Image.new("RGB", (lefts[-1] + width + MARGIN, total_height), PAPER)
    draw = ImageDraw.Draw(figure)
    bold, plain = _font("DejaVuSans-Bold.ttf", HEADING_SIZE), _font("DejaVuSans.ttf", TEXT_SIZE)
    headings = _fit_names([annotator.name for annotator in comparison.annotators], bold, width)
    labels = _fit_names([row.name for row in rows], plain, figure.width - 2 * MARGIN)
    totals = comparison.totals()
    for heading, annotator, total, left in zip(headings, comparison.annotators, totals, lefts, strict=True):
        _write(draw, (left, MARGIN), heading, INK, bold)
        caption = _fit_text(annotator.caption(total), plain, width)
        _write(draw, (left, MARGIN + HEADING_SIZE + 12), caption, FAINT, plain)
    top = MARGIN + HEADINGS_HEIGHT
    for label, row, height in zip(labels, rows, heights, strict=True):
        _write(draw, (MARGIN, top + 8), label, FAINT, plain)
        top += LABEL_HEIGHT
        for annotated, left in zip(row.annotated, lefts, strict=True):
            image = annotated.image
            figure.paste(image, (left + (width - image.width) // 2, top + (height - image.height) // 2))
        top += height + GAP
    return figure


def write_figure(comparison: Comparison, path: str | Path) -> None:
    """Write the figure in the format of the suffix; JPEG without chroma subsampling, which blurs text."""
    write_image(path, draw_figure(comparison), quality=90, subsampling=0)


def write_page(comparison: Comparison, path: str | Path) -> None:
    """Write one self-contained HTML page that runs no script."""
    annotators, totals = comparison.annotators, comparison.totals()
    count = sum(annotator.weights is not None for annotator in annotators)
    introduction = (
        f"The same images by {count} detector{'' if count == 1 else 's'}; detections with a score of at least "
        f"{comparison.score_threshold:g}."
    )
    if any(total.missed is not None for total in totals):
        introduction += " Dashed boxes are the ground truth; “missed” and “?” mark the errors."
    table = Table(
        ["column", "weights", "in all images", "classes"],
        [
            [annotator.name, annotator.source, annotator.caption(total), _class_counts(total)]
            for annotator, total in zip(annotators, totals, strict=True)
        ],
    )
    content = page.page_content(
        title=f"{', '.join(annotator.name for annotator in annotators)}: side by side",
        introduction=introduction,
        sections=[Section("Totals", [table]), *(_row_section(comparison, image) for image in comparison.images)],
        layout="comparison",
    )
    write_bytes(path, content)


def _row_section(comparison: Comparison, image: ComparedImage) -> Section:
    figures = [
        Figure(
            "image.jpg",
            f"{annotator.name}: {annotator.caption(annotated.tally)}",
            partial(_jpeg, annotated.image),
            f"{image.name} by {annotator.name}: {_class_counts(annotated.tally) or 'nothing'}",
        )
        for annotator, annotated in zip(comparison.annotators, image.annotated, strict=True)
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

    return load_font(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size)


def _fit_text(text: str, font: FreeTypeFont, width: int) -> str:
    """One printable line, at most `width` pixels long. The middle is cut, because names often differ at their ends."""
    kept = 200
    shown = readable(line(text, kept), font)
    while sum(one.getlength(part) for one, part in text_runs(shown, font)) > width and kept > 3:
        kept = min(kept, len(shown) + 1) - 1
        shown = readable(line(text, kept), font)
    return shown


def _fit_names(names: Sequence[str], font: FreeTypeFont, width: int) -> list[str]:
    """`_fit_text` of each, with its number where that is the same for several."""
    numbered = tell_apart([_fit_text(name, font, width) for name in names])
    return [_fit_text(name, font, width) for name in numbered]


def _write(
    draw: ImageDraw, corner: tuple[int, int], text: str, colour: tuple[int, int, int], font: FreeTypeFont
) -> None:
    """Write a line below and right of the corner, with other fonts for letters that `font` lacks."""
    draw_runs(draw, (corner[0], corner[1] + font.getmetrics()[0]), text_runs(text, font), colour)
