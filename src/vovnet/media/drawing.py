"""Draw objects on an image: masks, boxes and names."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from vovnet.files import write_image
from vovnet.media.fonts import Font, draw_runs, load_default, runs_box, text_runs
from vovnet.media.pixels import IMAGE_SUFFIXES, Pixels
from vovnet.printing import line, tell_apart

Colour = tuple[int, int, int]
Bitmap = npt.NDArray[np.bool_]
Region = tuple[tuple[slice, slice], Bitmap]  # a part of an image as slices of rows and columns, and the mask in it
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
_LONGEST_NAME = 60  # characters
FILL = 0.45  # opacity of a mask
TONES = (0.0, 0.5, -0.4, 0.25, -0.2)  # shift of the class colour for successive objects: to white, or to black if < 0


@dataclass(frozen=True)
class Item:
    """A detection or an object of the ground truth, as it is drawn.

    box: x1 y1 x2 y2 in pixels.
    mask: makes the mask for an image of this (height, width) when it is drawn, so that memory holds one at a time.
    """

    box: Sequence[float]
    name: str
    colour: Colour
    mask: Callable[[tuple[int, int]], Region] | None = None


def annotate(image: Pixels, items: Sequence[Item], truth: Sequence[Item] = ()) -> Pixels:
    """A copy of `image` with filled masks, boxes and names of `items`, the last on top, and `truth` dashed over it.

    image: uint8 RGB (H, W, 3). Of `truth`, what has no name was not missed: it has a thin box only.
    """
    pixels = np.array(image, order="C")  # a copy
    size = (pixels.shape[0], pixels.shape[1])
    scale = (size[0] * size[1]) ** 0.5
    line_width, font = max(1, round(scale / 280)), load_default(max(10, round(scale / 38)))
    missed = [item for item in truth if item.name]
    for item in items:
        if item.mask is not None:
            _fill_mask(pixels, item.mask(size), item.colour, max(1, line_width // 2))
    for item in missed:
        if item.mask is not None:
            _outline_mask(pixels, item.mask(size), line_width)
    annotated = Image.fromarray(pixels)
    draw = ImageDraw.Draw(annotated)
    for item in items:
        draw.rectangle(_corners(item.box, line_width), outline=item.colour, width=line_width)
    for item in truth:
        _draw_dashed_box(draw, _corners(item.box, line_width), line_width * (2 if item.name else 1))
    # Names come after all boxes, so that no line crosses a name.
    for item in (*items, *missed):
        _draw_name(draw, item, font)
    return np.array(annotated)


def save_drawn(pixels: Pixels, path: str | Path | None) -> Image.Image:
    """The image of these pixels; also saved at `path` if that is given (JPEG quality 92)."""
    annotated = Image.fromarray(pixels)
    if path is not None:
        if Path(path).suffix.lower() not in IMAGE_SUFFIXES:
            raise ValueError(f"{path} must end in one of {' '.join(IMAGE_SUFFIXES)}")
        write_image(path, annotated, quality=92)
    return annotated


@lru_cache(maxsize=16)
def shown_names(class_names: tuple[str, ...]) -> list[str]:
    """The names on short lines, which still differ."""
    return tell_apart([line(name, _LONGEST_NAME) for name in class_names])


@lru_cache(maxsize=1024)
def class_colour(label: int) -> Colour:
    """The RGB colour of a class: always the same, with neighbouring labels far apart in hue."""
    hue = (0.30 + label * 0.381966) % 1.0  # golden ratio: keeps the first labels well apart
    value = (1.0, 0.8)[(label // 8) % 2]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def colours(labels: Sequence[int], *, masks: bool) -> list[Colour]:
    """The class colour of each object; with masks a tone of it, so that objects of one class can be told apart."""
    seen: Counter[int] = Counter()
    found = []
    for label in labels:
        tone = TONES[seen[label] % len(TONES)] if masks else 0.0
        seen[label] += 1
        red, green, blue = (round(side + abs(tone) * ((255 if tone > 0 else 0) - side)) for side in class_colour(label))
        found.append((red, green, blue))
    return found


def _fill_mask(pixels: Pixels, part: Region, colour: Colour, line_width: int) -> None:
    """Draw a mask as a translucent fill with an opaque edge."""
    region, mask = part
    edge = mask & ~_eroded(mask, line_width)
    for channel, value in enumerate(colour):
        filled = np.rint((1 - FILL) * np.arange(256) + FILL * value).astype(np.uint8)
        plane = pixels[region][..., channel]
        plane[mask] = filled[plane[mask]]
        plane[edge] = value


def _outline_mask(pixels: Pixels, part: Region, line_width: int) -> None:
    """Draw the edge of a mask in white with black inside it, which is visible on any image."""
    region, mask = part
    inside = _eroded(mask, line_width)
    pixels[region][mask & ~inside] = WHITE
    pixels[region][inside & ~_eroded(inside, line_width)] = BLACK


def _eroded(mask: Bitmap, steps: int) -> Bitmap:
    """The mask without its outermost pixels, `steps` times (4-neighbourhood)."""
    for _ in range(steps):
        padded = np.pad(mask, 1)
        mask = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask


def _corners(box: Sequence[float], line_width: int) -> tuple[int, int, int, int]:
    """A box as Pillow's x1 y1 x2 y2, both corners inclusive, with room for two lines at least."""
    x1, y1, x2, y2 = (round(value) for value in box)
    return x1, y1, max(x2 - 1, x1 + line_width), max(y2 - 1, y1 + line_width)


def _draw_name(draw: ImageDraw.ImageDraw, item: Item, font: Font) -> None:
    """Write the name above the box, or moved into the image where it would leave it."""
    runs = text_runs(item.name, font)
    left, top, right, bottom = runs_box(draw, runs)
    margin = max(1, round((bottom - top) / 6))
    width, height = round(right - left) + 2 * margin + 1, round(bottom - top) + 2 * margin + 1
    image_width, image_height = draw.im.size
    x = max(0, min(round(item.box[0]), image_width - width))
    y = max(0, min(round(item.box[1]) - height, image_height - height))
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=item.colour)
    red, green, blue = item.colour
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    draw_runs(draw, (x + margin - left, y + margin - top), runs, BLACK if luminance > 140 else WHITE)


def _draw_dashed_box(draw: ImageDraw.ImageDraw, corners: tuple[int, int, int, int], width: int) -> None:
    """White dashes on black, visible on any image."""
    x1, y1, x2, y2 = corners
    draw.rectangle(corners, outline=BLACK, width=width)
    dash = 4 * width
    for x in range(x1, x2 + 1, 2 * dash):
        end = min(x + dash, x2)
        draw.rectangle((x, y1, end, min(y1 + width - 1, y2)), fill=WHITE)
        draw.rectangle((x, max(y2 - width + 1, y1), end, y2), fill=WHITE)
    for y in range(y1, y2 + 1, 2 * dash):
        end = min(y + dash, y2)
        draw.rectangle((x1, y, min(x1 + width - 1, x2), end), fill=WHITE)
        draw.rectangle((max(x2 - width + 1, x1), y, x2, end), fill=WHITE)
