"""CIFAR-10 in memory, and the normalisation and augmentation that the aggregation study uses."""

from __future__ import annotations

import logging
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vovnet.printing import line
from vovnet.weights.archive import read_npz

_LOG = logging.getLogger("vovnet")

SIDE = 32
PAD = 4
MEAN = (125.3, 123.0, 113.9)  # of the training images, as in DenseNet's code
STD = (63.0, 62.1, 66.7)
ORIGINAL, JPEG = "original", "JPEG copies"
SIZES = {"train": 50_000, "test": 10_000}


class Cifar10(NamedTuple):
    """A split.

    images: uint8 RGB (N, 3, 32, 32).
    labels: int64 (N,), 0…9.
    form: ORIGINAL or JPEG, whose pixels are not exactly the original ones.
    """

    images: Tensor
    labels: Tensor
    form: str = ORIGINAL

    def first(self, count: int | None) -> Cifar10:
        """The first `count` images; None is all."""
        return Cifar10(self.images[:count], self.labels[:count], self.form)


def read_cifar10(root: str | Path, split: Literal["train", "test"], *, download: bool = False) -> Cifar10:
    """A split of CIFAR-10. Raises FileNotFoundError or ValueError that says what the folder must hold.

    root: the folder of torchvision's `CIFAR10`, or a folder with train_*.npz and test.npz of JPEG images, each with
    the arrays data (the bytes of all files), offsets (N + 1) and labels (N).
    download: let torchvision fetch CIFAR-10 into `root`.
    """
    root = Path(root)
    archives = sorted(root.glob(f"{split}*.npz"))
    if archives:
        parts = [_read_npz(path) for path in archives]
        images, labels = (torch.cat(column) for column in zip(*parts, strict=True))
        if len(labels) != SIZES[split]:
            _LOG.warning("%s: %s has %d images, but CIFAR-10 has %d", root, split, len(labels), SIZES[split])
        return Cifar10(images, labels, JPEG)
    from torchvision.datasets import CIFAR10

    try:
        dataset = CIFAR10(str(root), train=split == "train", download=download)  # verifies checksums
    except RuntimeError:
        raise FileNotFoundError(
            f"{root} holds no complete CIFAR-10 (cifar-10-batches-py or {split}*.npz); set download=true to fetch it"
        ) from None
    images = torch.from_numpy(np.ascontiguousarray(dataset.data)).permute(0, 3, 1, 2).contiguous()
    return Cifar10(images, torch.tensor(dataset.targets))


def _read_npz(path: Path) -> tuple[Tensor, Tensor]:
    from torchvision.io import ImageReadMode, decode_jpeg

    try:
        data, offsets, labels = read_npz(path, ("data", "offsets", "labels")).values()
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged or lacks data, offsets or labels ({line(str(error), 200)})") from None
    right_types = data.dtype == np.uint8 and all(np.issubdtype(array.dtype, np.integer) for array in (offsets, labels))
    ends = offsets.astype(np.int64)
    right_sizes = data.ndim == ends.ndim == labels.ndim == 1 and len(ends) == len(labels) + 1 > 1
    if not right_types or not right_sizes or (np.diff(ends) <= 0).any() or ends[0] < 0 or ends[-1] > len(data):
        raise ValueError(
            f"{path} must hold uint8 data, increasing offsets within it, and integer labels, one fewer than offsets"
        )
    if ((labels < 0) | (labels > 9)).any():
        raise ValueError(f"{path} must have labels 0…9, got {labels.min()}…{labels.max()}")
    files = [torch.from_numpy(data[start:end]) for start, end in pairwise(ends)]
    for start, end in pairwise(ends):
        _check_side(data[start:end], path)
    try:
        images = decode_jpeg(files, mode=ImageReadMode.RGB)
    except RuntimeError as error:
        raise ValueError(f"{path} holds an image that is not a JPEG ({line(str(error))})") from None
    return torch.stack(images), torch.from_numpy(labels.astype(np.int64))


def _check_side(content: NDArray[np.uint8], path: Path) -> None:
    """ValueError unless the image states the right size: a few bytes decode to gigabytes if they state so."""
    try:
        with Image.open(BytesIO(content.tobytes()), formats=["JPEG"]) as image:
            width, height = image.size
    except Exception as error:  # of a damaged image Pillow raises many types
        raise ValueError(f"{path} holds an image that is not a JPEG ({line(str(error))})") from None
    if (width, height) != (SIDE, SIDE):
        raise ValueError(f"{path} must hold images of 32×32 pixels, got {width}×{height}")


def normalize(images: Tensor) -> Tensor:
    """uint8 (N, 3, 32, 32) → float, with mean 0 and standard deviation 1 in each channel, `channels_last`."""
    mean, std = (torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return ((images.float() - mean) / std).contiguous(memory_format=torch.channels_last)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image padded with 4 zeros on all sides, cropped at random to its size, and mirrored with probability 0.5.

    images: normalised.
    generator: on the CPU, whatever the images' device, so that all devices draw the same numbers.
    """
    n = len(images)
    offset = torch.randint(0, 2 * PAD + 1, (2, n, 1), generator=generator).to(images.device)
    mirrored = (torch.rand(n, 1, generator=generator) < 0.5).to(images.device)
    positions = torch.arange(SIDE, device=images.device).expand(n, -1)
    rows = offset[0] + positions
    columns = offset[1] + torch.where(mirrored, SIDE - 1 - positions, positions)
    padded = F.pad(images, (PAD, PAD, PAD, PAD)).permute(0, 2, 3, 1)
    index = torch.arange(n, device=images.device).view(n, 1, 1)
    return padded[index, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)  # (N, 3, 32, 32), channels_last
