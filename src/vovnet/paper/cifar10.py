"""CIFAR-10 in memory, and batches of it as the study of connections trains on."""

from __future__ import annotations

import logging
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_LOG = logging.getLogger("vovnet")

SIDE = 32
PAD = 4
MEAN = (125.3, 123.0, 113.9)  # of the training images, as in DenseNet's code
STD = (63.0, 62.1, 66.7)
ORIGINAL, JPEG = "original", "JPEG copies"
SIZES = {"train": 50_000, "test": 10_000}


class Cifar10(NamedTuple):
    """images: uint8 RGB (N, 3, 32, 32); labels: int64 (N,), 0…9; form: whether they are the original pixels."""

    images: Tensor
    labels: Tensor
    form: str = ORIGINAL


def read_cifar10(root: str | Path, split: Literal["train", "test"], *, download: bool = False) -> Cifar10:
    """The whole split. root: the folder of torchvision's `CIFAR10`, which `download` fetches into it, or one of npz
    files train_*.npz and test.npz with the images as JPEG: data (all bytes), offsets (N + 1), labels (N).

    Raises FileNotFoundError or ValueError that says what is expected there.
    """
    root = Path(root)
    archives = sorted(root.glob(f"{split}*.npz"))
    if archives:
        parts = [_read_npz(path) for path in archives]
        images, labels = (torch.cat(column) for column in zip(*parts, strict=True))
        found = Cifar10(images, labels, JPEG)
        if len(found.labels) != SIZES[split]:
            _LOG.warning("%s: %d images where CIFAR-10 has %d", archives[0].parent, len(found.labels), SIZES[split])
        return found
    from torchvision.datasets import CIFAR10

    try:
        dataset = CIFAR10(str(root), train=split == "train", download=download)  # checks the files' sums
    except RuntimeError:
        raise FileNotFoundError(
            f"{root} holds no whole CIFAR-10 (cifar-10-batches-py or {split}*.npz); set download=true to fetch it"
        ) from None
    images = torch.from_numpy(np.ascontiguousarray(dataset.data)).permute(0, 3, 1, 2).contiguous()
    return Cifar10(images, torch.tensor(dataset.targets))


def _read_npz(path: Path) -> tuple[Tensor, Tensor]:
    from torchvision.io import ImageReadMode, decode_jpeg

    try:
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            data, offsets, labels = (np.asarray(file[name]) for name in ("data", "offsets", "labels"))
    except (OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged or lacks data, offsets or labels ({error})") from None
    ends = offsets.astype(np.int64)
    whole = data.dtype == np.uint8 and data.ndim == ends.ndim == labels.ndim == 1 and len(ends) == len(labels) + 1
    if (
        not whole
        or not np.issubdtype(labels.dtype, np.integer)
        or (np.diff(ends) <= 0).any()
        or ends[0] < 0
        or ends[-1] > len(data)
    ):
        raise ValueError(f"{path} must hold uint8 data, offsets that rise within it, and whole labels, one less")
    if ((labels < 0) | (labels > 9)).any():
        raise ValueError(f"{path} must have labels 0…9, got {labels.min()}…{labels.max()}")
    files = [torch.from_numpy(data[start:end]) for start, end in pairwise(ends)]
    try:
        images = decode_jpeg(files, mode=ImageReadMode.RGB)
    except RuntimeError as error:
        raise ValueError(f"{path} holds an image that is no JPEG ({error})") from None
    wrong = next((tuple(image.shape) for image in images if image.shape != (3, SIDE, SIDE)), None)
    if wrong:
        raise ValueError(f"{path} must hold images of 32×32 pixels, got {wrong[2]}×{wrong[1]}")
    return torch.stack(images), torch.from_numpy(labels.astype(np.int64))


def normalize(images: Tensor) -> Tensor:
    """uint8 (N, 3, 32, 32) → float, each channel less its mean over its standard deviation, `channels_last`."""
    mean, std = (torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return ((images.float() - mean) / std).contiguous(memory_format=torch.channels_last)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Normalised images, each padded by 4 zeros a side, cropped to its size anywhere, and mirrored or not.

    generator: on the CPU, whatever the images' device.
    """
    n = len(images)
    shift = torch.randint(0, 2 * PAD + 1, (2, n, 1), generator=generator).to(images.device)
    mirrored = (torch.rand(n, 1, generator=generator) < 0.5).to(images.device)
    along = torch.arange(SIDE, device=images.device).expand(n, -1)
    rows = shift[0] + along
    columns = shift[1] + torch.where(mirrored, SIDE - 1 - along, along)
    padded = F.pad(images, (PAD, PAD, PAD, PAD)).permute(0, 2, 3, 1)
    index = torch.arange(n, device=images.device).view(n, 1, 1)
    return padded[index, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)  # (N, 3, 32, 32), channels_last
