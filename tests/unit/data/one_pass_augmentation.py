"""SSD's augmentation in one pass, which draws random numbers when it needs them: what the planned one must equal."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from PIL.Image import Resampling
from torch import Tensor

from vovnet.boxes import flip_horizontally, flip_vertically
from vovnet.data import opencv
from vovnet.data.transforms import SSDAugmentation
from vovnet.structures import Target

_RESAMPLING = (Resampling.BILINEAR, Resampling.BOX, Resampling.NEAREST, Resampling.BICUBIC, Resampling.LANCZOS)


@dataclass(frozen=True)
class OnePassAugmentation(SSDAugmentation):
    """Of the planned one it has the choice of a crop."""

    def __call__(self, image: Tensor, target: Target, rng: np.random.Generator) -> tuple[Tensor, Target]:
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

    def _distort(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
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
