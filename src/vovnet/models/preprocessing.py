"""From an RGB image of any size to the input that a network was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional as F

from vovnet.constants import constant
from vovnet.errors import UsageError, choose
from vovnet.limits import check_limit
from vovnet.printing import quoted
from vovnet.sizes import fit_size

_LARGE = 2**25  # pixels of an image of which one channel at a time becomes floats


class Resizing(Protocol):
    """How images of any size become inputs of a network, before normalisation. See `Preprocessing`."""

    @property
    def image_size(self) -> tuple[int, int]: ...
    @property
    def keep_ratio(self) -> bool: ...
    @property
    def least_pixels(self) -> int: ...
    def input_size(self, image_size: tuple[int, int]) -> tuple[int, int]: ...
    def resize(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor: ...


@dataclass(frozen=True)
class Preprocessing:
    """Resize an image, reorder its channels, subtract `mean` and divide by `std`.

    image_size: (height, width) of the network's input; with `keep_ratio`, (shorter side, limit of the longer side).
    mean, std: per channel, in the network's channel order, on the 0–255 scale.
    keep_ratio: keep the aspect ratio, see `vovnet.sizes.fit_size`, instead of warping the image to `image_size`.
    antialias: average over all pixels when an image shrinks. False is OpenCV's INTER_LINEAR, with which the Caffe
        codes resize: it takes at most four pixels.
    """

    image_size: tuple[int, int]
    mean: tuple[float, float, float] = (104.0, 117.0, 123.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channel_order: Literal["BGR", "RGB"] = "BGR"
    keep_ratio: bool = False
    antialias: bool = True

    def __post_init__(self) -> None:
        """Every detector has one of these, so this bounds the input of all, wherever its size was stated."""
        if not _two_sides(self.image_size):
            raise UsageError(f"image_size must be two whole numbers of at least 1, got {quoted(self.image_size)}")
        height, width = self.image_size
        check_limit("network_pixels", height * width, f"a network's input of {height} × {width}", "lower image_size")

    @property
    def mean_rgb(self) -> tuple[float, float, float]:
        """`mean` in RGB order."""
        first, second, third = self.mean
        return (third, second, first) if self.channel_order == "BGR" else self.mean

    @property
    def least_pixels(self) -> int:
        """Height × width of the network's input for an image that is not much longer than wide."""
        height, width = self.image_size
        return min(height, width) ** 2 if self.keep_ratio else height * width

    def input_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the network's input for an image of (height, width)."""
        return fit_size(image_size, *self.image_size) if self.keep_ratio else self.image_size

    def resize(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """uint8 RGB (3, H, W) → uint8 RGB (3, height, width), bilinear.

        size: (height, width) of the result; None is `input_size` of the image.
        """
        size = size or self.input_size((image.shape[-2], image.shape[-1]))
        if tuple(image.shape[-2:]) == size:
            return image
        if self.antialias:
            return F.resize(image, list(size), interpolation=F.InterpolationMode.BILINEAR, antialias=True)
        # For 8-bit images torch would round after each axis, OpenCV rounds once.
        planes = image.split(1 if image[0].numel() > _LARGE else len(image))
        resized = [interpolate(part[None].float(), size, mode="bilinear", antialias=False)[0] for part in planes]
        return torch.cat(resized).round().to(image.dtype)

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 RGB (N, 3, H, W) → the network's input, float32 (N, 3, H, W) in channels_last."""
        if self.channel_order == "BGR":
            images = images.flip(1)
        images = images.to(memory_format=torch.channels_last, dtype=torch.float32)
        mean, std = (constant(values, like=images).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return images.sub_(mean).div_(std)

    def __call__(self, images: Sequence[Tensor]) -> Tensor:
        """uint8 RGB images → one batch for the network; with `keep_ratio` all must get the same size."""
        return self.normalize(torch.stack([self.resize(image) for image in images]))


def with_pixels(preprocessing: Preprocessing, pixels: Mapping[str, Any] | None) -> Preprocessing:
    """The same with the values of a detector's option `pixels`: `mean`, `std`, `channel_order`, `antialias`.

    Raises UsageError for another key or a value of another kind. They may come from a stranger's file.
    """
    if not isinstance(pixels, Mapping | None):
        raise UsageError(f"pixels must be a section with some of the keys {', '.join(_PIXELS)}, got {quoted(pixels)}")
    values: dict[str, Any] = dict(pixels or {})
    for key, value in values.items():
        expected, right = choose(_PIXELS, key, "key of pixels")
        if not right(value):
            raise UsageError(f"pixels.{key} must be {expected}, got {quoted(value)}")
        if isinstance(value, list):
            values[key] = tuple(value)
    return replace(preprocessing, **values)


def _two_sides(value: Any) -> bool:
    sides = isinstance(value, tuple) and len(value) == 2
    return sides and all(type(side) is int and 1 <= side < 2**31 for side in value)


def _three_numbers(value: Any) -> bool:
    numbers = isinstance(value, list | tuple) and len(value) == 3
    return numbers and all(type(number) in (int, float) and abs(number) < 1e30 for number in value)


_PIXELS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "mean": ("three numbers", _three_numbers),
    "std": ("three positive numbers", lambda value: _three_numbers(value) and min(value) > 0),
    "channel_order": ("'BGR' or 'RGB'", lambda value: value in ("BGR", "RGB")),
    "antialias": ("true or false", lambda value: isinstance(value, bool)),
}
