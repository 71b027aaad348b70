"""Training augmentation of detectors that keep the aspect ratio: image, boxes and masks are resized and flipped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d
from torchvision.transforms.v2 import functional as F

from vovnet.boxes import clip, flip_horizontally, rescale
from vovnet.masks import RleMasks, decode
from vovnet.polygons import Polygons
from vovnet.sizes import fit_size
from vovnet.structures import Target, TrainingMasks


def _resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    return F.resize(image, list(size), interpolation=F.InterpolationMode.BILINEAR, antialias=True)


@dataclass(frozen=True)
class ResizeAugmentation:
    """Resizes one training image and its objects as in prediction, and flips them at random.

    short_sides: lengths in pixels; the shorter side of the result is one of them, drawn at random.
    long_side: largest length of the longer side, in pixels; an image that would exceed it is resized to it instead.
    flip: probability of a horizontal flip.
    resize: resizes the image to (height, width), as in prediction.
    """

    short_sides: tuple[int, ...]
    long_side: int
    flip: float = 0.5
    resize: Callable[[Tensor, tuple[int, int]], Tensor] = _resize_image

    def __call__(self, image: Tensor, target: Target, rng: np.random.Generator) -> tuple[Tensor, Target]:
        """uint8 RGB (3, H, W) and its target → uint8 RGB (3, h, w) and the target in its pixels, with its `image_size`.

        Polygons stay polygons. Run-length masks of (H, W) without polygons become bitmaps, uint8 (·, h, w). Boxes are
        clipped to the image; an object that lies outside it is dropped, with its mask. Crowds stay: the loss leaves
        them out.
        """
        short = self.short_sides[rng.integers(len(self.short_sides))]
        flip = rng.random() < self.flip
        height, width = image.shape[-2:]
        size = fit_size((height, width), short, self.long_side)
        image = self.resize(image, size)

        boxes = clip(rescale(target.boxes, (height, width), size), size)
        target = replace(target, boxes=boxes)[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)]
        masks = _to_training_masks(target.masks, size, flip) if isinstance(target.masks, RleMasks) else None
        boxes = target.boxes
        if flip:
            image, boxes = image.flip(2), flip_horizontally(boxes, size[1])
        return image, replace(target, boxes=boxes, masks=masks, image_size=size)


def _to_training_masks(masks: RleMasks, size: tuple[int, int], flip: bool) -> Tensor | TrainingMasks:
    """The masks in the image resized to (height, width) `size` and then maybe flipped; bitmaps if none has polygons."""
    polygons = masks.polygons
    without = masks if polygons is None else masks[torch.from_numpy(polygons.parts == 0)]
    bitmaps = _resize_masks(without, size)
    bitmaps = bitmaps.flip(2) if flip else bitmaps
    return bitmaps if polygons is None else TrainingMasks(_resize_polygons(polygons, masks.size, size, flip), bitmaps)


def _resize_polygons(polygons: Polygons, from_size: tuple[int, int], size: tuple[int, int], flip: bool) -> Polygons:
    points = polygons.points * [size[1] / from_size[1], size[0] / from_size[0]]
    if flip:
        points[:, 0] = size[1] - points[:, 0]
    return replace(polygons, points=points)


def _resize_masks(masks: RleMasks, size: tuple[int, int]) -> Tensor:
    """Bitmaps of (height, width) `size`, uint8 (M, h, w), in which no object vanishes.

    If the image grows, each pixel takes the value of the nearest pixel of the mask. If it shrinks, the object's share
    of each new pixel is computed, and a pixel belongs to the mask if its share is at least half the largest share in
    its 3×3 neighbourhood. At a plain edge that is half a pixel, so the edge stays in its place; on a line thinner than
    a pixel it is less, so the line is kept.
    """
    grows = size[0] >= masks.size[0] and size[1] >= masks.size[1]
    bitmaps = torch.empty((len(masks), *size), dtype=torch.uint8)
    for index, bitmap in enumerate(bitmaps):  # one mask at a time: all bitmaps of a large photo take gigabytes
        mask = decode(masks[torch.tensor([index])])
        if grows:
            bitmap[:] = F.resize(mask, list(size), interpolation=F.InterpolationMode.NEAREST_EXACT)[0]
        else:
            share = F.resize(mask.float(), list(size), interpolation=F.InterpolationMode.BILINEAR, antialias=True)
            bitmap[:] = ((share > 0) & (share >= max_pool2d(share, 3, stride=1, padding=1) / 2))[0]
    return bitmaps
