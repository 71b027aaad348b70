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

    def __call__(self, image: Tensor, target: Target, rng: np.random.Generator) -> tuple[Tensor, Target]:
        """uint8 RGB (3, H, W) and its target → uint8 RGB (3, *image_size) and the target in its pixels.

        Masks are dropped: detectors with a fixed input size learn boxes only.
        """
        height, width = image.shape[-2:]
        boxes = target.boxes.numpy().astype(np.float64)

        # The canvas is the image, at (left, top), with a border. The crop keeps `patch` of it.
        ratio = rng.uniform(1, self.expand) if self.expand > 1 and rng.random() < 0.5 else 1.0
        canvas_w, canvas_h = int(width * ratio), int(height * ratio)
        left, top = int(rng.uniform(0, canvas_w - width)), int(rng.uniform(0, canvas_h - height))
        boxes = boxes + np.array([left, top, left, top])
        patch = self._choose_crop(boxes, canvas_w, canvas_h, rng)
        x1, y1, x2, y2 = (int(v) for v in patch)
        # The part of the image inside the patch, in pixels of the image.
        part_x1, part_y1 = max(x1 - left, 0), max(y1 - top, 0)
        part_x2, part_y2 = min(x2 - left, width), min(y2 - top, height)
        crop = Image.new("RGB", (x2 - x1, y2 - y1), tuple(round(m) for m in self.mean))
        if part_x1 < part_x2 and part_y1 < part_y2:
            part = image[:, part_y1:part_y2, part_x1:part_x2].permute(1, 2, 0)
            distorted = self._distort(Image.fromarray(part.contiguous().numpy()), rng)
            crop.paste(distorted, (part_x1 + left - x1, part_y1 + top - y1))
        out_h, out_w = self.image_size
        drawn = rng.integers(len(_RESAMPLING))
        if self.antialias:
            warped = np.asarray(crop.resize((out_w, out_h), _RESAMPLING[drawn]))
        else:
            warped = opencv.resize(np.asarray(crop), self.image_size, opencv.INTERPOLATIONS[drawn])
        pixels = torch.from_numpy(warped.copy()).permute(2, 0, 1)

        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = ((centre >= patch[:2]) & (centre < patch[2:])).all(axis=1)
        boxes = np.clip(boxes, np.tile(patch[:2], 2), np.tile(patch[2:], 2)) - np.tile(patch[:2], 2)
        boxes *= np.tile([out_w / (x2 - x1), out_h / (y2 - y1)], 2)
        inside &= (boxes[:, 2] - boxes[:, 0] > 0) & (boxes[:, 3] - boxes[:, 1] > 0)
        target = replace(target, boxes=torch.from_numpy(boxes).float(), masks=None)
        return self._flip(pixels, target[torch.from_numpy(inside)], rng)

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

    def _distort(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Brightness, contrast, saturation and hue in one of SSD's two orders, each clipped to 0…255."""
        brightness, contrast, saturation, hue = rng.random(4) < self.photometric
        levels = np.arange(256.0)
        if brightness:
            levels = np.clip(levels + rng.uniform(-32, 32), 0, 255)
        contrasts = np.clip(np.arange(256) * rng.uniform(0.5, 1.5), 0, 255) if contrast else np.arange(256)
        contrast_last = rng.random() < 0.5
        if not contrast_last:
            levels = contrasts[levels.round().astype(int)]
        image = image.point(_table(levels) * 3)
        if saturation or hue:
            rotation = rng.uniform(-18, 18) * 256 / 180 if hue else 0.0  # hue has 256 steps in Pillow, 180 in OpenCV
            factor = rng.uniform(0.5, 1.5) if saturation else 1.0
            hues = (np.arange(256) + rotation).round() % 256
            saturations = np.clip(np.arange(256) * factor, 0, 255)
            values = list(range(256))
            image = image.convert("HSV").point(_table(hues) + _table(saturations) + values).convert("RGB")
        return image.point(_table(contrasts) * 3) if contrast and contrast_last else image

    def _flip(self, image: Tensor, target: Target, rng: np.random.Generator) -> tuple[Tensor, Target]:
        height, width = image.shape[-2:]
        boxes = target.boxes
        if rng.random() < self.flip:
            image, boxes = image.flip(2), flip_horizontally(boxes, width)
        if rng.random() < self.flip_vertical:
            image, boxes = image.flip(1), flip_vertically(boxes, height)
        if height == width and rng.random() < self.transpose:
            image, boxes = image.transpose(1, 2), boxes[:, [1, 0, 3, 2]]
        return image.contiguous(), replace(target, boxes=boxes)


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
