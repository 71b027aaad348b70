"""Boxes, names and scores on a picture."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vovnet.metrics.confusion import FALSE_ALARM, match_objects
from vovnet.structures import Detections, Target

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

Colour = tuple[int, int, int]
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def draw_detections(
    image: Tensor, detections: Detections, class_names: Sequence[str], *, target: Target | None = None
) -> Tensor:
    """A copy of `image` with every detection's box, class name and score, best score on top.

    image: uint8 RGB of shape (3, H, W); the result has its shape.
    target: shows the mistakes: each object as a dashed white box, those that no detection of their class finds as a
    thick one that says "missed", and a "?" behind the score of a detection that finds no object of its class.
    """
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"image must be uint8 of shape (3, H, W), got {image.dtype} of {tuple(image.shape)}")
    from PIL import Image, ImageDraw

    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    draw = ImageDraw.Draw(picture)
    scale = (picture.width * picture.height) ** 0.5
    line_width = max(1, round(scale / 280))
    font = _font(max(10, round(scale / 38)))

    worst_first = range(len(detections) - 1, -1, -1)
    boxes, labels, scores = detections.boxes.tolist(), detections.labels.tolist(), detections.scores.tolist()
    names = [f"{class_names[label]} {score:.2f}" for label, score in zip(labels, scores, strict=True)]
    for index in worst_first:
        draw.rectangle(_outline(boxes[index], line_width), outline=class_colour(labels[index]), width=line_width)

    missed: list[tuple[list[float], str]] = []
    if target is not None:
        matched = match_objects(detections, target)
        right = detections.labels.numpy() == np.append(target.labels.numpy(), -1)[matched]
        for index in np.flatnonzero(~right & (matched >= FALSE_ALARM)).tolist():
            names[index] += " ?"
        found = set(matched[right].tolist())
        ignored = (target.difficult | target.crowd).tolist()
        for index, (box, label) in enumerate(zip(target.boxes.tolist(), target.labels.tolist(), strict=True)):
            is_missed = index not in found and not ignored[index]
            _dashed_rectangle(draw, _outline(box, line_width), line_width * (2 if is_missed else 1))
            if is_missed:
                missed.append((box, f"missed {class_names[label]}"))

    # Names come after all boxes, so that no line crosses one.
    for index in worst_first:
        _name(draw, boxes[index], names[index], font, class_colour(labels[index]))
    for box, name in missed:
        _name(draw, box, name, font, WHITE)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


@lru_cache(maxsize=1024)
def class_colour(label: int) -> Colour:
    """The RGB colour of a class, always the same; neighbouring labels are far apart in hue."""
    hue = (0.30 + label * 0.381966) % 1.0  # golden section: no two of the first classes come close
    value = (1.0, 0.8)[(label // 8) % 2]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, value)
    return round(255 * red), round(255 * green), round(255 * blue)


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
