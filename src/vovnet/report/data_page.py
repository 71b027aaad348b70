"""A dataset to look at: a contact sheet, and one self-contained HTML page of images with their boxes."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vovnet.data.shown_images import ShownImage
from vovnet.errors import counted
from vovnet.files import write_bytes, write_image
from vovnet.media.drawing import Colour, Item, annotate, class_colour, shown_names
from vovnet.media.pixels import read_pixels
from vovnet.printing import line
from vovnet.report.page import SKELETON, content_policy, escaped

if TYPE_CHECKING:
    from PIL.Image import Image

_SIDE, _QUALITY = 640, 80  # longer side of an image in the page, in pixels; JPEG quality
_THUMBNAIL, _GAP = 320, 8  # pixels of the contact sheet
_MOST_OBJECTS = 500  # of an image that are drawn
_MOST_CLASSES = 200  # in the filter


@dataclass(frozen=True)
class _Picture:
    """An image in the size in which it is shown, and its objects in these pixels: class, box, note."""

    shown: ShownImage
    image: Image
    boxes: Sequence[tuple[str, tuple[float, float, float, float], str]]


def write_data_view(
    folder: str | Path,
    images: Sequence[ShownImage],
    *,
    title: str,
    class_names: Sequence[str],
    note: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, Path]:
    """Writes `sheet.jpg` and `view.html` into the folder and returns both paths.

    class_names: in the order that gives them their colours.
    note: a sentence below the title. progress: is called with (images done, all images).
    """
    folder = Path(folder)
    colours = {name: class_colour(label) for label, name in enumerate(class_names)}
    short = dict(zip(class_names, shown_names(tuple(class_names)), strict=True))
    labels = {name: str(label) for label, name in enumerate(class_names)}
    articles: list[str] = []
    thumbnails: list[Image] = []
    for number, shown in enumerate(images):
        picture = _picture(shown)
        if picture is None:
            articles.append(_unreadable(shown, colours))
        else:
            articles.append(_article(picture, colours, short, labels))
            thumbnails.append(_thumbnail(picture, colours, short))
        if progress is not None:
            progress(number + 1, len(images))
    sheet, page = folder / "sheet.jpg", folder / "view.html"
    write_bytes(page, _page(title, note, articles, images, class_names).encode(errors="replace"))
    write_image(sheet, _sheet(thumbnails), quality=88)
    return sheet, page


def _picture(shown: ShownImage) -> _Picture | None:
    """None if the image cannot be decoded."""
    from PIL import Image

    try:
        image = Image.fromarray(read_pixels(shown.path))
    except (ValueError, OSError):
        return None
    scale = min(1.0, _SIDE / max(image.size))
    if scale < 1:
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image = image.resize(size, Image.Resampling.BOX, reducing_gap=None)
    boxes = []
    for obj in shown.objects[:_MOST_OBJECTS]:
        if all(map(math.isfinite, obj.box)):
            x1, y1, x2, y2 = (min(max(side * scale, -1e5), 1e5) for side in obj.box)
            boxes.append((obj.class_name, (x1, y1, x2, y2), _note(obj.difficult, obj.crowd)))
    return _Picture(shown, image, boxes)


def _note(difficult: bool, crowd: bool) -> str:
    return ", ".join([text for text, holds in (("difficult", difficult), ("crowd", crowd)) if holds])


def _thumbnail(picture: _Picture, colours: dict[str, Colour], short: dict[str, str]) -> Image:
    from PIL import Image

    width, height = picture.image.size
    items = [
        Item((max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)), short[name], colours[name])
        for name, (x1, y1, x2, y2), _ in picture.boxes
        if x1 < min(x2, width) and y1 < min(y2, height) and x2 > 0 and y2 > 0
    ]
    drawn = Image.fromarray(annotate(np.asarray(picture.image), items))
    drawn.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return drawn


def _sheet(thumbnails: Sequence[Image]) -> Image:
    from PIL import Image

    columns = max(1, math.ceil(math.sqrt(len(thumbnails) * 4 / 3)))
    rows = max(1, math.ceil(len(thumbnails) / columns))
    sheet = Image.new("RGB", (columns * (_THUMBNAIL + _GAP) + _GAP, rows * (_THUMBNAIL + _GAP) + _GAP), (245, 246, 248))
    for number, thumbnail in enumerate(thumbnails):
        row, column = divmod(number, columns)
        left, top = _GAP + column * (_THUMBNAIL + _GAP), _GAP + row * (_THUMBNAIL + _GAP)
        sheet.paste(thumbnail, (left + (_THUMBNAIL - thumbnail.width) // 2, top + (_THUMBNAIL - thumbnail.height) // 2))
    return sheet


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _article(picture: _Picture, colours: dict[str, Colour], short: dict[str, str], labels: dict[str, str]) -> str:
    """The image with its boxes as SVG over it, its name, its counts and its problems."""
    width, height = picture.image.size
    content = io.BytesIO()
    picture.image.save(content, "JPEG", quality=_QUALITY)
    data = base64.b64encode(content.getvalue()).decode()
    shapes = "".join(
        f'<g data-class="{labels[name]}"><rect x="{x1:.1f}" y="{y1:.1f}" width="{max(x2 - x1, 1):.1f}" '
        f'height="{max(y2 - y1, 1):.1f}" stroke="{_hex(colours[name])}"/>'
        f"<title>{escaped(short[name])}{f' ({note})' if note else ''}</title></g>"
        for name, (x1, y1, x2, y2), note in picture.boxes
    )
    shown = picture.shown
    alt = f"{line(shown.name, 100)} with {counted(len(picture.boxes), 'box', 'boxes')}"
    return (
        f'<figure tabindex="0" data-classes="{" ".join(labels[name] for name in sorted(shown.class_names))}"'
        f"{' data-problem' if shown.problems else ''}>"
        f'<div class="picture"><img src="data:image/jpeg;base64,{data}" width="{width}" height="{height}" '
        f'alt="{escaped(alt)}"><svg viewBox="0 0 {width} {height}" aria-hidden="true">{shapes}</svg></div>'
        f"{_caption(shown, colours)}</figure>\n"
    )


def _unreadable(shown: ShownImage, colours: dict[str, Colour]) -> str:
    empty = '<div class="picture empty">no picture</div>'
    return f'<figure tabindex="0" data-classes="" data-problem>{empty}{_caption(shown, colours)}</figure>\n'


def _caption(shown: ShownImage, colours: dict[str, Colour]) -> str:
    counts = ", ".join(
        f'<i style="background:{_hex(colours[name])}"></i>{count} {escaped(line(name, 60))}'
        for name, count in shown.counts().most_common(8)
    )
    problems = "".join(f"<li>{escaped(line(problem, 300))}</li>" for problem in shown.problems[:20])
    return (
        f"<figcaption><b>{escaped(line(shown.name, 200))}</b> {escaped(line(shown.split, 60))}"
        f"<br>{counts or 'no object'}{f'<ul>{problems}</ul>' if problems else ''}</figcaption>"
    )


def _page(
    title: str, note: str, articles: Sequence[str], images: Sequence[ShownImage], class_names: Sequence[str]
) -> str:
    files = resources.files("vovnet.report")
    script, style = ((files / f"data_view.{kind}").read_text(encoding="utf-8") for kind in ("js", "css"))
    style = (files / "page.css").read_text(encoding="utf-8") + style
    used = {name for shown in images for name in shown.class_names}
    options = "".join(
        f'<option value="{label}">{escaped(line(name, 60))}</option>'
        for label, name in [(label, name) for label, name in enumerate(class_names) if name in used][:_MOST_CLASSES]
    )
    problems = sum(bool(shown.problems) for shown in images)
    introduction = (
        f"<p>{escaped(note)}</p>\n"
        '<form id="filter"><label>Class <select id="class"><option value="">all</option>'
        f"{options}</select></label> "
        f'<label><input type="checkbox" id="problems"> with problems ({problems})</label> '
        '<label><input type="checkbox" id="boxes" checked> boxes</label> '
        '<output id="count"></output></form>\n'
        '<p class="keys">Keys: <kbd>←</kbd> <kbd>→</kbd> to move, <kbd>Enter</kbd> to enlarge, <kbd>b</kbd> for '
        "boxes, <kbd>c</kbd> for the next class, <kbd>Esc</kbd> to leave.</p>\n"
    )
    sections = f'<section aria-label="Images" class="gallery">\n{"".join(articles)}</section>\n'
    return SKELETON.format(
        policy=escape(content_policy(script)),
        title=escaped(title),
        style=style,
        layout="data-view",
        introduction=introduction,
        sections=sections,
        script=f"<script>{script}</script>\n",
    )
