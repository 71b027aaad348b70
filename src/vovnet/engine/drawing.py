"""Masks, boxes, names and scores on a picture: what was found, or what is there."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vovnet.masks import RleMasks, decode
from vovnet.metrics.confusion import FALSE_POSITIVE, match_objects
from vovnet.structures import Detections, Target

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

Colour = tuple[int, int, int]
Pixels = npt.NDArray[np.uint8]
Bitmap = npt.NDArray[np.bool_]
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
FILL = 0.45
TONES = (0.0, 0.5, -0.4, 0.25, -0.2)  # of the objects of a class in turn: so far towards white, or black


def draw_detections(
    image: Tensor, detections: Detections, class_names: Sequence[str], *, target: Target | None = None
) -> Tensor:
    """A copy of `image` with every detection's mask, box, class name and score, best score on top.

    image: uint8 RGB of shape (3, H, W); the result has its shape. Objects with masks have tones of their class's colour
    in turn; masks are decoded one at a time.
    target: shows the mistakes: each object as a dashed white box, those that no detection of their class finds as a
    thick one that says "missed", with their masks outlined, and a "?" behind the score of a detection that finds no
    object of its class.

    Raises ValueError for another kind of image and for masks of another size.
    """
    from PIL import Image, ImageDraw

    pixels = _copied(image)
    line_width, font = _pens(pixels)

    worst_first = range(len(detections) - 1, -1, -1)
    boxes, labels, scores = detections.boxes.tolist(), detections.labels.tolist(), detections.scores.tolist()
    names = [f"{class_names[label]} {score:.2f}" for label, score in zip(labels, scores, strict=True)]
    colours = [class_colour(label) for label in labels] if detections.masks is None else _tones(labels)
    missed = np.empty(0, dtype=np.int64)
    if target is not None:
        matched = match_objects(detections, target)
        right = detections.labels.numpy() == np.append(target.labels.numpy(), -1)[matched]
        for index in np.flatnonzero(~right & (matched >= FALSE_POSITIVE)).tolist():
            names[index] += " ?"
        missed = np.setdiff1d(np.flatnonzero(~(target.difficult | target.crowd).numpy()), matched[right])

    if detections.masks is not None:
        for index in worst_first:
            _paint(pixels, detections.masks, index, colours[index], max(1, line_width // 2))
    if target is not None and isinstance(target.masks, RleMasks):
        for index in missed.tolist():
            _outline_mask(pixels, target.masks, index, line_width)

    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    for index in worst_first:
        draw.rectangle(_outline(boxes[index], line_width), outline=colours[index], width=line_width)
    if target is not None:
        for index, box in enumerate(target.boxes.tolist()):
            _dashed_rectangle(draw, _outline(box, line_width), line_width * (2 if index in missed else 1))

    # Names come after all boxes, so that no line crosses one.
    for index in worst_first:
        _name(draw, boxes[index], names[index], font, colours[index])
    if target is not None:
        for box, label in zip(target.boxes[missed].tolist(), target.labels[missed].tolist(), strict=True):
            _name(draw, box, f"missed {class_names[label]}", font, WHITE)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def draw_target(image: Tensor, target: Target, class_names: Sequence[str]) -> Tensor:
    """A copy of `image` with every object's mask, box and class name, in the colours of `draw_detections`; small
    objects on top.

    A "~" behind a name marks what evaluation ignores: difficult objects and crowds.
    """
    from PIL import Image, ImageDraw

    pixels = _copied(image)
    line_width, font = _pens(pixels)
    masks = target.masks if isinstance(target.masks, RleMasks) else None
    boxes, labels = target.boxes.tolist(), target.labels.tolist()
    names = [
        f"{class_names[label]} ~" if ignored else class_names[label]
        for label, ignored in zip(labels, (target.difficult | target.crowd).tolist(), strict=True)
    ]
    colours = [class_colour(label) for label in labels] if masks is None else _tones(labels)
    large_first = target.area.argsort(descending=True, stable=True).tolist()

    if masks is not None:
        for index in large_first:
            _paint(pixels, masks, index, colours[index], max(1, line_width // 2))
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    for index in large_first:
        draw.rectangle(_outline(boxes[index], line_width), outline=colours[index], width=line_width)
    for index in large_first:
        _name(draw, boxes[index], names[index], font, colours[index])
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def _copied(image: Tensor) -> Pixels:
    """uint8 (3, H, W) → (H, W, 3)."""
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"image must be uint8 of shape (3, H, W), got {image.dtype} of {tuple(image.shape)}")
    return np.array(image.permute(1, 2, 0).numpy(), order="C")


def _pens(pixels: Pixels) -> tuple[int, FreeTypeFont | ImageFont]:
    """Width of lines and font of names that suit the size of a picture."""
    scale = (pixels.shape[0] * pixels.shape[1]) ** 0.5
    return max(1, round(scale / 280)), _font(max(10, round(scale / 38)))


@lru_cache(maxsize=1024)
def class_colour(label: int) -> Colour:
    """The RGB colour of a class, always the same; neighbouring labels are far apart in hue."""
    hue = (0.30 + label * 0.381966) % 1.0  # golden section: no two of the first classes come close
    value = (1.0, 0.8)[(label // 8) % 2]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _tones(labels: Sequence[int]) -> list[Colour]:
    """A colour for each object, by which those of one class can be told apart."""
    seen: Counter[int] = Counter()
    colours = []
    for label in labels:
        tone = TONES[seen[label] % len(TONES)]
        seen[label] += 1
        red, green, blue = (round(side + abs(tone) * ((255 if tone > 0 else 0) - side)) for side in class_colour(label))
        colours.append((red, green, blue))
    return colours


def _paint(pixels: Pixels, masks: RleMasks, index: int, colour: Colour, line_width: int) -> None:
    """One mask as a translucent fill with an outline."""
    region, mask = _decode_one(pixels, masks, index)
    edge = mask & ~_eroded(mask, line_width)
    for channel, value in enumerate(colour):
        filled = np.rint((1 - FILL) * np.arange(256) + FILL * value).astype(np.uint8)
        plane = pixels[region][..., channel]
        plane[mask] = filled[plane[mask]]
        plane[edge] = value


def _outline_mask(pixels: Pixels, masks: RleMasks, index: int, line_width: int) -> None:
    """The edge of one mask in white and, within it, black: visible on any picture."""
    region, mask = _decode_one(pixels, masks, index)
    inside = _eroded(mask, line_width)
    pixels[region][mask & ~inside] = WHITE
    pixels[region][inside & ~_eroded(inside, line_width)] = BLACK


def _decode_one(pixels: Pixels, masks: RleMasks, index: int) -> tuple[tuple[slice, slice], Bitmap]:
    """The part of the picture where a mask is, and the mask there."""
    if masks.size != pixels.shape[:2]:
        raise ValueError(f"masks must have the image's size {pixels.shape[:2]} (height, width), got {masks.size}")
    one = masks[torch.tensor([index])]
    x1, y1, x2, y2 = one.boxes()[0].int().tolist()
    region = slice(y1, y2), slice(x1, x2)
    return region, decode(one)[0].numpy()[region].astype(np.bool_)


def _eroded(mask: Bitmap, steps: int) -> Bitmap:
    """What is left when `steps` times every pixel goes that has a neighbour outside."""
    for _ in range(steps):
        padded = np.pad(mask, 1)
        mask = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask


@lru_cache(maxsize=32)
def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _outline(box: Sequence[float], line_width: int) -> tuple[int, int, int, int]:
    """Pillow's corners, both inclusive, of a box; never turned inside out."""
    x1, y1, x2, y2 = (round(value) for value in box)
    return x1, y1, max(x2 - 1, x1 + line_width), max(y2 - 1, y1 + line_width)


def _name(draw: ImageDraw, box: Sequence[float], name: str, font: FreeTypeFont | ImageFont, background: Colour) -> None:
    """Above the box, moved into the picture where it would leave it."""
    left, top, right, bottom = draw.textbbox((0, 0), name, font=font)
    margin = max(1, round((bottom - top) / 6))
    width, height = round(right - left) + 2 * margin + 1, round(bottom - top) + 2 * margin + 1
    picture_width, picture_height = draw.im.size
    x = max(0, min(round(box[0]), picture_width - width))
    y = max(0, min(round(box[1]) - height, picture_height - height))
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=background)
    luminance = 0.299 * background[0] + 0.587 * background[1] + 0.114 * background[2]
    draw.text((x + margin - left, y + margin - top), name, fill=BLACK if luminance > 140 else WHITE, font=font)


def _dashed_rectangle(draw: ImageDraw, corners: tuple[int, int, int, int], width: int) -> None:
    """White dashes on black, visible on any picture."""
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
