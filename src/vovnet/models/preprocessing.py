"""From an RGB image of any size to what a network was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F


@dataclass(frozen=True)
class Preprocessing:
    """Resize, reorder the channels, subtract `mean`, divide by `std`.

    image_size: (height, width) of the network's input.
    mean, std: per channel, in the network's channel order, on the 0–255 scale.
    keep_ratio: the shorter side becomes image_size[0], or less where the longer one would exceed image_size[1];
        without it the image is warped to `image_size`.
    """

    image_size: tuple[int, int]
    mean: tuple[float, float, float] = (104.0, 117.0, 123.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channel_order: Literal["BGR", "RGB"] = "BGR"
    keep_ratio: bool = False

    @property
    def mean_rgb(self) -> tuple[float, float, float]:
        """`mean` in the order of an image's channels."""
        first, second, third = self.mean
        return (third, second, first) if self.channel_order == "BGR" else self.mean

    def input_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of an image → (height, width) at which the network sees it."""
        if not self.keep_ratio:
            return self.image_size
        short, long = self.image_size
        scale = min(short / min(image_size), long / max(image_size))
        height, width = (max(1, round(side * scale)) for side in image_size)
        return height, width

    def resize(self, image: Tensor) -> Tensor:
        """uint8 RGB (3, H, W) → uint8 RGB (3, *input_size), bilinear with antialiasing."""
        size = self.input_size((image.shape[-2], image.shape[-1]))
        if tuple(image.shape[-2:]) == size:
            return image
        return F.resize(image, list(size), interpolation=F.InterpolationMode.BILINEAR, antialias=True)

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 RGB (N, 3, H, W) → float32 (N, 3, H, W) in channels_last, ready for the network."""
        if self.channel_order == "BGR":
            images = images.flip(1)
        images = images.to(memory_format=torch.channels_last, dtype=torch.float32)
        mean = torch.tensor(self.mean, device=images.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, 3, 1, 1)
        return images.sub_(mean).div_(std)

    def __call__(self, images: Sequence[Tensor]) -> Tensor:
        """RGB uint8 images → one batch for the network; with `keep_ratio` all must come to the same size."""
        return self.normalize(torch.stack([self.resize(image) for image in images]))
