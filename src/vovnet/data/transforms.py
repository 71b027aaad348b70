"""SSD's training augmentation: colours, expansion, crops chosen by overlap, flips, warp to the network's size.

The order and the numbers are those of SSD's Caffe code; docs/augmentation.md lists where this differs and why. Colours
change before the image is expanded, so the border keeps the plain mean; since they act on single pixels, only the part
that the crop keeps is computed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vovnet.structures import Target

_CROP_TRIALS = 50
_CROP_MIN_IOUS = (0.1, 0.3, 0.5, 0.7, 0.9, None)  # None: any patch, provided that there is an object
_RESAMPLING = (
    Image.Resampling.BILINEAR,
    Image.Resampling.BOX,
    Image.Resampling.NEAREST,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)


@dataclass(frozen=True)
class SSDAugmentation:
    """One training image and its objects, changed at random.

    image_size: (height, width) to warp to; mean: RGB, fills the expanded border.
    photometric: probability of each of brightness, contrast, saturation and hue.
    expand: largest expansion ratio (1 turns it off); crop_min_scale: shortest side of a crop relative to the image
    (1 turns crops off); flip, flip_vertical, transpose: probabilities.
    """

    image_size: tuple[int, int]
    mean: tuple[float, float, float]
    photometric: float = 0.5
    expand: float = 4.0
    crop_min_scale: float = 0.3
    flip: float = 0.5
    flip_vertical: float = 0.0
    transpose: float = 0.0

    def __call__(self, image: Tensor, target: Target, rng: np.random.Generator) -> tuple[Tensor, Target]:
        """uint8 RGB (3, H, W) and its target → uint8 RGB (3, *image_size) and the target in its pixels.

        Masks are left behind: detectors of fixed input size learn boxes only.
        """
        target = replace(target, masks=None)
        height, width = image.shape[-2:]
        boxes = target.boxes.numpy().astype(np.float64)

        # The canvas is the image with a border; `left`, `top` place the image on it, `patch` is what is kept of it.
        ratio = rng.uniform(1, self.expand) if self.expand > 1 and rng.random() < 0.5 else 1.0
        canvas_w, canvas_h = int(width * ratio), int(height * ratio)
        left, top = (int(rng.uniform(0, canvas_w - width)), int(rng.uniform(0, canvas_h - height)))
        boxes = boxes + np.array([left, top, left, top])
        patch = self._choose_crop(boxes, canvas_w, canvas_h, rng) if self.crop_min_scale < 1 else None
        if patch is None:
            patch = np.array([0, 0, canvas_w, canvas_h])

        x1, y1, x2, y2 = (int(v) for v in patch)
        view = (max(x1 - left, 0), max(y1 - top, 0), min(x2 - left, width), min(y2 - top, height))
        picture = Image.new("RGB", (x2 - x1, y2 - y1), tuple(round(m) for m in self.mean))
        if view[0] < view[2] and view[1] < view[3]:
            part = image[:, view[1] : view[3], view[0] : view[2]].permute(1, 2, 0)
            seen = self._distort(Image.fromarray(part.contiguous().numpy()), rng)
            picture.paste(seen, (view[0] + left - x1, view[1] + top - y1))
        out_h, out_w = self.image_size
        resampling = _RESAMPLING[rng.integers(len(_RESAMPLING))]
        pixels = torch.from_numpy(np.asarray(picture.resize((out_w, out_h), resampling)).copy()).permute(2, 0, 1)

        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = ((centre >= patch[:2]) & (centre < patch[2:])).all(axis=1)
        boxes = np.clip(boxes, np.tile(patch[:2], 2), np.tile(patch[2:], 2)) - np.tile(patch[:2], 2)
        boxes *= np.tile([out_w / (x2 - x1), out_h / (y2 - y1)], 2)
        inside &= (boxes[:, 2] - boxes[:, 0] > 0) & (boxes[:, 3] - boxes[:, 1] > 0)
        return self._flip(pixels, target.with_boxes(torch.from_numpy(boxes).float())[torch.from_numpy(inside)], rng)

    def _choose_crop(self, boxes: np.ndarray, width: int, height: int, rng: np.random.Generator) -> np.ndarray | None:
        """One of the found patches (x1 y1 x2 y2 in whole pixels), or None for the whole canvas.

        Each sampler offers its first patch that overlaps some object enough; the choice among the offers is uniform.
        """
        offers: list[np.ndarray | None] = [None]
        for min_iou in _CROP_MIN_IOUS if len(boxes) else ():
            scale = rng.uniform(self.crop_min_scale, 1, _CROP_TRIALS)
            aspect = np.clip(rng.uniform(0.5, 2, _CROP_TRIALS), scale**2, 1 / scale**2)
            w, h = scale * np.sqrt(aspect) * width, scale / np.sqrt(aspect) * height
            x, y = (rng.uniform(0, np.maximum(width - w, 0)), rng.uniform(0, np.maximum(height - h, 0)))
            patches = np.stack([x, y, x + w, y + h], axis=1).round()
            patches[:, 2:] = np.maximum(patches[:, 2:], patches[:, :2] + 1)  # of an image a few pixels wide
            found = np.arange(_CROP_TRIALS) if min_iou is None else (_best_iou(patches, boxes) >= min_iou).nonzero()[0]
            if len(found):
                offers.append(patches[found[0]])
        return offers[rng.integers(len(offers))]

    def _distort(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Brightness, contrast, saturation, hue in one of SSD's two orders, each saturating at 0 and 255."""
        brightness, contrast, saturation, hue = rng.random(4) < self.photometric
        levels = np.arange(256.0)
        if brightness:
            levels = np.clip(levels + rng.uniform(-32, 32), 0, 255)
        contrast_table = np.clip(np.arange(256) * rng.uniform(0.5, 1.5), 0, 255) if contrast else None
        contrast_last = rng.random() < 0.5
        if contrast_table is not None and not contrast_last:
            levels = contrast_table[levels.round().astype(int)]
        image = image.point(_table(levels) * 3)
        if saturation or hue:
            # Pillow's hue circle has 256 steps where OpenCV's has 180.
            turn = rng.uniform(-18, 18) * 256 / 180 if hue else 0.0
            factor = rng.uniform(0.5, 1.5) if saturation else 1.0
            hues = (np.arange(256) + turn).round() % 256
            saturations = np.clip(np.arange(256) * factor, 0, 255)
            image = image.convert("HSV").point(_table(hues) + _table(saturations) + _table(np.arange(256.0)))
            image = image.convert("RGB")
        if contrast_table is not None and contrast_last:
            image = image.point(_table(contrast_table) * 3)
        return image

    def _flip(self, image: Tensor, target: Target, rng: np.random.Generator) -> tuple[Tensor, Target]:
        height, width = image.shape[-2:]
        boxes = target.boxes
        if rng.random() < self.flip:
            image = image.flip(2)
            boxes = torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)
        if rng.random() < self.flip_vertical:
            image = image.flip(1)
            boxes = torch.stack([boxes[:, 0], height - boxes[:, 3], boxes[:, 2], height - boxes[:, 1]], dim=1)
        if height == width and rng.random() < self.transpose:
            image, boxes = image.transpose(1, 2), boxes[:, [1, 0, 3, 2]]
        return image.contiguous(), target.with_boxes(boxes)


def _table(levels: np.ndarray) -> list[int]:
    return levels.round().astype(int).tolist()


def _best_iou(patches: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(T, 4), (M, 4) → (T,): each patch's largest IoU with an object."""
    low = np.maximum(patches[:, None, :2], boxes[None, :, :2])
    high = np.minimum(patches[:, None, 2:], boxes[None, :, 2:])
    intersection = np.clip(high - low, 0, None).prod(axis=2)
    sizes = (patches[:, None, 2:] - patches[:, None, :2]).prod(axis=2) + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return (intersection / (sizes - intersection)).max(axis=1)
