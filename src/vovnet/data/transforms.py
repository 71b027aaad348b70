"""SSD's training augmentation: colours, expansion, crops chosen by overlap, warp to the network's input size, flips.

Order and constants follow SSD's Caffe code; docs/augmentation.md lists the differences and their reasons. Colours
change before the image is expanded, so the border keeps the plain mean. Colour changes act on single pixels, so only
the part of the image that the crop keeps is computed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from PIL.Image import Resampling
from torch import Tensor

from vovnet.boxes import flip_horizontally, flip_vertically
from vovnet.data import opencv
from vovnet.structures import Target

_CROP_TRIALS = 50
_CROP_MIN_IOUS = (0.1, 0.3, 0.5, 0.7, 0.9, None)  # None: any patch, if the image has an object
_RESAMPLING = (Resampling.BILINEAR, Resampling.BOX, Resampling.NEAREST, Resampling.BICUBIC, Resampling.LANCZOS)


@dataclass(frozen=True)
class Colours:
    """Changes of brightness, contrast, saturation and hue, in one of SSD's two orders; the defaults change nothing.

    brightness: is added to the levels 0…255.
    contrast, saturation: factors.
    hue: rotation in steps of 1/256, as Pillow's HSV has them.
    contrast_last: contrast comes after saturation and hue, not before them.
    """

    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    contrast_last: bool = True

    @property
    def in_hsv(self) -> bool:
        """Whether pixels pass through HSV, which rounds them."""
        return self.saturation != 1 or self.hue != 0


@dataclass(frozen=True)
class Plan:
    """All that was drawn at random for an image, from which its pixels follow.

    part: x1 y1 x2 y2 in pixels of the image, of what the crop keeps; empty if the crop lies in the border.
    crop_size: (height, width) of the crop of the canvas.
    offset: x y of the part in the crop; around it is the mean.
    interpolation: index into SSD's list.
    flip, flip_vertical, transpose: of the result, in this order.
    """

    part: tuple[int, int, int, int]
    crop_size: tuple[int, int]
    offset: tuple[int, int]
    colours: Colours
    interpolation: int
    flip: bool
    flip_vertical: bool
    transpose: bool

    def part_of(self, image: Tensor) -> Tensor:
        """(3, H, W) → the part that the crop keeps, (3, h, w) or (3, 0, 0)."""
        x1, y1, x2, y2 = self.part
        return image[:, y1:y2, x1:x2]


@dataclass(frozen=True)
class SSDAugmentation:
    """Changes one training image and its objects at random.

    image_size: (height, width) of the result.
    mean: RGB colour that fills the expanded border.
    photometric: probability of each of brightness, contrast, saturation and hue.
    expand: largest expansion ratio; 1 turns expansion off.
    crop_min_scale: shortest side of a crop, as a fraction of the image; 1 turns crops off.
    flip, flip_vertical, transpose: probabilities. Only square results are transposed.
    antialias: warp with Pillow's interpolations, which average when an image shrinks, instead of OpenCV's.
    """

    image_size: tuple[int, int]
    mean: tuple[float, float, float]
    photometric: float = 0.5
    expand: float = 4.0
    crop_min_scale: float = 0.3
    flip: float = 0.5
    flip_vertical: float = 0.0
    transpose: float = 0.0
    antialias: bool = True

    @property
    def border(self) -> tuple[int, int, int]:
        """The mean as a colour of 8 bits."""
        red, green, blue = (round(m) for m in self.mean)
        return red, green, blue

    def __call__(self, image: Tensor, target: Target, rng: np.random.Generator) -> tuple[Tensor, Target]:
        """uint8 RGB (3, H, W) and its target → uint8 RGB (3, *image_size) and the target in its pixels.

        Masks are dropped: detectors with a fixed input size learn boxes only.
        """
        height, width = image.shape[-2:]
        plan, target = self.plan((height, width), target, rng)
        return self.draw(image, plan), target

    def plan(self, size: tuple[int, int], target: Target, rng: np.random.Generator) -> tuple[Plan, Target]:
        """What to do with an image of (height, width) `size`, and its target in pixels of the result."""
        height, width = size
        boxes = target.boxes.numpy().astype(np.float64)

        # The canvas is the image, at (left, top), with a border. The crop keeps `patch` of it.
        ratio = rng.uniform(1, self.expand) if self.expand > 1 and rng.random() < 0.5 else 1.0
        canvas_w, canvas_h = int(width * ratio), int(height * ratio)
        left, top = int(rng.uniform(0, canvas_w - width)), int(rng.uniform(0, canvas_h - height))
        boxes = boxes + np.array([left, top, left, top])
        patch = self._choose_crop(boxes, canvas_w, canvas_h, rng)
        x1, y1, x2, y2 = (int(v) for v in patch)
        part = max(x1 - left, 0), max(y1 - top, 0), min(x2 - left, width), min(y2 - top, height)
        if part[0] < part[2] and part[1] < part[3]:
            colours, offset = self._choose_colours(rng), (part[0] + left - x1, part[1] + top - y1)
        else:
            colours, offset, part = Colours(), (0, 0), (0, 0, 0, 0)
        interpolation = int(rng.integers(len(_RESAMPLING)))
        out_h, out_w = self.image_size

        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = ((centre >= patch[:2]) & (centre < patch[2:])).all(axis=1)
        boxes = np.clip(boxes, np.tile(patch[:2], 2), np.tile(patch[2:], 2)) - np.tile(patch[:2], 2)
        boxes *= np.tile([out_w / (x2 - x1), out_h / (y2 - y1)], 2)
        inside &= (boxes[:, 2] - boxes[:, 0] > 0) & (boxes[:, 3] - boxes[:, 1] > 0)
        target = replace(target, boxes=torch.from_numpy(boxes).float(), masks=None)[torch.from_numpy(inside)]
        flip, flip_vertical = bool(rng.random() < self.flip), bool(rng.random() < self.flip_vertical)
        transpose = out_h == out_w and bool(rng.random() < self.transpose)
        plan = Plan(part, (y2 - y1, x2 - x1), offset, colours, interpolation, flip, flip_vertical, transpose)
        return plan, replace(target, boxes=self._flip_boxes(target.boxes, plan))

    def draw(self, image: Tensor, plan: Plan) -> Tensor:
        """uint8 RGB (3, H, W) → uint8 RGB (3, *image_size), as planned."""
        out_h, out_w = self.image_size
        crop = Image.new("RGB", plan.crop_size[::-1], self.border)
        part = plan.part_of(image)
        if part.numel():
            inside = Image.fromarray(part.permute(1, 2, 0).contiguous().numpy())
            crop.paste(_distort(inside, plan.colours), plan.offset)
        if self.antialias:
            warped = np.asarray(crop.resize((out_w, out_h), _RESAMPLING[plan.interpolation]))
        else:
            warped = opencv.resize(np.asarray(crop), self.image_size, opencv.INTERPOLATIONS[plan.interpolation])
        pixels = torch.from_numpy(warped.copy()).permute(2, 0, 1)
        pixels = pixels.flip(2) if plan.flip else pixels
        pixels = pixels.flip(1) if plan.flip_vertical else pixels
        return (pixels.transpose(1, 2) if plan.transpose else pixels).contiguous()

    def _choose_crop(self, boxes: np.ndarray, width: int, height: int, rng: np.random.Generator) -> np.ndarray:
        """A patch of the canvas, x1 y1 x2 y2 in whole pixels.

        For each minimum IoU, the first trial that reaches it with some object is a candidate. One of the candidates and
        the whole canvas is drawn with equal probability.
        """
        offers = [np.array([0, 0, width, height])]
        if self.crop_min_scale == 1:
            return offers[0]
        for min_iou in _CROP_MIN_IOUS if len(boxes) else ():
            scale = rng.uniform(self.crop_min_scale, 1, _CROP_TRIALS)
            aspect = np.clip(rng.uniform(0.5, 2, _CROP_TRIALS), scale**2, 1 / scale**2)
            w, h = scale * np.sqrt(aspect) * width, scale / np.sqrt(aspect) * height
            x, y = rng.uniform(0, np.maximum(width - w, 0)), rng.uniform(0, np.maximum(height - h, 0))
            patches = np.stack([x, y, x + w, y + h], axis=1).round()
            # At least one pixel, even in a very small image.
            patches[:, 2:] = np.maximum(patches[:, 2:], patches[:, :2] + 1)
            accepted = patches if min_iou is None else patches[_best_iou(patches, boxes) >= min_iou]
            if len(accepted):
                offers.append(accepted[0])
        return offers[rng.integers(len(offers))]

    def _choose_colours(self, rng: np.random.Generator) -> Colours:
        brightness, contrast, saturation, hue = rng.random(4) < self.photometric
        added = rng.uniform(-32, 32) if brightness else 0.0
        contrast_factor = rng.uniform(0.5, 1.5) if contrast else 1.0
        contrast_last = bool(rng.random() < 0.5)
        rotation = rng.uniform(-18, 18) * 256 / 180 if hue else 0.0  # hue has 256 steps in Pillow, 180 in OpenCV
        saturation_factor = rng.uniform(0.5, 1.5) if saturation else 1.0
        return Colours(added, contrast_factor, saturation_factor, rotation, contrast_last)

    def _flip_boxes(self, boxes: Tensor, plan: Plan) -> Tensor:
        height, width = self.image_size
        boxes = flip_horizontally(boxes, width) if plan.flip else boxes
        boxes = flip_vertically(boxes, height) if plan.flip_vertical else boxes
        return boxes[:, [1, 0, 3, 2]] if plan.transpose else boxes


def _distort(image: Image.Image, colours: Colours) -> Image.Image:
    """The image with other colours, clipped to 0…255 after each change."""
    levels = np.clip(np.arange(256.0) + colours.brightness, 0, 255)
    contrasts = np.clip(np.arange(256) * colours.contrast, 0, 255)
    if not colours.contrast_last:
        levels = contrasts[levels.round().astype(int)]
    image = image.point(_table(levels) * 3)
    if colours.in_hsv:
        hues = (np.arange(256) + colours.hue).round() % 256
        saturations = np.clip(np.arange(256) * colours.saturation, 0, 255)
        values = list(range(256))
        image = image.convert("HSV").point(_table(hues) + _table(saturations) + values).convert("RGB")
    return image.point(_table(contrasts) * 3) if colours.contrast != 1 and colours.contrast_last else image


def _table(levels: np.ndarray) -> list[int]:
    """A lookup table for `Image.point`: the new value of each of the 256 levels of a channel."""
    return levels.round().astype(int).tolist()


def _best_iou(patches: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(T, 4) patches, (M, 4) boxes → (T,): the largest IoU of each patch with an object."""
    low = np.maximum(patches[:, None, :2], boxes[None, :, :2])
    high = np.minimum(patches[:, None, 2:], boxes[None, :, 2:])
    intersection = np.clip(high - low, 0, None).prod(axis=2)
    sizes = (patches[:, None, 2:] - patches[:, None, :2]).prod(axis=2) + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return (intersection / (sizes - intersection)).max(axis=1)
