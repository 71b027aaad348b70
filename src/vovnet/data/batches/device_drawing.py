"""Training images drawn on the device: loader processes decode and cut, the device does SSD's augmentation of a batch.

What was drawn at random is the same as in `vovnet.data.transforms`, and so are the pixels within rounding. Colours are
changed pixel by pixel, and a warp with any interpolation, border and flip is two products of matrices for all images at
once. Nothing here waits for the device: whatever shapes depend on is known to the process that collated the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vovnet.data.batches.resampling import Sides, resampling_weights
from vovnet.data.transforms import Plan, SSDAugmentation
from vovnet.errors import UsageError
from vovnet.structures import Target

_MOST_VALUES = 2**25  # of the parts of the images that are drawn together, each padded to the largest
_MULTIPLE = 32  # of the padded sides: few different sizes let the device use its memory again
_COLUMNS = (
    "first_pixel", "part_height", "part_width", "x", "y", "crop_height", "crop_width", "interpolation",
    "brightness", "contrast", "saturation", "hue", "contrast_last", "in_hsv", "flip", "flip_vertical", "transpose",
    "red", "green", "blue",
)  # fmt: skip


class ImagePart(NamedTuple):
    """One training image before it is drawn.

    pixels: uint8 RGB (h, w, 3): the part of the image that the plan keeps.
    """

    pixels: Tensor
    plan: Plan
    augmentation: SSDAugmentation


class Group(NamedTuple):
    """Consecutive images of a batch that are drawn together.

    images, pixels: (first, end) in the batch.
    part_size: (height, width) to which the parts are padded.
    crop_size: largest height and largest width of a crop.
    """

    images: tuple[int, int]
    pixels: tuple[int, int]
    part_size: tuple[int, int]
    crop_size: tuple[int, int]


class UndrawnImages(NamedTuple):
    """A micro-batch of images before they are drawn: two tensors, whatever the number of images.

    pixels: uint8 RGB (·, 3): the parts of all images, row by row, and one black pixel.
    plans: float64 (N, 20): what was drawn at random for each image, and the colour of the border, in the order of
        `_COLUMNS`.
    groups: which images are drawn together.
    image_size: (height, width) of the result.
    antialias, recolour, transpose: whether to warp like Pillow, and whether there are colours to change and images to
        transpose at all.
    """

    pixels: Tensor
    plans: Tensor
    groups: Sequence[Group]
    image_size: tuple[int, int]
    antialias: bool
    recolour: bool
    transpose: bool

    def to(self, device: torch.device) -> UndrawnImages:
        """UsageError for MPS, which has no float64."""
        if device.type == "mps":
            raise UsageError("draw_images=device needs float64, which mps does not have: set draw_images=workers")
        pixels, plans = (tensor.to(device, non_blocking=True) for tensor in (self.pixels, self.plans))
        return self._replace(pixels=pixels, plans=plans)


@dataclass(frozen=True)
class LeaveToDevice:
    """An augmentation whose image is only cut; `draw_images` does the rest for a whole batch."""

    augmentation: SSDAugmentation

    def __call__(self, image: Tensor, target: Target, rng: np.random.Generator) -> tuple[ImagePart, Target]:
        height, width = image.shape[-2:]
        plan, target = self.augmentation.plan((height, width), target, rng)
        return ImagePart(plan.part_of(image).permute(1, 2, 0), plan, self.augmentation), target


def collate_parts(parts: Sequence[ImagePart]) -> UndrawnImages:
    sizes = [part.pixels.shape[:2].numel() for part in parts]
    starts = [0, *np.cumsum(sizes).tolist()]
    pixels = torch.zeros((starts[-1] + 1, 3), dtype=torch.uint8)
    for part, start in zip(parts, starts, strict=False):
        pixels[start : start + part.pixels.shape[:2].numel()].view(part.pixels.shape).copy_(part.pixels)
    plans = [part.plan for part in parts]
    augmentation = parts[0].augmentation
    rows = [_row(plan, start, augmentation.border) for plan, start in zip(plans, starts, strict=False)]
    return UndrawnImages(
        pixels,
        torch.tensor(rows, dtype=torch.float64),
        _groups(plans, starts),
        augmentation.image_size,
        antialias=augmentation.antialias,
        recolour=augmentation.photometric > 0,
        transpose=any(plan.transpose for plan in plans),
    )


def _row(plan: Plan, first_pixel: int, border: tuple[int, int, int]) -> list[float]:
    """The values of `_COLUMNS` for an image."""
    x1, y1, x2, y2 = plan.part
    colours = plan.colours
    return [
        first_pixel, y2 - y1, x2 - x1, *plan.offset, *plan.crop_size, plan.interpolation,
        colours.brightness, colours.contrast, colours.saturation, colours.hue, colours.contrast_last, colours.in_hsv,
        plan.flip, plan.flip_vertical, plan.transpose, *border,
    ]  # fmt: skip


def _groups(plans: Sequence[Plan], starts: Sequence[int]) -> list[Group]:
    groups = list[Group]()
    for index, plan in enumerate(plans):
        x1, y1, x2, y2 = plan.part
        part = tuple(max(1, math.ceil(side / _MULTIPLE)) * _MULTIPLE for side in (y2 - y1, x2 - x1))
        new = Group((index, index + 1), (starts[index], starts[index + 1]), (part[0], part[1]), plan.crop_size)
        if groups:
            last = groups[-1]
            part_size, crop_size = (
                (max(a[0], b[0]), max(a[1], b[1]))
                for a, b in ((last.part_size, new.part_size), (last.crop_size, new.crop_size))
            )
            images, pixels = (last.images[0], index + 1), (last.pixels[0], starts[index + 1])
            if 3 * (images[1] - images[0]) * part_size[0] * part_size[1] <= _MOST_VALUES:
                groups[-1] = Group(images, pixels, part_size, crop_size)
                continue
        groups.append(new)
    return groups


def draw_images(undrawn: UndrawnImages) -> Tensor:
    """uint8 RGB (N, 3, *image_size), on the device that the tensors are on."""
    device = undrawn.pixels.device
    result = torch.empty((len(undrawn.plans), 3, *undrawn.image_size), dtype=torch.uint8, device=device)
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        for group in undrawn.groups:
            result[slice(*group.images)] = _draw_group(undrawn, group)
    return result


def _draw_group(undrawn: UndrawnImages, group: Group) -> Tensor:
    plans = undrawn.plans[slice(*group.images)]
    columns = dict(zip(_COLUMNS, plans[:, :, None, None, None].unbind(1), strict=True))  # (n, 1, 1, 1) each
    first, end = group.pixels
    pixels = undrawn.pixels[first : end + 1].t().to(torch.float32, memory_format=torch.contiguous_format)  # (3, P)
    starts = columns["first_pixel"].view(-1) - first
    if undrawn.recolour:
        pixels = _recolour(pixels, starts, columns)
    parts = _pad(pixels, starts, columns, group.part_size)
    # Only differences to the border are resampled: it is 0 then, and so needs no pixels.
    border = torch.stack([columns[name].view(-1, 1, 1) for name in ("red", "green", "blue")], dim=2).float()
    parts.sub_(border)
    height, width = undrawn.image_size
    across, down = _weights(columns, undrawn, group)

    # Pillow warps the rows first, and rounds.
    warped = torch.bmm(parts.flatten(1, 2), across.transpose(1, 2)).view(len(plans), -1, 3, width)
    if undrawn.antialias:
        warped = warped.add_(0.5).floor_().clamp_(-border, 255 - border)
    warped = torch.bmm(down, warped.flatten(2)).view(len(plans), height, 3, width).add_(border)
    warped = warped.add_(0.5).floor_() if undrawn.antialias else warped.round_()
    drawn = warped.clamp_(0, 255).to(torch.uint8).transpose(1, 2)
    if undrawn.transpose:
        drawn = torch.where(columns["transpose"] > 0, drawn.transpose(2, 3), drawn)
    return drawn


def _weights(columns: dict[str, Tensor], undrawn: UndrawnImages, group: Group) -> tuple[Tensor, Tensor]:
    """The shares of the parts' columns and rows in those of the results: (n, width, W), (n, height, H)."""
    height, width = undrawn.image_size
    grows = (columns["crop_height"] < height) | (columns["crop_width"] < width)
    matrices = []
    for axis, wanted, start, flip in ((1, width, "x", "flip"), (0, height, "y", "flip_vertical")):
        side = ("height", "width")[axis]
        sides = Sides(
            columns[f"crop_{side}"][..., 0],
            group.crop_size[axis],
            columns[start][..., 0],
            (columns[start] + columns[f"part_{side}"])[..., 0],
            columns["interpolation"][..., 0],
            columns[flip][..., 0] > 0,
            grows[..., 0],
        )
        size = group.part_size[axis]
        matrices.append(resampling_weights(sides, wanted, width=size, antialias=undrawn.antialias))
    return matrices[0], matrices[1]


def _pad(pixels: Tensor, starts: Tensor, columns: dict[str, Tensor], size: tuple[int, int]) -> Tensor:
    """(3, P) → (n, H, 3, W): each part in an array of (H, W) `size`, in which all beyond the part is arbitrary."""
    channels, num_pixels = pixels.shape
    y, x = (torch.arange(side, dtype=torch.int32, device=pixels.device) for side in size)
    index = starts.int()[:, None, None] + y[:, None] * columns["part_width"].int()[..., 0] + x  # (n, H, W)
    plane = torch.arange(channels, dtype=torch.int32, device=pixels.device)[:, None] * num_pixels
    index = index.clamp_(max=num_pixels - 1)[:, :, None, :] + plane
    return pixels.view(-1).index_select(0, index.view(-1)).view(index.shape)


def _recolour(pixels: Tensor, starts: Tensor, columns: dict[str, Tensor]) -> Tensor:
    """(3, P) pixels of 0…255 with other colours, as Pillow computes them."""
    position = torch.arange(pixels.shape[1], dtype=torch.int32, device=pixels.device)
    image = torch.searchsorted(starts.int(), position, right=True, out_int32=True) - 1

    def of_pixels(values: Tensor) -> Tensor:
        return values.reshape(-1).float().index_select(0, image)

    contrast, contrast_last = columns["contrast"], columns["contrast_last"] > 0
    pixels = (pixels + of_pixels(columns["brightness"])).round_().clamp_(0, 255)
    pixels = pixels.mul_(of_pixels(torch.where(contrast_last, 1.0, contrast))).round_().clamp_(0, 255)
    hue, saturation, value = _to_hsv(pixels)
    hue = (hue + of_pixels(columns["hue"])).round_().remainder_(256)
    saturation = saturation.mul_(of_pixels(columns["saturation"])).round_().clamp_(0, 255)
    in_hsv = of_pixels(columns["in_hsv"]) > 0
    pixels = torch.where(in_hsv, _to_rgb(hue, saturation, value), pixels)
    return pixels.mul_(of_pixels(torch.where(contrast_last, contrast, 1.0))).round_().clamp_(0, 255)


def _to_hsv(pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue, saturation and value of 0…255 each, rounded as Pillow's `rgb2hsv`: (3, P) → (P,) each."""
    red, green, blue = pixels
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    away = (value - pixels) / chroma.clamp(min=1)
    by_red, by_green = red == value, green == value
    towards = torch.where(by_red, away[2], torch.where(by_green, away[0], away[1]))
    back = torch.where(by_red, away[1], torch.where(by_green, away[2], away[0]))
    base = torch.where(by_red, 0.0, torch.where(by_green, 2.0, 4.0))
    # Pillow's doubles, because a step of hue or saturation hangs on the last bit.
    hue = (base.double() + towards - back).float()
    hue = ((hue.double() / 6 + 1) % 1.0).float()
    saturation = chroma / value.clamp(min=1)
    hue, saturation = ((part.double() * 255).floor().float() for part in (hue, saturation))
    return hue, saturation, value


def _to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """(P,) of 0…255 each → (3, P), rounded as Pillow's `hsv2rgb`."""
    turn = (hue * 6 / 255 + torch.arange(5, 0, -2, dtype=hue.dtype, device=hue.device)[:, None]) % 6  # 5, 3, 1
    share = torch.minimum(turn, 4 - turn).clamp_(0, 1)
    return (value * (1 - saturation / 255 * share) + 0.5).floor_()
