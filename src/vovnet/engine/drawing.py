"""Draw detections or the objects of a target on an image: masks, boxes, class names, scores and errors."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from vovnet.masks import RleMasks, decode
from vovnet.media.fonts import Font, draw_runs, load_default, runs_box, text_runs
from vovnet.metrics.confusion import FALSE_POSITIVE, match_objects
from vovnet.printing import line, tell_apart
from vovnet.structures import Detections, Masks, Target

Colour = tuple[int, int, int]
Pixels = npt.NDArray[np.uint8]
Bitmap = npt.NDArray[np.bool_]
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
_LONGEST_NAME = 60  # characters
FILL = 0.45  # opacity of a mask
TONES = (0.0, 0.5, -0.4, 0.25, -0.2)  # shift of the class colour for successive objects: to white, or to black if < 0


@dataclass(frozen=True)
class _Item:
    """A detection or an object of the ground truth, as it is drawn. `mask` is a single mask."""

    box: list[float]
    name: str
    colour: Colour
    mask: RleMasks | None


def draw_detections(
    image: Tensor, detections: Detections, class_names: Sequence[str], *, target: Target | None = None
) -> Tensor:
    """A copy of `image` with the mask, box, class name and score of each detection, the highest score on top.

    image: uint8 RGB (3, H, W), as is the result. Detections of one class that have masks differ in tone.
    target: also marks errors. Every object of the target gets a dashed white box. If no detection of its class
        matches it, the box is thick and says "missed", and its mask is outlined. A "?" follows the score of a
        detection that matches no object of its class.

    Raises ValueError for an image of another type or shape, and for masks of another size.
    """
    labels, scores = detections.labels.tolist(), detections.scores.tolist()
    class_names = _shown_names(tuple(class_names))
    names = [f"{class_names[label]} {score:.2f}" for label, score in zip(labels, scores, strict=True)]
    truth: list[_Item] = []
    if target is not None:
        matched = match_objects(detections, target)
        correct = detections.labels.numpy() == np.append(target.labels.numpy(), -1)[matched]
        for index in np.flatnonzero(~correct & (matched >= FALSE_POSITIVE)).tolist():
            names[index] += " ?"
        missed = np.setdiff1d(np.flatnonzero(~(target.difficult | target.crowd).numpy()), matched[correct])
        truth_names = [""] * len(target)
        for index in missed.tolist():
            truth_names[index] = f"missed {class_names[int(target.labels[index])]}"
        truth = _items(target.boxes, truth_names, [WHITE] * len(target), target.masks)
    items = _items(detections.boxes, names, _colours(labels, detections.masks), detections.masks)
    return _annotate(image, items[::-1], truth)


def draw_target(image: Tensor, target: Target, class_names: Sequence[str]) -> Tensor:
    """A copy of `image` with the mask, box and class name of each object, in the colours of `draw_detections`.

    Small objects are on top. A "~" follows the name of an object that evaluation ignores: a difficult one or a crowd.
    """
    class_names = _shown_names(tuple(class_names))
    labels, ignored = target.labels.tolist(), (target.difficult | target.crowd).tolist()
    names = [class_names[label] + (" ~" if ignore else "") for label, ignore in zip(labels, ignored, strict=True)]
    items = _items(target.boxes, names, _colours(labels, target.masks), target.masks)
    large_first = target.area.argsort(descending=True, stable=True).tolist()
    return _annotate(image, [items[index] for index in large_first])


@lru_cache(maxsize=16)
def _shown_names(class_names: tuple[str, ...]) -> list[str]:
    """The names on short lines, which still differ."""
    return tell_apart([line(name, _LONGEST_NAME) for name in class_names])


def _items(boxes: Tensor, names: Sequence[str], colours: Sequence[Colour], masks: Masks | None) -> list[_Item]:
    return [
        _Item(box, name, colour, masks[torch.tensor([index])] if isinstance(masks, RleMasks) else None)
        for index, (box, name, colour) in enumerate(zip(boxes.tolist(), names, colours, strict=True))
    ]


def _annotate(image: Tensor, items: Sequence[_Item], truth: Sequence[_Item] = ()) -> Tensor:
    """A copy of `image` with filled masks, boxes and names of `items`, the last on top, and `truth` dashed over it.

    Of `truth`, what has no name was not missed: it has a thin box only.
    """
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"image must be uint8 of shape (3, H, W), got {image.dtype} of {tuple(image.shape)}")
    pixels = np.array(image.permute(1, 2, 0).numpy(), order="C")  # a copy
    scale = (pixels.shape[0] * pixels.shape[1]) ** 0.5
    line_width, font = max(1, round(scale / 280)), load_default(max(10, round(scale / 38)))
    missed = [item for item in truth if item.name]
    for item in items:
        if item.mask is not None:
            _fill_mask(pixels, item.mask, item.colour, max(1, line_width // 2))
    for item in missed:
        if item.mask is not None:
            _outline_mask(pixels, item.mask, line_width)
    annotated = Image.fromarray(pixels)
    draw = ImageDraw.Draw(annotated)
    for item in items:
        draw.rectangle(_corners(item.box, line_width), outline=item.colour, width=line_width)
    for item in truth:
        _draw_dashed_box(draw, _corners(item.box, line_width), line_width * (2 if item.name else 1))
    # Names come after all boxes, so that no line crosses a name.
    for item in (*items, *missed):
        _draw_name(draw, item, font)
    return torch.from_numpy(np.array(annotated)).permute(2, 0, 1).contiguous()


@lru_cache(maxsize=1024)
def class_colour(label: int) -> Colour:
    """The RGB colour of a class: always the same, with neighbouring labels far apart in hue."""
    hue = (0.30 + label * 0.381966) % 1.0  # golden ratio: keeps the first labels well apart
    value = (1.0, 0.8)[(label // 8) % 2]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _colours(labels: Sequence[int], masks: Masks | None) -> list[Colour]:
    """The class colour of each object; with masks a tone of it, so that objects of one class can be told apart."""
    seen: Counter[int] = Counter()
    colours = []
    for label in labels:
        tone = TONES[seen[label] % len(TONES)] if isinstance(masks, RleMasks) else 0.0
        seen[label] += 1
        red, green, blue = (round(side + abs(tone) * ((255 if tone > 0 else 0) - side)) for side in class_colour(label))
        colours.append((red, green, blue))
    return colours


def _fill_mask(pixels: Pixels, single: RleMasks, colour: Colour, line_width: int) -> None:
    """Draw a mask as a translucent fill with an opaque edge."""
    region, mask = _decode_region(pixels, single)
    edge = mask & ~_eroded(mask, line_width)
    for channel, value in enumerate(colour):
        filled = np.rint((1 - FILL) * np.arange(256) + FILL * value).astype(np.uint8)
        plane = pixels[region][..., channel]
        plane[mask] = filled[plane[mask]]
        plane[edge] = value


def _outline_mask(pixels: Pixels, single: RleMasks, line_width: int) -> None:
    """Draw the edge of a mask in white with black inside it, which is visible on any image."""
    region, mask = _decode_region(pixels, single)
    inside = _eroded(mask, line_width)
    pixels[region][mask & ~inside] = WHITE
    pixels[region][inside & ~_eroded(inside, line_width)] = BLACK


def _decode_region(pixels: Pixels, single: RleMasks) -> tuple[tuple[slice, slice], Bitmap]:
    """The bounding box of a single mask as slices of the image, and the mask in it."""
    if single.size != pixels.shape[:2]:
        raise ValueError(f"masks must have the image's size {pixels.shape[:2]} (height, width), got {single.size}")
    x1, y1, x2, y2 = single.boxes()[0].int().tolist()
    region = slice(y1, y2), slice(x1, x2)
    return region, decode(single)[0].numpy()[region].astype(np.bool_)


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


def _draw_name(draw: ImageDraw.ImageDraw, item: _Item, font: Font) -> None:
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
